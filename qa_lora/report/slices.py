"""The scores of parts of an evaluation: by source, by length of question or answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qa_lora.scoring.statistics import Difference, paired_bootstrap

if TYPE_CHECKING:
    from qa_lora.report.found import ExampleResult

__all__ = ["SLICES", "Slice", "slices"]

SLICES = ("source", "question length", "answer length")
"""By what an evaluation can be cut into parts."""

PARTS = 3


@dataclass(frozen=True)
class Slice:
    """How base and one system did on a part of the questions."""

    name: str
    count: int
    """Questions in it that have this score."""
    base: float
    """Mean score of the base."""
    score: float
    """Mean score of the system."""
    gain: Difference
    """System minus base, with its interval; a p-value of a part picked for being the best is too
    good, for there were others to pick from."""


def slices(
    examples: Sequence[ExampleResult], by: str, metric: str, system: str = "tuned"
) -> list[Slice]:
    """Cut the questions into parts and score each.

    Lengths are words between spaces: of the question, or of its references, their mean where there
    are several. Short, middle and long are thirds of the questions scored, cut between two lengths
    so that equally long ones stay together; where most are equally long there are fewer parts.

    Args:
        examples: The questions of an evaluation.
        by: One of :data:`SLICES`; the `source` of questions that have none is shown as "all".
        metric: A metric that the examples have.
        system: Whom to compare with the base.

    Returns:
        Sources in the order of their names, lengths from short to long. Questions without this
        metric are left out, and parts that have none but such.

    Raises:
        ValueError: If there is no such way to cut.
    """
    if by not in SLICES:
        raise ValueError(f"there are no slices by {by!r}; there are {', '.join(SLICES)}")
    rows = [row for row in examples if row.gain(metric, system) is not None]
    if by == "source":
        parts = [
            (name, [row for row in rows if (row.source or "all") == name])
            for name in sorted({row.source or "all" for row in rows})
        ]
    elif by == "question length":
        parts = _thirds(rows, lambda row: len(row.question.split()))
    else:
        parts = _thirds(
            rows,
            lambda row: sum(len(text.split()) for text in row.references) / len(row.references),
        )
    return [_slice(name, part, metric, system) for name, part in parts]


def _slice(name: str, rows: Sequence[ExampleResult], metric: str, system: str) -> Slice:
    base = [row.scores["base"][metric] for row in rows]
    other = [row.scores[system][metric] for row in rows]
    count = len(rows)
    return Slice(name, count, sum(base) / count, sum(other) / count, paired_bootstrap(base, other))


def _thirds(
    rows: Sequence[ExampleResult], length: Callable[[ExampleResult], float]
) -> list[tuple[str, list[ExampleResult]]]:
    ordered = sorted(length(row) for row in rows)
    limits = sorted(
        {ordered[len(ordered) * part // PARTS - 1] for part in range(1, PARTS)}
        | {ordered[-1]} if ordered else set()
    )  # fmt: skip
    parts: list[tuple[str, list[ExampleResult]]] = []
    above = float("-inf")
    for limit in limits:
        part = [row for row in rows if above < length(row) <= limit]
        low, high = min(map(length, part)), max(map(length, part))
        said = f"{low:g}" if low == high else f"{low:.3g} to {high:.3g}"
        parts.append((f"{said} word" + ("" if said == "1" else "s"), part))
        above = limit
    return parts
