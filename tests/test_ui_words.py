"""Text of people and models is escaped wherever the page shows it."""

from __future__ import annotations

import csv
import io
import json
import re
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qa_lora.report import ExampleResult, Report

words = pytest.importorskip("qa_lora.ui.words")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
BAD = "<img src=x onerror=alert(1)>\"'&"


def plain(html: str) -> str:
    return unescape(re.sub(r"</?mark[^>]*>", "", html))


@given(TEXT, TEXT)
def test_marking_changes_no_text_and_lets_no_html_through(base: str, tuned: str) -> None:
    left, right = words.marked(base, tuned)
    assert (plain(left), plain(right)) == (base, tuned)
    assert not re.search(r"<(?!/?mark\b)", left + right)


def test_only_what_differs_is_marked() -> None:
    left, right = words.marked("Lima", "The capital of Peru is Lima.")
    assert "mark" not in left
    assert right.startswith('<mark class="in-tuned">The capital of Peru is</mark> Lima')


def test_a_note_escapes_its_message_and_an_empty_one_is_nothing() -> None:
    assert "<img" not in words.note(BAD, "bad") and 'role="alert"' in words.note(BAD, "bad")
    assert words.note("") == ""


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (31.4, "0:31"), (725, "12:05"), (11045, "3:04:05")]
)
def test_durations(seconds: float, shown: str) -> None:
    assert words.duration(seconds) == shown


def report(text: str = BAD) -> Report:
    scores = {"rougeL": 0.25, "f1": 0.5}
    better = {"rougeL": 1.0, "f1": 0.5}
    rows = tuple(
        ExampleResult(
            f"{text}{i}",
            text,
            text,
            (text, "b"),
            answers={"base": text, "tuned": f"{text}!"},
            scores={"base": scores, "tuned": better},
        )
        for i in range(3)
    )
    gap = {"mean": 0.75, "low": 0.7, "high": 0.8, "p_value": 0.0001}
    return Report(
        rows=3, split="test", scores={"base": scores, "tuned": better},
        differences={"tuned": {"rougeL": gap, "f1": gap}},
        shares={"base": {"cut": 0.0}, "tuned": {"cut": 0.1}},
        seconds=1.0, fingerprint="f", number=1, examples=rows,
    )  # fmt: skip


def test_charts_tables_and_rows_escape_questions_and_answers() -> None:
    from qa_lora.ui import charts, evaluate_view

    found = report()
    html = [
        evaluate_view.metrics_html(found),
        evaluate_view.rows_html(found.examples, "rougeL", 20),
        charts.gain_chart([0.1, -0.2, 0.0], [BAD] * 3, "ROUGE-L"),
        charts.scatter_chart([0.1, 0.2, 0.0], [0.5, 0.1, 0.0], [BAD] * 3, "ROUGE-L"),
    ]
    assert all("<img" not in each for each in html)
    assert "1 better" in html[2] and "1 worse" in html[2] and "1 unchanged" in html[2]


def test_rows_are_sorted_by_gain_and_filtered() -> None:
    from qa_lora.ui.evaluate_view import chosen_rows

    found = report()
    assert chosen_rows(found, "Unchanged", "rougeL") == []
    assert len(chosen_rows(found, "Unchanged", "f1")) == 3
    assert len(chosen_rows(found, "Worst", "rougeL")) == 3


@pytest.mark.parametrize("text", ["=1+1", "+1", "-2", "@sum", "\t=1", "  =1", "\r=1", "\n=1"])
def test_cells_that_a_spreadsheet_would_run_are_neutral(text: str) -> None:
    from qa_lora.formulas import neutralise

    assert neutralise(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "plain", "1-2", "a=b", "it's"])
def test_other_cells_stay_as_they_are(text: str) -> None:
    from qa_lora.formulas import neutralise

    assert neutralise(text) == text


def test_the_csv_has_a_neutral_row_an_example_and_the_json_everything() -> None:
    from qa_lora.ui.export import to_csv, to_json

    rows = list(csv.DictReader(io.StringIO(to_csv(report("=cmd()")), newline="")))
    assert len(rows) == 3 and rows[0]["question"] == "'=cmd()" and rows[0]["base"] == "'=cmd()"
    assert float(rows[0]["tuned_rougeL"]) == 1.0
    values = json.loads(to_json(report()))
    assert values["rows"] == 3 and len(values["examples"]) == 3
    assert values["examples"][0]["question"] == BAD
