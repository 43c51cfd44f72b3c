"""What the tests share: a tiny T5 in the real folder format, and rows to train it on."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.loopback_hub import Hub, running_hub
from tests.tiny_t5 import t5_config

# Read when huggingface_hub and torch are imported; processes that tests start inherit them.
os.environ["HF_HUB_OFFLINE"] = "1"
# The models of tests are so small that a second thread costs more than it gives.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests come first: at the end no worker has one left while others are idle."""
    marks = ("slow", "browser")
    long = {item.path for item in items if any(map(item.get_closest_marker, marks))}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer T5 with random weights and a byte-level tokenizer, as `save_pretrained` writes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast, T5ForConditionalGeneration

    folder = tmp_path_factory.mktemp("tiny-t5")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["What colour is the sky? The sky is blue."], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = t5_config(len(fast))
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture
def qa_csv(tmp_path: Path) -> Path:
    """Forty questions with answers of uneven length."""
    path = tmp_path / "colours.csv"
    colours = ["red", "blue", "green", "very dark yellow"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "answer"])
        for i in range(40):
            colour = colours[i % 4]
            writer.writerow([f"What colour is thing {i}?", " ".join([colour] * (1 + i % 5))])
    return path


@pytest.fixture(autouse=True)
def _own_runs_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test writes into the checkout."""
    monkeypatch.setenv("QA_LORA_RUNS_DIR", str(tmp_path / "runs"))


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A Hub on this machine with nothing in it; processes reach it by `hub.environment(home)`."""
    with running_hub() as hub:
        yield hub
