"""The table of runs, as the native component takes it, and the line above it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from qa_lora.run_summaries import RunSummary
from qa_lora.turns import ordinal
from qa_lora.ui.evaluate.metrics import metric_help, term

__all__ = [
    "HEADERS",
    "KINDS",
    "LEGEND",
    "PAGE",
    "WIDTHS",
    "count_html",
    "run_id_of",
    "status_text",
    "table_value",
]

PAGE = 100
"""Rows shown at first. The component goes through all of its rows at every tick of a clock: with
1,000 of them the browser is busy without a pause."""
_COLUMNS = (
    ("Run", "str", 255),
    ("Status", "str", 115),
    ("Model", "str", 80),
    ("Data", "str", 80),
    ("Step", "number", 60),
    ("Of", "number", 55),
    ("Best val. loss", "number", 135),
    ("ROUGE-L base", "number", 135),
    ("ROUGE-L tuned", "number", 155),
    ("Gain", "number", 75),
    ("Seconds", "number", 90),
    ("Settings", "str", 420),
    ("Id", "str", 260),
)
HEADERS = [name for name, _, _ in _COLUMNS]
KINDS = [kind for _, kind, _ in _COLUMNS]
"""Numbers stay numbers, so that the table's own sorting sorts them as such."""
WIDTHS = [width for _, _, width in _COLUMNS]
LEGEND = (
    '<p class="subdued">Best val. loss: nats a token of the validation split, lower is better. '
    f"{term('ROUGE-L', metric_help('rougeL'))}: 0 to 1, on held-out questions. Gain: tuned less "
    "base. Seconds: of training. Settings: those that are not as by default.</p>"
)
"""The table's headers have no room for what they mean."""


def table_value(rows: Sequence[RunSummary]) -> dict[str, Any]:
    """The table; the last cell of a row is the run's id."""
    # Without a row the component shows none of its headers either.
    return {"headers": HEADERS, "data": [_cells(row) for row in rows] or [[None] * len(HEADERS)]}


def run_id_of(row: object) -> str:
    """The id in a row that a browser says was clicked; "" in anything else."""
    if isinstance(row, list) and len(row) == len(HEADERS) and isinstance(row[-1], str):
        return row[-1]
    return ""


def status_text(row: RunSummary) -> str:
    """How it stands, in a word or two."""
    if row.status == "running" and row.total_steps:
        return f"running {min(1.0, (row.step or 0) / row.total_steps):.0%}".replace("%", " %")
    return f"{row.status} ({ordinal(row.place)})" if row.place else row.status


def _cells(row: RunSummary) -> list[Any]:
    return [
        row.name, status_text(row), row.model, row.data, row.step, row.total_steps,
        _rounded(row.best_validation_loss, 4), _rounded(row.rouge_base, 3),
        _rounded(row.rouge_tuned, 3), _rounded(row.gain, 3), _rounded(row.seconds, 0),
        row.settings, row.id,
    ]  # fmt: skip


def _rounded(value: float | None, places: int) -> float | None:
    return None if value is None else round(value, places) if places else round(value)


def count_html(shown: int, found: int, rows: Sequence[RunSummary]) -> str:
    """How many runs there are, by status, how many are as the filter says, and how many are shown.

    Args:
        shown: Rows in the table.
        found: Runs that the filter leaves.
        rows: All runs.
    """
    if not rows:
        return (
            '<div class="empty"><b>No runs yet</b>Press Start in the Train tab: each training '
            "becomes a run, and stands here with its settings, losses and scores.</div>"
        )
    counts = Counter(row.status for row in rows)
    parts = ", ".join(f"{number:,} {status}" for status, number in counts.most_common())
    of = f"{found:,} of {len(rows):,}" if found != len(rows) else f"{found:,}"
    runs = f"{of} run{'s' * (len(rows) != 1)}"
    first = ""
    if shown < found:
        first = (
            f", the first {shown:,} of them. The menus in the table's head sort only "
            "these, <i>Sorted by</i> sorts all"
        )
    none = " None is like that: change the filter." if not found else ""
    return f'<p class="subdued" role="status">{runs} shown{first}. In all: {parts}.{none}</p>'
