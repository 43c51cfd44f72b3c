"""Answers and references to numbers, and how sure they are; knows no torch."""

from qa_lora.scoring.score import (
    METRICS,
    CorpusStats,
    ScoredAnswers,
    exact_match,
    rouge_su4,
    score,
    score_all,
    token_f1,
)

__all__ = [
    "METRICS",
    "CorpusStats",
    "ScoredAnswers",
    "exact_match",
    "rouge_su4",
    "score",
    "score_all",
    "token_f1",
]
