"""What every reader gives, the limits all of them keep, and how they name what is wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from qa_lora.errors import DataError, shorten

__all__ = [
    "MAX_CELL",
    "MAX_COLUMNS",
    "MAX_DEPTH",
    "Table",
    "cell_texts",
    "check_cells",
    "count",
    "header_names",
    "kind",
    "listed",
    "lower",
    "refuse_duplicates",
]

MAX_COLUMNS = 1000
MAX_CELL = 10_000_000
"""Characters in one cell."""
MAX_DEPTH = 50
"""Lists and objects inside each other in one cell."""


@dataclass(frozen=True)
class Table:
    """A file with named columns, read row by row."""

    name: str
    """Short, for messages."""
    columns: tuple[str, ...]
    """For JSON, the keys of the first 1,000 records."""
    rows: Callable[[], Iterator[dict[str, Any]]]
    """Streams the rows from the first one on, as column -> value (text, number, truth value, None,
    list or dict; a missing JSON key is absent). Raises DataError at a row that is broken."""


def cell_texts(value: Any) -> tuple[str, ...]:
    """The texts in a cell: none for null, several for a list, one for everything else.

    Numbers and truth values become the text that JSON has for them. An object with a key "text",
    as in SQuAD's answers, stands for what is under it; other objects become JSON.
    """
    if isinstance(value, str):
        return (value,)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ()
    if isinstance(value, list | tuple):
        return tuple(text for item in value for text in cell_texts(item))
    if isinstance(value, dict) and "text" in value:
        return cell_texts(value["text"])
    if isinstance(value, bytes):
        return (value.decode("utf-8", errors="replace"),)
    if isinstance(value, bool | int | float | dict):
        return (json.dumps(value, ensure_ascii=False, default=str),)
    return (str(value),)


def header_names(cells: Sequence[str], where: str) -> tuple[str, ...]:
    """The columns that a header names; a cell without a name becomes "column 3".

    Args:
        cells: The header's cells.
        where: What the table is called in messages.

    Raises:
        DataError: If two columns have one name, none has a name, or there are too many.
    """
    if len(cells) > MAX_COLUMNS:
        raise DataError(
            f"{where} has {count(len(cells), 'column')}, and at most {MAX_COLUMNS:,} are read.",
            "Keep the few columns that hold questions and answers.",
        )
    names = tuple(cell.strip() or f"column {number}" for number, cell in enumerate(cells, 1))
    if not any(cell.strip() for cell in cells):
        raise DataError(
            f"{where}: no cell of the header holds a name.", "The first row must name the columns."
        )
    refuse_duplicates(names, where)
    return names


def refuse_duplicates(names: Sequence[str], where: str) -> None:
    """Raise DataError if two columns have the same name."""
    seen: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if name in seen:
            raise DataError(
                f"{where} has two columns named {shorten(name)!r} "
                f"(columns {seen[name]:,} and {number:,}).",
                "Rename one of them.",
            )
        seen[name] = number


def check_cells(row: dict[str, Any], where: str, *, nan_is_empty: bool = True) -> None:
    """Refuse texts that are too long, numbers that are none, and what is nested too deeply.

    Args:
        row: The cells by their columns.
        where: File and row, for messages.
        nan_is_empty: Whether NaN stands for an empty cell, as in tables of numbers.

    Raises:
        DataError: With the column.
    """
    for column, value in row.items():
        if isinstance(value, str):
            problem = _text_problem(value)
        elif isinstance(value, float):
            problem = _number_problem(value, nan_is_empty)
        elif isinstance(value, list | dict):
            problem = _nested_problem(value, nan_is_empty)
        else:
            continue
        if problem:
            raise DataError(f"{where}: the column {shorten(column)!r} holds {problem}.")


def _text_problem(text: str) -> str:
    return f"more than {MAX_CELL:,} characters in one cell" if len(text) > MAX_CELL else ""


def _number_problem(number: float, nan_is_empty: bool) -> str:
    if math.isinf(number):
        return "an infinite number"
    return "NaN, which is no number (write null)" if number != number and not nan_is_empty else ""


def _nested_problem(value: list[Any] | dict[str, Any], nan_is_empty: bool) -> str:
    """Level by level and not by recursion, since it may be deep."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            return f"lists or objects nested over {MAX_DEPTH} deep"
        below = []
        for holder in level:
            for item in holder.values() if isinstance(holder, dict) else holder:
                problem = ""
                if isinstance(item, str):
                    problem = _text_problem(item)
                elif isinstance(item, float):
                    problem = _number_problem(item, nan_is_empty)
                elif isinstance(item, list | dict):
                    below.append(item)
                if problem:
                    return problem
        level = below
    return ""


def listed(names: Sequence[str]) -> str:
    """The first names, each on one line and not too long, for a sentence."""
    shown = [shorten(name, 40) for name in names[:8]]
    shown = [name if name.isprintable() else repr(name)[1:-1] for name in shown]
    return ", ".join(shown) + (f" and {len(names) - 8:,} more" if len(names) > 8 else "")


def kind(value: Any) -> str:
    """What a JSON value is, for a sentence."""
    names = {dict: "one object", list: "a list", str: "a text", type(None): "null"}
    return names.get(type(value), "a number" if not isinstance(value, bool) else "a truth value")


def count(number: int, noun: str) -> str:
    """A number and its noun: 1 cell, 2,000 cells."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def lower(text: str) -> str:
    """A library's message as the second half of a sentence."""
    return text[:1].lower() + text[1:].rstrip(".")
