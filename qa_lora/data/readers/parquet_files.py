"""Parquet, streamed in batches of rows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from qa_lora.data.readers.compression import open_regular
from qa_lora.data.readers.table import (
    MAX_COLUMNS,
    Table,
    check_cells,
    count,
    lower,
    refuse_duplicates,
)
from qa_lora.errors import DataError, first_line

__all__ = ["open_parquet"]

_BATCH = 1000


def open_parquet(path: Path) -> Table:
    """A table with the columns of the file.

    Raises:
        DataError: If it is not a whole Parquet file with columns and rows.
    """
    with _opened(path) as file:
        columns, total = tuple(file.schema_arrow.names), file.metadata.num_rows
    if not columns:
        raise DataError(f"{path.name} has no columns.")
    if len(columns) > MAX_COLUMNS:
        raise DataError(
            f"{path.name} has {count(len(columns), 'column')}, and at most {MAX_COLUMNS:,} are "
            "read.",
            "Keep the few columns that hold questions and answers.",
        )
    refuse_duplicates(columns, path.name)
    if total <= 0:
        raise DataError(f"{path.name} names columns but holds no rows.")
    rows = partial(_rows, path)
    if next(rows(), None) is None:
        raise DataError(f"{path.name} names columns but holds no rows.")
    return Table(path.name, columns, rows)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from pyarrow import parquet

    with open_regular(path) as handle:
        if not handle.peek(1):
            raise DataError(f"{path.name} is empty.")
    with _one_sentence(path, "is no Parquet file, or not a whole one"):
        # Buffered and unhurried, so that a large group of rows is never in memory as a whole.
        file = parquet.ParquetFile(path, buffer_size=1024**2, pre_buffer=False)
    with file:
        yield file


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    number = 0
    with _opened(path) as file:
        batches = file.iter_batches(batch_size=_BATCH, use_threads=False)
        while True:
            where = f"{path.name}, rows from {number + 1:,} on"
            with _one_sentence(path, f"is damaged in the rows from {number + 1:,} on"):
                batch = next(batches, None)
                if batch is None:
                    return
                rows = batch.to_pylist()
            for row in rows:
                number += 1
                where = f"{path.name}, row {number:,}"
                row = {name: _plain(value) for name, value in row.items()}
                check_cells(row, where)
                yield row


@contextlib.contextmanager
def _one_sentence(path: Path, problem: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except UnicodeDecodeError:
        raise DataError(f"{path.name} {problem} (a text that is not UTF-8).") from None
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        raise DataError(f"{path.name} {problem} ({lower(first_line(error))}).") from None


def _plain(value: Any) -> Any:
    """A value as JSON could have it: dates, decimals and bytes become texts."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return str(value)
