"""Excel workbooks (.xlsx): the first sheet that holds a table; formulas stay text."""

from __future__ import annotations

import contextlib
import io
import itertools
import stat
import warnings
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from qa_lora.data.readers.compression import open_regular, refuse_ratio
from qa_lora.data.readers.table import Table, check_cells, header_names, listed
from qa_lora.errors import DataError, first_line

__all__ = ["open_spreadsheet"]

MAX_EXPANDED = 200 * 1024**2
"""Bytes of all parts of a workbook, whose texts are kept in memory."""
MAX_BLANK_ROWS = 1_048_576
"""As many rows as a sheet has: a sheet that skips more of them is made up."""
_BATCH = 500
_SAVE_AS = "Save its rows as JSON Lines (.jsonl) or as CSV UTF-8."


def open_spreadsheet(path: Path) -> Table:
    """The first sheet with a row of at least two names and another row below it.

    Raises:
        DataError: If it is no whole workbook, too large, unsafe, or no sheet holds a table.
    """
    with _workbook(path) as book:
        names = [sheet.title for sheet in book.worksheets]
        for sheet in names:
            rows = _filled(book, sheet, path.name)
            header = next(rows, None)
            if header is not None and sum(map(_is_filled, header[1])) > 1 and next(rows, None):
                break
        else:
            raise DataError(
                f"No sheet of {path.name} holds a table (its sheets: {listed(names) or 'none'}).",
                "The first row of a sheet must name its columns, and rows must stand below it.",
            )
    cells = ["" if cell is None else str(cell) for cell in header[1]]
    columns = header_names(cells, f"{path.name}, sheet {listed([sheet])}")
    table = partial(_rows, path, sheet, columns)
    next(table())
    return Table(path.name, columns, table)


def _rows(path: Path, sheet: str, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    width = len(columns)
    with _workbook(path) as book:
        rows = _filled(book, sheet, path.name)
        next(rows, None)
        for number, cells in rows:
            where = f"{path.name}, sheet {listed([sheet])}, row {number:,}"
            if len(cells) > width:
                raise DataError(
                    f"{where}: {len(cells):,} cells where the header has {width:,}.",
                    "Name every column that holds something.",
                )
            cells += [None] * (width - len(cells))
            row = dict(zip(columns, cells, strict=True))
            check_cells(row, where)
            yield row


def _filled(book: Any, sheet: str, name: str) -> Iterator[tuple[int, list[Any]]]:
    """The rows that hold something, with their numbers, as plain values without an empty end."""
    source = book[sheet]
    source.reset_dimensions()  # what a sheet says of its own size is often wrong
    rows = enumerate(source.iter_rows(values_only=True), 1)
    blank = 0
    while True:
        with _one_sentence(f"{name}, sheet {listed([sheet])}"):
            batch = list(itertools.islice(rows, _BATCH))
        if not batch:
            return
        for number, values in batch:
            cells = [_plain(value) for value in values]
            while cells and not _is_filled(cells[-1]):
                cells.pop()
            if cells:
                yield number, cells
            else:
                blank += 1
                if blank > MAX_BLANK_ROWS:
                    raise DataError(
                        f"{name}, sheet {listed([sheet])} has more than {MAX_BLANK_ROWS:,} blank "
                        "rows.",
                        "Save its rows as CSV UTF-8.",
                    )


@contextlib.contextmanager
def _workbook(path: Path) -> Iterator[Any]:
    """The workbook, opened for reading row by row."""
    import openpyxl

    with open_regular(path) as file:
        _refuse_unsafe(file, path.name)
        with _one_sentence(path.name):
            book = openpyxl.load_workbook(file, read_only=True, data_only=False, keep_links=False)
        try:
            yield book
        finally:
            book.close()


@contextlib.contextmanager
def _one_sentence(where: str) -> Iterator[None]:
    """Openpyxl meets damaged workbooks with many kinds of errors, and odd ones with warnings."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        reason = first_line(error.__cause__ or error) or type(error).__name__
        raise DataError(
            f"{where} is damaged or no Excel workbook ({reason}).",
            "Open it in a spreadsheet and save it again as .xlsx or CSV UTF-8.",
        ) from None


def _refuse_unsafe(file: io.BufferedReader, name: str) -> None:
    """Look at the list of parts before anything is expanded."""
    head = file.peek(8)[:8]
    if not head:
        raise DataError(f"{name} is empty.")
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        raise DataError(f"{name} is an old Excel workbook, or has a password.", _SAVE_AS)
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
        problem = "is cut off or damaged" if head.startswith(b"PK") else "is no Excel workbook"
        raise DataError(
            f"{name} {problem} ({first_line(error)}).", "Copy or save it again as .xlsx."
        ) from None
    for part in parts:
        pieces = PurePosixPath(part.filename.replace("\\", "/"))
        if ".." in pieces.parts or pieces.is_absolute() or pieces.as_posix()[1:2] == ":":
            raise DataError(
                f"{name} holds a part whose path leads out of it: {part.filename[:80]!r}.",
                "Save it again from a spreadsheet.",
            )
        if stat.S_ISLNK(part.external_attr >> 16):
            raise DataError(
                f"{name} holds a symbolic link: {part.filename[:80]!r}.",
                "Save it again from a spreadsheet.",
            )
        if part.flag_bits & 1:
            raise DataError(f"{name} is protected by a password.", "Save it without one.")
    expanded = sum(part.file_size for part in parts)
    refuse_ratio(name, sum(part.compress_size for part in parts), expanded)
    if expanded > MAX_EXPANDED:
        raise DataError(
            f"{name} expands to {expanded / 1024**2:,.0f} MB, and at most "
            f"{MAX_EXPANDED / 1024**2:,.0f} MB of a workbook are read.",
            _SAVE_AS,
        )
    file.seek(0)


def _is_filled(value: Any) -> bool:
    return value is not None and value != ""


def _plain(value: Any) -> Any:
    """A cell as JSON could have it: formulas and dates become texts."""
    if isinstance(value, str):
        return value.replace("_x000D_", "\r")  # how Excel writes a carriage return
    if value is None or isinstance(value, bool | int | float):
        return value
    if hasattr(value, "isoformat"):
        return value.isoformat()
    text = getattr(value, "text", None)  # a formula over an array of cells
    return text if isinstance(text, str) else str(value)
