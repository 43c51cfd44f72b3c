"""The scores as an `evaluate.Metric`, for code that speaks that interface; needs no network.

`evaluate.load("rouge")` fetches its script from the Hub. This is the same interface over
:mod:`qa_lora.scoring`, with exact match, token F1 and ROUGE-SU4 besides:

    metric = QARouge()
    metric.add_batch(predictions=["It is Lima."], references=[["Lima.", "It is Lima!"]])
    metric.compute()
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import evaluate
from datasets import Features, List, Value

from qa_lora.scoring import METRICS, score_all

__all__ = ["QARouge"]

DESCRIPTION = (
    "ROUGE with stemming, ROUGE-SU4, SQuAD's exact match and token F1, BLEU and chrF of answers."
)
CITATION = """@inproceedings{lin-2004-rouge,
    title = "{ROUGE}: A Package for Automatic Evaluation of Summaries",
    author = "Lin, Chin-Yew",
    booktitle = "Text Summarization Branches Out",
    year = "2004",
    url = "https://aclanthology.org/W04-1013"
}"""
INPUTS = """Args:
    predictions: The answers given, a string each.
    references: The right answers, a string or a list of strings each; of a list the best counts.
Returns:
    The mean over all answers of rouge1, rouge2, rougeL, rougeLsum, rougeSU4, exact_match, f1, bleu
    and chrf, each between 0 and 1."""


class QARouge(evaluate.Metric):
    """Means of :func:`qa_lora.scoring.score_all` over predictions."""

    def _info(self) -> evaluate.MetricInfo:
        text = Value("string")
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=[
                Features({"predictions": text, "references": List(text)}),
                Features({"predictions": text, "references": text}),
            ],
        )

    def _compute(
        self, predictions: Sequence[str], references: Sequence[str | Sequence[str]], **_: Any
    ) -> dict[str, float]:
        lists = [[wanted] if isinstance(wanted, str) else wanted for wanted in references]
        scores = score_all(predictions, lists).rows
        return {name: sum(row[name] for row in scores) / len(scores) for name in METRICS}
