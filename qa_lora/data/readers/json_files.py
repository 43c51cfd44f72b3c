"""JSON: an array of objects, streamed, or one object that holds such a list (SQuAD's form too)."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from qa_lora.data.readers import squad
from qa_lora.data.readers.json_lines import open_lines, table_of_records
from qa_lora.data.readers.json_text import DECODER, check_record, may_hold_halves, unusable
from qa_lora.data.readers.table import Table, kind, listed, lower
from qa_lora.data.readers.text import MAX_LINE, open_text, refuse_zero
from qa_lora.errors import DataError

__all__ = ["open_json"]

MAX_WHOLE = 100_000_000
"""Characters of a file that is one object, which has to be read whole."""
_HINT = 'It must be a list of objects: [{"question": "...", "answer": "..."}, ...].'
_CHUNK = 1024**2


def open_json(path: Path) -> Table:
    """A table whose columns are the keys of its first records.

    The file may be an array of objects, an object with one list of objects among its values,
    SQuAD's nested form, or JSON Lines in spite of its ending.

    Raises:
        DataError: If it is none of these, or its first records are broken.
    """
    with open_text(path, newline="\n") as text:
        start = _start(text, path.name)
        lines = start.startswith("{") and _is_lines(start, text)
    if lines:
        return open_lines(path)
    if start.startswith("["):
        return table_of_records(path.name, partial(_array, path))
    return table_of_records(path.name, partial(_whole, path))


def _start(text: io.TextIOWrapper, name: str) -> str:
    """The first line that is not blank, or as much of it as one record may have."""
    line, number = "", 0
    while not line.strip():
        line = text.readline(MAX_LINE)
        number += 1
        if not line:
            raise DataError(f"{name} is empty.")
        refuse_zero(line, name, number)
    return line.lstrip()


def _is_lines(first: str, text: io.TextIOWrapper) -> bool:
    """Whether the first line is an object by itself, and another line follows."""
    try:
        if not isinstance(json.loads(first), dict):
            return False
    except (ValueError, RecursionError):
        return False
    while line := text.readline(_CHUNK):
        if not line.isspace():
            return True
    return False


def _array(path: Path) -> Iterator[dict[str, Any]]:
    with open_text(path, newline="\n") as text:
        reader = _ArrayReader(text, path.name)
        for number, (value, source) in enumerate(reader.items(), 1):
            where = f"{path.name}, row {number:,}"
            if not isinstance(value, dict):
                raise DataError(f"{where} is {kind(value)}, not an object.", _HINT)
            check_record(value, where, halves=may_hold_halves(source))
            yield value


class _ArrayReader:
    """The items of a JSON array, decoded one at a time from a text that is read as needed."""

    def __init__(self, text: io.TextIOWrapper, name: str) -> None:
        self.text = text
        self.name = name
        self.buffer = ""
        self.at = 0
        self.ended = False
        self.line, self.column = 1, 1  # of the first character in the buffer

    def items(self) -> Iterator[tuple[Any, str]]:
        """Each item with its source.

        Raises:
            DataError: With line and column, where the text is not JSON.
        """
        self._next()  # the opening bracket
        self.at += 1
        number = 1
        if self._next() == "]":
            raise DataError(f"{self.name} holds an empty list.")
        while True:
            value, end = self._decode(number)
            yield value, self.buffer[self.at : end]
            self.at = end
            number += 1
            sign = self._next()
            if sign not in (",", "]"):
                raise self._broken("expecting ',' delimiter", self.at)
            self.at += 1
            following = self._next()
            if sign == "]":
                break
            if not following:
                raise self._broken("expecting value", self.at)
        if following:
            raise self._broken("extra data", self.at)

    def _next(self) -> str:
        """Move to the next character that is not white space; "" at the end."""
        while True:
            while self.at < len(self.buffer):
                if self.buffer[self.at] not in " \t\n\r":
                    return self.buffer[self.at]
                self.at += 1
            if self.ended:
                return ""
            self._read(_CHUNK)

    def _decode(self, number: int) -> tuple[Any, int]:
        while True:
            try:
                return DECODER.raw_decode(self.buffer, self.at)
            except json.JSONDecodeError as error:
                if not self._may_be_cut(error):
                    raise self._broken(lower(error.msg), error.pos) from None
            except (ValueError, RecursionError) as error:
                raise DataError(
                    f"{self.name} is not usable JSON: row {number:,}: {unusable(error)}.", _HINT
                ) from None
            held = len(self.buffer) - self.at
            if held > MAX_LINE:
                raise DataError(
                    f"{self.name}, row {number:,} has more than {MAX_LINE:,} characters.",
                    "Is there a quotation mark that is never closed?",
                )
            self._read(max(_CHUNK, held))

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        """Whether the error may come from the buffer's end and not from the text."""
        at_end = error.pos > len(self.buffer) - 16  # room for -Infinity and \\ud83d\\ude42
        return not self.ended and (at_end or error.msg.startswith("Unterminated string"))

    def _read(self, size: int) -> None:
        passed = self.buffer[: self.at]
        breaks = passed.count("\n")
        self.line += breaks
        self.column = len(passed) - passed.rfind("\n") if breaks else self.column + len(passed)
        read = self.text.read(size)
        refuse_zero(read, self.name, self.line + self.buffer.count("\n", self.at))
        self.ended = not read
        self.buffer = self.buffer[self.at :] + read
        self.at = 0

    def _broken(self, problem: str, at: int) -> DataError:
        passed = self.buffer[:at]
        breaks = passed.count("\n")
        column = len(passed) - passed.rfind("\n") if breaks else self.column + len(passed)
        return DataError(
            f"{self.name} is not valid JSON: line {self.line + breaks:,}, column {column:,}: "
            f"{problem}."
        )


def _whole(path: Path) -> Iterator[dict[str, Any]]:
    name = path.name
    with open_text(path, newline="\n") as text:
        source = text.read(MAX_WHOLE + 1)
    if len(source) > MAX_WHOLE:
        raise DataError(
            f"{name} is one JSON value of more than {MAX_WHOLE:,} characters.",
            "Save its rows as JSON Lines (.jsonl), an object a line.",
        )
    refuse_zero(source, name, 1)
    try:
        value = DECODER.decode(source)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{name} is not valid JSON: line {error.lineno:,}, column {error.colno:,}: "
            f"{lower(error.msg)}."
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is not usable JSON: {unusable(error)}.") from None
    halves = may_hold_halves(source)
    del source
    records, key = _records(value, name)
    rows = squad.rows(records, name) if squad.fits(records) else records
    for number, row in enumerate(rows, 1):
        where = f"{name}, row {number:,} of {listed([key])}"
        if not isinstance(row, dict):
            raise DataError(f"{where} is {kind(row)}, not an object.", _HINT)
        check_record(row, where, halves=halves)
        yield row


def _records(value: Any, name: str) -> tuple[list[Any], str]:
    """The one list of objects in an object, and its key."""
    if not isinstance(value, dict):
        raise DataError(f"{name} holds {kind(value)}, not a list of rows.", _HINT)
    lists = [
        key
        for key, inner in value.items()
        if isinstance(inner, list) and inner and isinstance(inner[0], dict)
    ]
    if len(lists) > 1:
        raise DataError(
            f"{name} holds several lists of rows: {listed(lists)}.",
            "Save the one to use as its own file.",
        )
    if not lists:
        raise DataError(f"{name} holds one object, not a list of rows.", _HINT)
    return value[lists[0]], lists[0]
