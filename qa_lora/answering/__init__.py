"""Answers of a base model and any number of adapters on it, from one model in memory."""

from qa_lora.answering.answerer import (
    BASE,
    TUNED,
    Answer,
    Answerer,
    Comparison,
    GenerationSettings,
    Together,
    generate_batch,
    load,
)

__all__ = [
    "BASE",
    "TUNED",
    "Answer",
    "Answerer",
    "Comparison",
    "GenerationSettings",
    "Together",
    "generate_batch",
    "load",
]
