"""Which runs of many are asked for, and in which order. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable

from qa_lora.run_summaries import RunSummary

__all__ = ["ORDERS", "arrange"]

ORDERS = {
    "newest": "Newest first",
    "oldest": "Oldest first",
    "name": "Name",
    "status": "Status",
    "loss": "Validation loss, lowest first",
    "rouge": "ROUGE-L tuned, highest first",
    "gain": "Gain in ROUGE-L, highest first",
    "time": "Time, longest first",
}
"""By what rows can be sorted, in words."""


def arrange(
    rows: Iterable[RunSummary], *, text: str = "", status: str = "", order: str = "newest"
) -> list[RunSummary]:
    """The rows that are asked for, sorted; those without a value come last.

    Args:
        rows: Newest first.
        text: Words that all must stand in the name, id, note, model, data or settings.
        status: One status; any if empty.
        order: One of :data:`ORDERS`.
    """
    words = text.casefold().split()
    found = [
        row
        for row in rows
        if (not status or row.status == status) and all(word in _words(row) for word in words)
    ]
    match order:
        case "oldest":
            found.reverse()
        case "name":
            found.sort(key=lambda row: row.name.casefold())
        case "status":
            found.sort(key=lambda row: row.status)
        case "loss":
            found.sort(key=lambda row: _last(row.best_validation_loss))
        case "rouge":
            found.sort(key=lambda row: _last(row.rouge_tuned, -1))
        case "gain":
            found.sort(key=lambda row: _last(row.gain, -1))
        case "time":
            found.sort(key=lambda row: _last(row.seconds, -1))
        case _:
            pass
    return found


def _words(row: RunSummary) -> str:
    parts = (row.title, row.id, row.note, row.model, row.data, row.settings)
    return "\n".join(parts).casefold()


def _last(value: float | None, sign: int = 1) -> float:
    return math.inf if value is None else sign * value
