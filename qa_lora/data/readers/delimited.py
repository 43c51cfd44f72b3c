"""CSV and TSV, streamed by the standard library's strict parser."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from qa_lora.data.readers.table import MAX_CELL, Table, count, header_names, listed
from qa_lora.data.readers.text import open_text, plain_lines
from qa_lora.errors import DataError

__all__ = ["open_delimited"]

_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
_SAMPLE = 100
"""Rows that must agree before another delimiter than the ending's is believed."""


def open_delimited(path: Path, delimiter: str) -> Table:
    """A table whose first line that is not blank names the columns.

    Where that line holds no delimiter of the ending's kind and exactly one other kind divides it
    and the rows below alike, that one is used.

    Raises:
        DataError: If the header or the first row is no part of a table, or there is no row.
    """
    header = next(_records(path, delimiter), None)
    if header is None:
        raise DataError(f"{path.name} is empty.")
    if len(header[1]) == 1:
        delimiter = _other_delimiter(path, delimiter, header[1][0])
        header = next(_records(path, delimiter))
    columns = header_names(header[1], path.name)
    rows = partial(_rows, path, delimiter, columns)
    if next(rows(), None) is None:
        raise DataError(
            f"{path.name} holds only a header: {listed(columns)}.", "Add rows below it."
        )
    return Table(path.name, columns, rows)


def _rows(path: Path, delimiter: str, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    records = _records(path, delimiter)
    next(records, None)
    width = len(columns)
    for line, cells in records:
        if len(cells) != width:
            raise DataError(
                f"{path.name}, line {line:,}: {count(len(cells), 'cell')} where the header has "
                f"{width:,}.",
                f"A cell that contains {_NAMES[delimiter]} or line breaks must stand in double "
                "quotes.",
            )
        yield dict(zip(columns, cells, strict=True))


def _records(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The line where each record begins, and its cells; blank lines are passed over."""
    csv.field_size_limit(MAX_CELL)
    line = 1
    with open_text(path, newline="") as text:
        reader = csv.reader(plain_lines(text, path.name), delimiter=delimiter, strict=True)
        try:
            for cells in reader:
                if len(cells) > 1 or (cells and cells[0].strip()):
                    yield line, cells
                line = reader.line_num + 1
        except csv.Error as error:
            raise _broken(path, delimiter, line, str(error)) from None


def _broken(path: Path, delimiter: str, line: int, problem: str) -> DataError:
    quotes = "Inside a quoted cell, a double quote is written twice."
    if "end of data" in problem:
        opened, cell = _open_quote(path, delimiter, line)
        return DataError(
            f"{path.name}, line {opened:,}: a double quote is opened and never closed "
            f"(in cell {cell:,}).",
            quotes,
        )
    if "expected after" in problem:
        problem = "text follows the closing double quote of a cell"
    elif "field limit" in problem:
        problem = f"a cell holds more than {MAX_CELL:,} characters"
        quotes = "Perhaps a double quote is opened there and never closed."
    return DataError(f"{path.name}, line {line:,}: {problem}.", quotes)


def _open_quote(path: Path, delimiter: str, first: int) -> tuple[int, int]:
    """The line and the cell in which the quote opens that the file does not close.

    Args:
        path: The file; from line `first` on it is one record that does not end.
        delimiter: What divides its cells.
        first: Where that record begins.
    """
    opened, cell = first, 1
    quoted = closed = False
    with open_text(path, newline="") as text:
        lines = enumerate(plain_lines(text, path.name), 1)
        for number, line in itertools.islice(lines, first - 1, None):
            before = ""
            for at, part in enumerate(line.split('"')):
                if at and quoted:
                    quoted, closed = False, True
                elif at and closed and not before:  # doubled, so the cell goes on
                    quoted = True
                elif at and (before.endswith(delimiter) or (at == 1 and not before)):
                    quoted, opened = True, number
                elif at:  # within an unquoted cell it is a sign like others
                    closed = False
                if not quoted:
                    cell += part.count(delimiter)
                before = part
    return opened, cell


def _other_delimiter(path: Path, delimiter: str, header: str) -> str:
    """The delimiter of a file whose header its own ending's delimiter does not divide.

    Raises:
        DataError: If several could be meant, or the rows do not agree with the header.
    """
    others = [other for other in _NAMES if other != delimiter and other in header]
    if not others:
        return delimiter
    fitting = [other for other in others if _divides(path, other)]
    if len(fitting) == 1:
        return fitting[0]
    said = f"and its ending says {_NAMES[delimiter]}"
    hint = "Save it as .csv with commas or as .tsv with tabs."
    if len(others) == 1:
        raise DataError(
            f"{path.name} is separated by {_NAMES[others[0]]}, {said}; its first rows do not have "
            "as many cells as its header either way.",
            hint,
        )
    names = " or ".join(_NAMES[other] for other in others)
    raise DataError(f"{path.name} could be separated by {names}, {said}.", hint)


def _divides(path: Path, delimiter: str) -> bool:
    """Whether the first rows have as many cells as the header, and all of its cells are named."""
    try:
        rows = [cells for _, cells in itertools.islice(_records(path, delimiter), _SAMPLE)]
    except DataError:
        return False
    return _named(rows[0]) and all(len(row) == len(rows[0]) for row in rows)


def _named(header: Sequence[str]) -> bool:
    return len(header) > 1 and all(cell.strip() for cell in header)
