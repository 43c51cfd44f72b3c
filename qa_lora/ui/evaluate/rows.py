"""The questions of an evaluation one by one: best, worst, unchanged, with differences marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from qa_lora.report import BASE, FACT_ACCURACY, TUNED, ExampleResult, Report
from qa_lora.ui.evaluate.metrics import metric_name
from qa_lora.ui.evaluate.table import system_name
from qa_lora.ui.words import marked

__all__ = ["FILTERS", "chosen_rows", "rows_html"]

FILTERS = ("Best", "Worst", "Unchanged")
SAME = 1e-9
NO_WORDS = '<span class="subdued">(no words)</span>'


def chosen_rows(
    report: Report, which: str, metric: str, system: str = TUNED
) -> list[ExampleResult]:
    """The rows of a filter: best first, worst first, or only those that did not change.

    Args:
        report: What was found.
        which: One of :data:`FILTERS`.
        metric: Whose gain counts; rows that have no such score are left out.
        system: Whose gain.
    """
    gains = [(row.gain(metric, system), row) for row in report.examples]
    known = [(gain, row) for gain, row in gains if gain is not None]
    known.sort(key=lambda each: each[0], reverse=which != "Worst")
    if which == "Unchanged":
        known = [(gain, row) for gain, row in known if abs(gain) <= SAME]
    return [row for _, row in known]


def rows_html(rows: Sequence[ExampleResult], metric: str, shown: int, system: str = TUNED) -> str:
    """Rows as cards: question, reference, both answers with differences marked, both scores."""
    if not rows:
        return '<div class="empty"><b>No such rows</b>Choose another filter.</div>'
    cards = "".join(_row(row, metric, system) for row in rows[:shown])
    count = f'<p class="subdued">{min(shown, len(rows)):,} of {len(rows):,} rows</p>'
    return f'<div class="rows">{cards}</div>{count}'


def _row(row: ExampleResult, metric: str, system: str) -> str:
    name = escape(metric_name(metric))
    base, other = marked(row.answers[BASE], row.answers[system])
    context = f"<br>Context: {escape(row.context)}" if row.context else ""
    source = f" · from {escape(row.source)}" if row.source else ""
    sides = "".join(
        f"<div><span class='who'>{escape(system_name(who))} · {name} "
        f"{_number(row.scores[who].get(metric))}{_fact(row.scores[who])}</span>"
        f"{text or NO_WORDS}</div>"
        for who, text in ((BASE, base), (system, other))
    )
    return (
        f"<article><span class='score' title='Gain in {name}'>"
        f"{row.gain(metric, system) or 0.0:+.2f}</span><h4>{escape(row.question)}</h4>"
        f"<div class='ref'>Reference: {escape(' / '.join(row.references))}{context}{source}</div>"
        f"<div class='two'>{sides}</div></article>"
    )


def _fact(scores: Mapping[str, float]) -> str:
    if FACT_ACCURACY not in scores:
        return ""
    return " · right fact" if scores[FACT_ACCURACY] >= 1 else " · fact missing"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
