from __future__ import annotations

import pytest

from qa_lora.report import ExampleResult
from qa_lora.report.slices import slices


def row(
    question: str, *references: str, base: float = 0.0, other: float = 0.0, source: str = ""
) -> ExampleResult:
    scores = {"base": {"f1": base}, "tuned": {"f1": other}, "x": {"f1": 1.0}}
    return ExampleResult(
        "id", question, "", references, dict.fromkeys(scores, ""), scores, source=source
    )


def test_sources_by_name_each_with_its_own_means():
    rows = [
        row("q", "r", base=0.0, other=0.5, source="b"),
        row("q", "r", base=0.2, other=0.4, source="a"),
        row("q", "r", base=0.4, other=0.6, source="b"),
    ]
    first, second = slices(rows, "source", "f1")
    assert (first.name, first.count, first.base, first.score) == ("a", 1, 0.2, 0.4)
    assert (second.name, second.count) == ("b", 2)
    assert (second.base, second.score) == pytest.approx((0.2, 0.55))
    assert second.gain.mean == pytest.approx(0.35)
    assert second.gain.low <= 0.35 <= second.gain.high
    assert slices(rows, "source", "f1", "x")[0].score == 1.0
    assert [part.name for part in slices([row("q", "r")], "source", "f1")] == ["all"]


def test_lengths_are_cut_into_thirds_between_different_lengths():
    rows = [row("w " * n, "r") for n in (1, 1, 1, 1, 5, 6, 7, 8, 9)]
    found = [(part.name, part.count) for part in slices(rows, "question length", "f1")]
    # A third is three rows, but the four of one word stay together.
    assert found == [("1 word", 4), ("5 to 6 words", 2), ("7 to 9 words", 3)]
    assert [part.count for part in slices(rows[:2], "question length", "f1")] == [2]


def test_answers_are_as_long_as_their_references_on_average():
    rows = [row("q", "a", "a b"), row("q", "a b"), row("q", "a b c d")]
    names = [part.name for part in slices(rows, "answer length", "f1")]
    assert names == ["1.5 words", "2 words", "4 words"]


def test_rows_without_the_metric_are_left_out():
    rows = [row("q", "r", source="a")]
    assert slices(rows, "source", "fact_accuracy") == []
    assert slices(rows, "question length", "fact_accuracy") == []
    with pytest.raises(ValueError, match="question length"):
        slices(rows, "colour", "f1")
