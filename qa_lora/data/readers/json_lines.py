"""JSON Lines, streamed: an object a line."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from qa_lora.data.readers.json_text import DECODER, check_record, may_hold_halves, unusable
from qa_lora.data.readers.table import MAX_COLUMNS, Table, kind, lower
from qa_lora.data.readers.text import numbered_lines, open_text
from qa_lora.errors import DataError

__all__ = ["open_lines", "table_of_records"]

HEAD = 1000
"""Records whose keys are the columns."""
_HINT = 'Every line must be one object: {"question": "...", "answer": "..."}.'


def open_lines(path: Path) -> Table:
    """A table whose columns are the keys of its first records.

    Raises:
        DataError: If the first lines are no objects, or there is none.
    """
    return table_of_records(path.name, partial(_rows, path))


def table_of_records(name: str, rows: Callable[[], Iterator[dict[str, Any]]]) -> Table:
    """The table of rows that each name their own columns.

    Raises:
        DataError: If the first rows are broken, name no or too many columns, or there is none.
    """
    columns: dict[str, None] = {}
    empty = True
    for number, row in enumerate(itertools.islice(rows(), HEAD), 1):
        empty = False
        columns.update(dict.fromkeys(row))
        refuse_many_keys(columns, f"{name}: the rows up to {number:,}")
    if empty:
        raise DataError(f"{name} is empty.")
    if not columns:
        raise DataError(f"{name} holds empty objects only.", _HINT)
    return Table(name, tuple(columns), partial(_few_keys, name, rows))


def _few_keys(name: str, rows: Callable[[], Iterator[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """The rows, as long as they do not go on inventing keys."""
    known: dict[str, None] = {}
    for number, row in enumerate(rows(), 1):
        if not row.keys() <= known.keys():
            known.update(dict.fromkeys(row))
            refuse_many_keys(known, f"{name}: the rows up to {number:,}")
        yield row


def refuse_many_keys(keys: dict[str, None], what: str) -> None:
    """Raise DataError if records have more keys than a table may have columns."""
    if len(keys) > MAX_COLUMNS:
        raise DataError(
            f"{what} have more than {MAX_COLUMNS} different keys.",
            "Every row should have the same few keys.",
        )


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with open_text(path, newline="\n") as text:
        for number, line in numbered_lines(text, path.name):
            if line.isspace():
                continue
            where = f"{path.name}, line {number}"
            try:
                row = DECODER.decode(line)
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{where} is not valid JSON: {lower(error.msg)} at column {error.colno:,}.",
                    _HINT,
                ) from None
            except (ValueError, RecursionError) as error:
                raise DataError(f"{where} is not usable JSON: {unusable(error)}.", _HINT) from None
            if not isinstance(row, dict):
                raise DataError(f"{where} holds {kind(row)}, not an object.", _HINT)
            check_record(row, where, halves=may_hold_halves(line))
            yield row
