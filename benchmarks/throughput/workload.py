"""What every loop trains on: a model's folder and rows of text, the same for all of them."""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VOCABULARY = 32_128
SHAPES: dict[str, dict[str, int]] = {
    "flan-t5-small": {"d_model": 512, "d_ff": 1024, "num_layers": 8, "num_heads": 6},
    "flan-t5-base": {"d_model": 768, "d_ff": 2048, "num_layers": 12, "num_heads": 12},
    "flan-t5-large": {"d_model": 1024, "d_ff": 2816, "num_layers": 24, "num_heads": 16},
}
"""FLAN-T5 (Chung et al., 2022): gated GELU, heads of 64, an lm_head of its own."""

LOGIT_STD = 3.0
"""Standard deviation of the random models' logits, about that of a trained model."""


@dataclass(frozen=True)
class Workload:
    """Where the model and the rows lie, and how they are trained on."""

    model: str
    data: str
    effective_batch: int
    steps: int
    learning_rate: float
    seed: int = 0

    def to_json(self) -> str:
        """The workload as a command-line argument."""
        return json.dumps(vars(self))


def make_rows(path: Path, count: int, seed: int) -> None:
    """Write rows whose lengths follow long-tailed questions and answers, one word a token.

    Lengths are log-normal: median 30 for the question and 150 for the answer, cut at 256 with the
    end token, like those of HC3. Words are drawn by Zipf's law, each answer from words of its
    own, so that there is something to learn.
    """
    draw = random.Random(seed)
    words = range(3, VOCABULARY)
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            question = _length(draw, median=25, spread=0.6)
            answer = _length(draw, median=149, spread=0.7)
            # A number of its own makes every question another one: the split is by question.
            asked = [f"n{digit}" for digit in str(number)]
            asked += [f"w{i}" for i in draw.choices(words, weights, k=question)]
            told = [f"w{i}" for i in draw.choices(words, weights, k=answer)]
            line = {"question": " ".join(asked), "answer": " ".join(told)}
            file.write(json.dumps(line) + "\n")


def make_model(folder: Path, shape: str, seed: int) -> None:
    """Write a T5 of a FLAN-T5 shape with random weights, and a tokenizer of one id a word."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2}
    vocabulary |= {f"n{i}": 3 + i for i in range(10)}
    vocabulary |= {f"w{i}": i + 10 for i in range(3, VOCABULARY - 10)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)

    torch.manual_seed(seed)
    sizes = SHAPES[shape]
    config = T5Config(
        vocab_size=VOCABULARY,
        d_kv=64,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=0,
        **sizes,
    )
    model = T5ForConditionalGeneration(config)
    # As FLAN-T5 stores it: an lm_head of its own, and hidden states that are not scaled before it.
    config.scale_decoder_outputs = False
    model.lm_head.weight = torch.nn.Parameter(torch.empty(VOCABULARY, sizes["d_model"]))
    torch.nn.init.normal_(model.lm_head.weight, std=LOGIT_STD / math.sqrt(sizes["d_model"]))
    model.save_pretrained(folder)


def load_rows(workload: Workload) -> tuple[Any, Any, Any]:
    """The training and validation rows, encoded as the project does, and the tokenizer."""
    from qa_lora.batching import encode
    from qa_lora.data import load_split
    from qa_lora.models import load_tokenizer
    from qa_lora.prompts import PromptTemplate

    config = train_config(workload)
    split = load_split(config)
    tokenizer = load_tokenizer(workload.model)
    train, validation = (
        encode(
            rows,
            tokenizer,
            PromptTemplate(config.prompt, config.context_prompt, config.history_prompt),
            max_source_tokens=config.max_source_tokens,
            max_target_tokens=config.max_target_tokens,
        )
        for rows in (split.train, split.validation[: config.validation_rows])
    )
    return train, validation, tokenizer


def train_config(workload: Workload, **settings: Any) -> Any:
    """The project's settings for the workload; LoRA, lengths and optimizer are the defaults."""
    from qa_lora.config import TrainConfig

    values: dict[str, Any] = {
        "model": workload.model,
        "data": workload.data,
        "batch_size": workload.effective_batch,
        "max_steps": workload.steps,
        "learning_rate": workload.learning_rate,
        "seed": workload.seed,
        "validation_rows": 64,
        "evaluate_every": 1_000_000,
        "checkpoint_every": 1_000_000,
        "probe_rows": 0,
        "score_rows": 0,
    }
    return TrainConfig.build(**{**values, **settings})


def _length(draw: random.Random, *, median: float, spread: float) -> int:
    return max(1, min(255, round(draw.lognormvariate(math.log(median), spread))))
