"""A report as Markdown, to be pasted into a model card."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from qa_lora.report.found import BASE, LABELS, ExampleResult, Report, beside, headline
from qa_lora.report.verdict import verdict

__all__ = ["to_markdown"]

EXAMPLES = 3
"""Of each kind of rows: best, worst, unchanged."""
LONGEST = 600
"""Characters of a text that are shown."""


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
    found = verdict(report, metric=metric, names={name: _cell(name) for name in report.systems[2:]})
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
    parts += [_scores(report), _beside(report)]
    parts += [
        f"![{_cell(title)}]({quote(path, safe='/:?=&%#+,;@~')})"
        for title, path in (plots or {}).items()
    ]
    parts += _rows(report, metric)
    parts += ["## Settings", _fenced(json.dumps(report.settings, indent=2, ensure_ascii=False))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _how(report: Report) -> str:
    lines = [
        f"- Questions: {report.rows:,}"
        + (f" of the {report.split} split" if report.split != "file" else " of a file"),
        f"- Fingerprint of the questions and references: `{report.test_fingerprint}`",
        f"- Systems: {', '.join(map(_cell, report.systems))}",
    ]
    return "\n".join(lines)


def _scores(report: Report) -> str:
    """A table a system: each metric of the base, of it, and the difference."""
    tables = []
    for system, gains in report.differences.items():
        rows = [("metric", BASE, _cell(system), "difference", "95 % interval", "p", "p adjusted")]
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
            rows.append((_cell(LABELS.get(name, name)), _number(base), _number(other), *numbers))
        tables.append(_table(rows))
    note = (
        "Means over the questions; with several references each metric takes its best one. "
        "Intervals and p are from a paired bootstrap over the questions; p adjusted is corrected "
        "(Holm) for all rows of these tables."
    )
    return "\n\n".join(["## Scores", *tables, note])


def _beside(report: Report) -> str:
    rows = [(name, *values) for name, values in beside(report)]
    table = _table([("", *map(_cell, report.systems)), *rows])
    return f"## Beside the scores\n\n{table}" if rows else ""


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
                parts.append(f"## {kind} rows of {_cell(system)}, by {LABELS.get(metric, metric)}")
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
    shown = "\n".join(f"{name}: {_shortened(text)}" for name, text in texts)
    scores = " -> ".join(f"{row.scores[who][metric]:.3f}" for who in (BASE, system))
    return f"{scores} ({gain:+.3f})\n\n{_fenced(shown)}"


def _shortened(text: str) -> str:
    text = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    # A line of text must not look like the next field.
    return "\n    ".join(text.splitlines())


def _fenced(text: str) -> str:
    """A block of text in which no markup acts, whatever backticks it holds."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    first, *others = rows
    rule = ["---", *["---:"] * (len(first) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (first, rule, *others))


def _cell(text: str) -> str:
    """Text in which no markup acts, on one line."""
    escaped = re.sub(r"([\\`*_{}\[\]()#+!|<>~&$@:])", r"\\\1", " ".join(text.split()))
    return escaped


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
