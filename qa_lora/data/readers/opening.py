"""A path -> the reader that its ending asks for."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from qa_lora.data.readers.delimited import open_delimited
from qa_lora.data.readers.json_files import open_json
from qa_lora.data.readers.json_lines import open_lines
from qa_lora.data.readers.parquet_files import open_parquet
from qa_lora.data.readers.spreadsheet import open_spreadsheet
from qa_lora.data.readers.table import Table, cell_texts
from qa_lora.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ENDINGS", "ending_of", "open_table", "read_file"]

_TEXT = (".csv", ".tsv", ".json", ".jsonl", ".ndjson")
ENDINGS = (
    *_TEXT,
    ".parquet",
    ".xlsx",
    *(ending + packed for packed in (".gz", ".zst") for ending in _TEXT),
)


def ending_of(path: str | PurePath) -> str | None:
    """Which of :data:`ENDINGS` a name has, the compression's included; None if it has none."""
    name = PurePath(path).name.lower()
    fitting = [ending for ending in ENDINGS if name.endswith(ending)]
    return max(fitting, key=len) if fitting else None


def open_table(path: Path, *, inside: Path | None = None) -> Table:
    """Recognise a file by its ending and look at its head.

    Args:
        path: A file with one of :data:`ENDINGS`.
        inside: A folder that the file must lie in, also when links are followed: for files that
            are found in a folder and not named by a person.

    Raises:
        DataError: If it is not a file of that kind with columns and at least one row, or leads out
            of the folder.
    """
    ending = ending_of(path)
    if ending is None:
        has = f"the ending {path.suffix}" if path.suffix else "no ending"
        raise DataError(
            f"{path.name} has {has}, which cannot be read.",
            f"The supported endings are {' '.join(ENDINGS)}.",
        )
    if inside is not None and not path.resolve().is_relative_to(inside.resolve()):
        raise DataError(
            f"{path.name} is a link that leads out of the folder {inside}.",
            "Copy the file into the folder.",
        )
    match ending.split(".")[1]:
        case "csv":
            return open_delimited(path, ",")
        case "tsv":
            return open_delimited(path, "\t")
        case "json":
            return open_json(path)
        case "parquet":
            return open_parquet(path)
        case "xlsx":
            return open_spreadsheet(path)
        case _:
            return open_lines(path)


def read_file(path: Path) -> pa.Table:
    """All of a file at once: texts, and lists of texts where a column holds several in a cell.

    Raises:
        DataError: If it cannot be read.
    """
    import pyarrow as pa

    table = open_table(path)
    rows = list(table.rows())
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {}
    for name in names or table.columns:
        cells = [row.get(name) for row in rows]
        several = any(isinstance(cell, list) or _is_text_object(cell) for cell in cells)
        texts = [cell_texts(cell) for cell in cells]
        values = [list(t) for t in texts] if several else [t[0] if t else None for t in texts]
        columns[name] = pa.array(values, pa.list_(pa.string()) if several else pa.string())
    return pa.table(columns)


def _is_text_object(cell: Any) -> bool:
    return isinstance(cell, dict) and isinstance(cell.get("text"), list)
