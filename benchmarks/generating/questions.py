"""What every way answers: a model with an adapter, and held-out questions, in a folder.

    python -m generating.questions FOLDER SHAPE ROWS OPTIONS_JSON

makes them, and prints where they are. In a process of its own, for one that starts others passes
its peak of memory on to them.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from throughput.workload import make_model, make_rows

TOKENS_PER_END = 50
"""Of a model with random weights, one id in so many ends an answer.

Such a model says its end token hardly ever, and goes round in circles after some 50 different
tokens. With these ends three answers in four end by themselves, after few tokens or many.
"""

POCKET_STEPS = 60
"""Optimizer steps of pocket's adapter: enough for full sentences."""


@dataclass(frozen=True)
class Asked:
    """Where the model lies, what is asked, and how long an answer may be."""

    base: str
    adapter: str
    questions: str
    """A JSON file with a list of strings."""
    max_new_tokens: int
    device: str
    precision: str

    def to_json(self) -> str:
        """As a command-line argument."""
        return json.dumps(asdict(self))


def prepare(folder: Path, shape: str, rows: int, options: dict[str, Any]) -> Asked:
    """Make a model with an adapter, and questions that it was not trained on.

    Args:
        folder: Where they go.
        shape: Of the model, or "pocket".
        rows: How many questions.
        options: The other fields of `Asked`.
    """
    if shape == "pocket":
        base, adapter, questions = _pocket(folder)
        # Held-out rows of atlas are fewer: they are asked again, with another mark at the end.
        marks = ("", " ?", "!", " ...", " (in short)")
        questions = [question + mark for mark in marks for question in questions][:rows]
    else:
        base, adapter, questions = _random(folder, shape, rows)
    (folder / "questions.json").write_text(json.dumps(questions), encoding="utf-8")
    return Asked(base, adapter, str(folder / "questions.json"), **options)


def _pocket(folder: Path) -> tuple[str, str, list[str]]:
    from qa_lora.config import TrainConfig
    from qa_lora.data import load_split
    from qa_lora.training import train

    config = TrainConfig.build(
        model="pocket",
        data="atlas",
        max_steps=POCKET_STEPS,
        evaluate_every=1_000_000,
        checkpoint_every=1_000_000,
        probe_rows=0,
        score_rows=0,
    )
    for _ in train(config, folder / "run"):
        pass
    questions = [example.question for example in load_split(config).test]
    return "pocket", str(folder / "run/adapter"), questions


def _random(folder: Path, shape: str, rows: int) -> tuple[str, str, list[str]]:
    """A FLAN-T5 shape with random weights; its adapter's are, too, so that it changes answers."""
    import torch

    from qa_lora.adapters import attach_lora, save_adapter
    from qa_lora.models import load_base
    from qa_lora.prompts import PromptTemplate

    base = folder / "base"
    make_model(base, shape, seed=0)
    make_rows(folder / "rows.jsonl", rows, seed=1)
    loaded = load_base(str(base), precision="fp32")
    vocabulary = loaded.model.config.vocab_size
    ends = [1, *range(TOKENS_PER_END, vocabulary, TOKENS_PER_END)]
    loaded.model.generation_config.eos_token_id = ends
    loaded.model.generation_config.save_pretrained(base)
    model = attach_lora(loaded.model, r=8, alpha=32, dropout=0.1, target_modules="q,v")
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if ".lora_B." in name:
                torch.nn.init.normal_(weights, std=0.01)
    save_adapter(
        model,
        folder / "adapter",
        tokenizer=loaded.tokenizer,
        template=PromptTemplate(),
        card="# Random weights",
        weights={name: p for name, p in model.named_parameters() if p.requires_grad},
    )
    lines = (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    return str(base), str(folder / "adapter"), [json.loads(line)["question"] for line in lines]


if __name__ == "__main__":
    where, wanted, count, rest = sys.argv[1:]
    print(prepare(Path(where), wanted, int(count), json.loads(rest)).to_json())
