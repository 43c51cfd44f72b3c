"""A report as Markdown, to be pasted into a model card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import quote

from qa_lora.markdown import cell, fenced, shortened, table
from qa_lora.report.found import BASE, LABELS, ExampleResult, Report, beside, headline
from qa_lora.report.verdict import verdict

__all__ = ["score_tables", "to_markdown"]

EXAMPLES = 3
"""Of each kind of rows: best, worst, unchanged."""


def to_markdown(
    report: Report, plots: Mapping[str, str] | None = None, *, metric: str = "rougeL"
) -> str:
    """The report in GitHub's Markdown: tables with intervals, settings, fingerprint, rows.

    Texts of questions and answers stand in fenced blocks, where nothing in them is active.

    Args:
        report: What was found.
        plots: By its title, the path or address of each picture.
        metric: By which the adapter is judged, and rows are the best and the worst.
    """
    found = verdict(report, metric=metric, names={name: cell(name) for name in report.systems[2:]})
    parts = [
        "# Evaluation",
        f"**{found.title}** {found.text}",
        f"{headline(report)}.",
        _how(report),
    ]
    if not report.complete:
        parts.append(
            f"**Incomplete:** it was stopped after {report.rows:,} of {report.asked:,} questions, "
            "drawn at random."
        )
    parts += ["## Scores", score_tables(report), _beside(report)]
    parts += [
        f"![{cell(title)}]({quote(path, safe='/:?=&%#+,;@~')})"
        for title, path in (plots or {}).items()
    ]
    parts += _rows(report, metric)
    parts += ["## Settings", fenced(json.dumps(report.settings, indent=2, ensure_ascii=False))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _how(report: Report) -> str:
    lines = [
        f"- Questions: {report.rows:,}"
        + (f" of the {report.split} split" if report.split != "file" else " of a file"),
        f"- Fingerprint of the questions and references: `{report.test_fingerprint}`",
        f"- Systems: {', '.join(map(cell, report.systems))}",
    ]
    return "\n".join(lines)


def score_tables(report: Report, only: str | None = None) -> str:
    """A table a system: each metric of the base, of it, and the difference; and what they mean.

    Args:
        report: What was found.
        only: The one system that is shown; all if None.
    """
    tables = []
    for system, gains in report.differences.items():
        if only not in (None, system):
            continue
        rows = [("metric", BASE, cell(system), "difference", "95 % interval", "p", "p adjusted")]
        for name in report.metrics:
            gain = gains.get(name, {})
            adjusted = gain.get("p_adjusted")
            numbers = (
                f"{gain['mean'] + 0.0:+.3f}",
                f"{gain['low'] + 0.0:.3f} to {gain['high'] + 0.0:.3f}",
                f"{gain['p_value']:.4f}",
                "" if adjusted is None else f"{adjusted:.4f}",
            ) if gain else ("", "", "", "")  # fmt: skip
            base, other = (report.scores[who].get(name) for who in (BASE, system))
            rows.append((cell(LABELS.get(name, name)), _number(base), _number(other), *numbers))
        tables.append(table(rows))
    note = (
        "Means over the questions; with several references each metric takes its best one. "
        "Intervals and p are from a paired bootstrap over the questions; p adjusted is corrected "
        "(Holm) for all metrics and adapters that were looked at."
    )
    return "\n\n".join([*tables, note])


def _beside(report: Report) -> str:
    rows = [(name, *values) for name, values in beside(report)]
    shown = table([("", *map(cell, report.systems)), *rows])
    return f"## Beside the scores\n\n{shown}" if rows else ""


def _rows(report: Report, metric: str) -> list[str]:
    parts: list[str] = []
    for system in report.systems[1:]:
        gains = [(row.gain(metric, system), row) for row in report.examples]
        known = sorted(
            ((gain, row) for gain, row in gains if gain is not None), key=lambda each: -each[0]
        )
        kinds = {
            "Best": [each for each in known if each[0] > 0][:EXAMPLES],
            "Worst": [each for each in reversed(known) if each[0] < 0][:EXAMPLES],
            "Unchanged": [each for each in known if each[0] == 0][:EXAMPLES],
        }
        for kind, rows in kinds.items():
            if rows:
                parts.append(f"## {kind} rows of {cell(system)}, by {LABELS.get(metric, metric)}")
                parts += [_example(row, system, metric, gain) for gain, row in rows]
    return parts


def _example(row: ExampleResult, system: str, metric: str, gain: float) -> str:
    texts = [
        ("question", row.question),
        *([("context", row.context)] if row.context else []),
        *(("reference", text) for text in row.references[:EXAMPLES]),
        (BASE, row.answers[BASE]),
        (system, row.answers[system]),
    ]
    shown = "\n".join(f"{name}: {shortened(text)}" for name, text in texts)
    scores = " -> ".join(f"{row.scores[who][metric]:.3f}" for who in (BASE, system))
    return f"{scores} ({gain:+.3f})\n\n{fenced(shown)}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
