"""A tiny model of FLAN-T5's shape: untied head, spare rows, and a tokenizer that loses newlines."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5ForConditionalGeneration

from tests.tiny_t5 import t5_config

EXTRA = [f"<extra_id_{i}>" for i in range(4)]
SPARE_ROWS = 12

TEXT = [
    "Answer this question: What is the list of the first things? Context: one, two.",
    "First buy red apples. Second peel them. Third cook the sauce. Last, serve with sugar!",
    "How do I make tea? Boil water: pour it over leaves; wait; drink. (1) - / s > 2 3 4",
    "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 é ü",
]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Unigram, NFKC, words split at any white space and marked by a bar: as T5's tokenizer is."""
    special = ["<pad>", "</s>", "<unk>", *EXTRA]
    backend = Tokenizer(models.Unigram([*((token, 0.0) for token in special), *_pieces()], 2))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens=EXTRA,
    )


def _pieces() -> list[tuple[str, float]]:
    """Every character, the bar, and the words; by hand, for a trained one differs each time."""
    words = sorted({word for line in TEXT for word in re.findall(r"\w{1,12}|[^\w\s]", line)})
    characters = sorted({character for line in TEXT for character in line if character != " "})
    return [
        ("▁", -6.0),
        *((character, -8.0) for character in characters),
        *((f"▁{word}", -4.0) for word in words),
    ]


def make_model(folder: Path, *, tied: bool = False, spare: int = SPARE_ROWS) -> Path:
    """Save a two-layer model with its tokenizer, as the Hub holds FLAN-T5."""
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = t5_config(len(tokenizer) + spare)
    model = T5ForConditionalGeneration(config)
    if not tied:
        config.scale_decoder_outputs = False
        model.lm_head.weight = torch.nn.Parameter(torch.randn(config.vocab_size, 32) * 0.2)
    model.save_pretrained(folder)
    return folder
