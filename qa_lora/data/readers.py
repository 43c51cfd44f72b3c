"""Files -> tables: delimited text, JSON, JSON Lines and Parquet, told apart by their ending.

Every cell keeps its text as it is. What cannot be read is a :class:`DataError` that says where.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from qa_lora.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ENDINGS", "Table", "cell_texts", "ending_of", "open_table", "read_file"]

ENDINGS = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_DELIMITER_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
_MAX_COLUMNS = 1000

_MAGIC = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word document",
    b"\x1f\x8b": "a gzip archive",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"SQLite format 3": "an SQLite database",
    b"%PDF": "a PDF document",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
}


@dataclass(frozen=True)
class Table:
    """A file with named columns, read row by row."""

    name: str
    """Short, for messages."""
    columns: tuple[str, ...]
    rows: Callable[[], Iterator[dict[str, Any]]]
    """Streams the rows from the first one on."""


def ending_of(path: str | PurePath) -> str | None:
    """Which of :data:`ENDINGS` a name has; None if it has none."""
    ending = PurePath(path).suffix.lower()
    return ending if ending in ENDINGS else None


def open_table(path: Path) -> Table:
    """Read a file whose ending is one of :data:`ENDINGS`; rows keep lists and objects.

    Raises:
        DataError: As :func:`read_file`.
    """
    ending = path.suffix.lower()
    if ending in (".json", ".jsonl"):
        text = _decode(path.read_bytes(), path.name)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict) and isinstance(value.get("data"), list):
            rows = [
                {
                    "id": q.get("id"),
                    "title": article.get("title"),
                    "context": paragraph["context"],
                    "question": q["question"],
                    "answers": {
                        "text": [a["text"] for a in q.get("answers", [])],
                        "answer_start": [a["answer_start"] for a in q.get("answers", [])],
                    },
                    "is_impossible": q.get("is_impossible"),
                }
                for article in value["data"]
                for paragraph in article["paragraphs"]
                for q in paragraph["qas"]
            ]
            return Table(path.name, tuple(rows[0]), lambda: iter(rows))
        read_file(path)  # says what is wrong with it
        if not isinstance(value, list):
            value = [json.loads(line) for line in text.split("\n") if line.strip()]
        return Table(
            path.name, tuple({key: None for row in value for key in row}), lambda: iter(value)
        )
    table = read_file(path)
    return Table(
        path.name,
        tuple(table.column_names),
        lambda: (row for batch in table.to_batches(1000) for row in batch.to_pylist()),
    )


def read_file(path: Path) -> pa.Table:
    """Read a file whose ending is one of :data:`ENDINGS`.

    Text comes as string columns, lists of texts (several answers) as list<string> columns; a
    Parquet file keeps its own types, which :func:`cell_texts` understands.

    Raises:
        DataError: If it is empty, damaged, or no table of named columns with at least one row.
    """
    ending = path.suffix.lower()
    if ending == ".parquet":
        table = _read_parquet(path)
    else:
        text = _decode(path.read_bytes(), path.name)
        if ending in _DELIMITERS:
            table = _read_delimited(text, path.name, _DELIMITERS[ending])
        elif ending == ".jsonl":
            table = _read_json_lines(text, path.name)
        else:
            table = _read_json(text, path.name)
    if table.num_rows == 0:
        raise DataError(f"{path.name} names columns but holds no rows.")
    return table


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


def _decode(data: bytes, name: str) -> str:
    """UTF-8 text without its byte order mark; DataError for anything else, and for nothing."""
    for magic, kind in _MAGIC.items():
        if data.startswith(magic):
            right = "Save it as UTF-8." if "UTF-16" in kind else "Export its rows to that format."
            raise DataError(f"{name} is {kind}, not {Path(name).suffix.lower()} text.", right)
    if b"\0" in data:
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        raise DataError(
            f"{name} is no text file: line {line} holds a zero byte.",
            "Export its rows as UTF-8 text.",
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = error.start + len(data) - len(error.object)  # after a byte order mark, if any
        line = data.count(b"\n", 0, start) + 1
        raise DataError(
            f"{name} is not UTF-8: line {line} holds the byte 0x{data[start]:02x} "
            f"(byte {start + 1:,} of the file).",
            'Save it as UTF-8 (in a spreadsheet: "CSV UTF-8").',
        ) from None
    if not text.strip():
        raise DataError(f"{name} is empty.")
    return text


def _read_delimited(text: str, name: str, delimiter: str) -> pa.Table:
    import pyarrow as pa

    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    columns: list[list[str]] = []
    line = 1  # where the row begins that is being read
    try:
        for row in reader:
            if len(row) > 1 or "".join(row).strip():  # else a blank line
                if not header:
                    header = _header(row, name, delimiter)
                    columns = [[] for _ in header]
                elif len(row) != len(header):
                    raise DataError(
                        f"{name}, line {line}: {_count(len(row), 'cell')} where the header has "
                        f"{len(header)}.",
                        f"A cell that contains {_DELIMITER_NAMES[delimiter]} or line breaks must "
                        "stand in double quotes.",
                    )
                else:
                    for column, cell in zip(columns, row, strict=True):
                        column.append(cell)
            line = reader.line_num + 1
    except csv.Error as error:
        if "end of data" in str(error):
            problem = "a double quote is opened and never closed"
        elif "expected after" in str(error):
            problem = "text follows the closing double quote of a cell"
        else:
            problem = str(error)
        raise DataError(
            f"{name}, line {line}: {problem}.",
            "Inside a quoted cell, a double quote is written twice.",
        ) from None
    if not header:
        raise DataError(f"{name} is empty.")
    if not columns[0]:
        raise DataError(f"{name} holds only a header: {', '.join(header)}.", "Add rows below it.")
    return pa.table([pa.array(column, pa.string()) for column in columns], names=header)


def _header(row: Sequence[str], name: str, delimiter: str) -> list[str]:
    header = [cell.strip() or f"column {number}" for number, cell in enumerate(row, 1)]
    _refuse_duplicates(header, name)
    if len(header) == 1:
        for other in set(_DELIMITER_NAMES) - {delimiter}:
            if other in header[0]:
                raise DataError(
                    f"{name} is separated by {_DELIMITER_NAMES[other]}, and its ending says "
                    f"{_DELIMITER_NAMES[delimiter]}.",
                    "Save it as .csv with commas or as .tsv with tabs.",
                )
    return header


def _refuse_duplicates(header: Sequence[str], name: str) -> None:
    for at, column in enumerate(header):
        if column in header[:at]:
            raise DataError(f"{name} has two columns named {column!r}.", "Rename one of them.")


def _read_json(text: str, name: str) -> pa.Table:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text.lstrip().startswith("{"):
            return _read_json_lines(text, name)  # many a .json file is JSON Lines
        raise DataError(
            f"{name} is not valid JSON: line {error.lineno}, column {error.colno}: "
            f"{_lower(error.msg)}."
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is not usable JSON: {_lower(str(error))}.") from None
    hint = 'It must be a list of objects: [{"question": "...", "answer": "..."}, ...].'
    if not isinstance(rows, list):
        raise DataError(f"{name} holds {_kind(rows)}, not a list of rows.", hint)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise DataError(f"{name}, row {number} is {_kind(row)}, not an object.", hint)
    if not rows:
        raise DataError(f"{name} holds an empty list.")
    return _rows_to_table(rows, name)


def _read_json_lines(text: str, name: str) -> pa.Table:
    rows = []
    hint = 'Every line must be one object: {"question": "...", "answer": "..."}.'
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{name}, line {number} is not valid JSON: {_lower(error.msg)} at column "
                f"{error.colno}.",
                hint,
            ) from None
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{name}, line {number} is not usable JSON: {_lower(str(error))}.", hint
            ) from None
        if not isinstance(row, dict):
            raise DataError(f"{name}, line {number} holds {_kind(row)}, not an object.", hint)
        rows.append(row)
    return _rows_to_table(rows, name)


def _rows_to_table(rows: list[dict[str, Any]], name: str) -> pa.Table:
    import pyarrow as pa

    keys: dict[str, None] = {}
    for number, row in enumerate(rows, 1):
        keys.update(dict.fromkeys(row))
        if len(keys) > _MAX_COLUMNS:
            raise DataError(
                f"{name}: the rows up to {number} have more than {_MAX_COLUMNS} different keys.",
                "Every row should have the same few keys.",
            )
    columns = {}
    for key in keys:
        cells = [row.get(key) for row in rows]
        several = any(isinstance(cell, list) or _is_text_object(cell) for cell in cells)
        texts = [cell_texts(cell) for cell in cells]
        values = [list(t) for t in texts] if several else [t[0] if t else None for t in texts]
        try:
            columns[key] = pa.array(values, pa.list_(pa.string()) if several else pa.string())
        except UnicodeEncodeError:
            number = next(n for n, t in enumerate(texts, 1) if not _is_unicode("".join(t)))
            raise DataError(
                f"{name}, row {number}: {key} holds half of a character (a lone surrogate)."
            ) from None
    try:
        return pa.table(columns)
    except UnicodeEncodeError:
        raise DataError(f"{name}: a key holds half of a character (a lone surrogate).") from None


def _read_parquet(path: Path) -> pa.Table:
    import pyarrow as pa
    from pyarrow import parquet

    if path.stat().st_size == 0:
        raise DataError(f"{path.name} is empty.")
    try:
        with parquet.ParquetFile(path) as file:
            table = file.read()
    except (pa.ArrowException, OSError) as error:
        first = str(error).splitlines()[0].rstrip(".") if str(error) else "unknown reason"
        raise DataError(
            f"{path.name} is no Parquet file, or not a whole one ({_lower(first)})."
        ) from None
    _refuse_duplicates(table.column_names, path.name)
    return table


def _is_text_object(cell: Any) -> bool:
    return isinstance(cell, dict) and isinstance(cell.get("text"), list)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: Any) -> str:
    names = {dict: "one object", list: "a list", str: "a text", type(None): "null"}
    return names.get(type(value), "a number" if not isinstance(value, bool) else "a truth value")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
