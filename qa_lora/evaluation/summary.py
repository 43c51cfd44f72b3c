"""Scored rows to the numbers of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from qa_lora.report import BASE, FACT_ACCURACY, SHARES, ExampleResult
from qa_lora.scoring import METRICS
from qa_lora.scoring.statistics import holm, paired_bootstraps
from qa_lora.scoring.traits import reference_words

__all__ = ["compare", "length_ratios", "mean_scores", "shares"]


def mean_scores(examples: Sequence[ExampleResult]) -> dict[str, dict[str, float]]:
    """By system, the mean of each metric; that of facts over the questions that name some."""
    means: dict[str, dict[str, float]] = {}
    for system in examples[0].answers:
        columns = {name: _column(examples, system, name) for name in (*METRICS, FACT_ACCURACY)}
        means[system] = {
            name: sum(values) / len(values) for name, values in columns.items() if values
        }
    return means


def compare(examples: Sequence[ExampleResult], seed: int) -> dict[str, dict[str, dict[str, Any]]]:
    """By system but the base, for each metric its difference from the base, and how sure it is.

    Args:
        examples: At least one.
        seed: Of the bootstrap's draws.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for system in list(examples[0].answers)[1:]:
        found[system] = {}
        for names in (METRICS, (FACT_ACCURACY,)):
            sides = [
                {name: _column(examples, who, name) for name in names} for who in (BASE, system)
            ]
            if all(sides[0].values()):
                pairs = paired_bootstraps(*sides, seed=seed)
                found[system] |= {name: asdict(pair) for name, pair in pairs.items()}
    every = {
        f"{system}/{name}": gain["p_value"]
        for system, gains in found.items()
        for name, gain in gains.items()
    }
    adjusted = holm(every)
    for system, gains in found.items():
        for name, gain in gains.items():
            gain["p_adjusted"] = adjusted[f"{system}/{name}"]
    return found


def shares(examples: Sequence[ExampleResult]) -> dict[str, dict[str, float]]:
    """By system, the share of answers with each trait that an answer has or has not."""
    return {
        system: {
            name: sum(row.traits[system][name] for row in examples) / len(examples)
            for name in SHARES
        }
        for system in examples[0].answers
    }


def length_ratios(examples: Sequence[ExampleResult]) -> dict[str, float]:
    """By system, words of all answers over words of the references nearest to them in length."""
    found: dict[str, float] = {}
    for system in examples[0].answers:
        words = [len(row.answers[system].split()) for row in examples]
        wanted = [reference_words(row.answers[system], row.references) for row in examples]
        found[system] = sum(words) / sum(wanted)
    return found


def _column(examples: Sequence[ExampleResult], system: str, metric: str) -> list[float]:
    return [row.scores[system][metric] for row in examples if metric in row.scores[system]]
