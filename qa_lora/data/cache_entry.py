"""Read and divided data as two files: the texts, to be mapped into memory, and all the rest."""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from qa_lora.data.columns import ColumnMap
from qa_lora.data.loaded import LoadedData
from qa_lora.data.names import NameList
from qa_lora.data.reading import Drops, SourceRead
from qa_lora.data.split import SIDES, DataSplit, Removed
from qa_lora.data.store import StoredExamples

__all__ = ["read", "write"]

TEXTS = "examples.arrow"
REST = "rest.npz"
"""Arrays, each with a checksum, and JSON as one of them."""


def write(folder: Path, loaded: LoadedData, split: DataSplit) -> None:
    """Write what was read, and its division.

    Args:
        folder: An empty one.
        loaded: With its examples in a file, all of them in their order.
        split: Its sides are of these examples.

    Raises:
        OSError: If the disk is full.
    """
    assert isinstance(loaded.examples, StoredExamples)
    loaded.examples.write(folder / TEXTS)
    arrays: dict[str, Any] = {side: getattr(split, side).numbers for side in SIDES}
    values: dict[str, list[Any]] = {}

    def put(name: str, names: Sequence[Any]) -> None:
        listed = names if isinstance(names, NameList) else _named(names)
        arrays[name] = np.array(listed.codes, np.uint32)
        values[name] = listed.values

    put("splits", loaded.splits)
    put("files", loaded.files)
    put("origins", loaded.origins)
    drops = loaded.dropped
    assert isinstance(drops, Drops)
    put("dropped_reasons", drops.reasons)
    put("dropped_files", drops.files)
    arrays["dropped_rows"] = np.array(drops.rows, np.int64)
    arrays["rows"] = np.array(loaded.rows, np.int64)
    put("removed_reasons", [each.reason for each in split.removed])
    facts = {
        "bytes": (folder / TEXTS).stat().st_size,
        "values": values,
        "shown": list(drops.shown.items()),
        "columns": asdict(loaded.columns),
        "column_names": loaded.column_names,
        "rows_read": loaded.rows_read,
        "rows_in_source": loaded.rows_in_source,
        "sources": [asdict(source) for source in loaded.sources],
        "source": loaded.source,
        "fingerprint": split.fingerprint,
        "removed": [each.id for each in split.removed],
        "notes": split.notes,
    }
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    with (folder / REST).open("wb") as file:
        np.savez(file, **arrays)


def read(folder: Path) -> tuple[LoadedData, DataSplit]:
    """What :func:`write` wrote; the texts stay on disk.

    Raises:
        Exception: Of any kind, if the files are not whole.
    """
    with (folder / REST).open("rb") as file, np.load(file, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    facts = json.loads(arrays["facts"].tobytes())
    if (folder / TEXTS).stat().st_size != facts["bytes"]:
        raise ValueError(f"{folder / TEXTS} is cut short")
    examples = StoredExamples.open(folder / TEXTS)

    def names(name: str) -> NameList[Any]:
        return NameList.of(
            facts["values"][name], array("I", arrays[name].astype(np.uintc).tobytes())
        )

    loaded = LoadedData(
        examples=examples,
        columns=ColumnMap(**facts["columns"]),
        column_names=tuple(facts["column_names"]),
        dropped=Drops.of(
            array("q", arrays["dropped_rows"].tobytes()),
            names("dropped_reasons"),
            names("dropped_files"),
            {int(at): text for at, text in facts["shown"]},
        ),
        rows_read=facts["rows_read"],
        rows_in_source=facts["rows_in_source"],
        splits=names("splits"),
        rows=array("q", arrays["rows"].tobytes()),
        files=names("files"),
        origins=names("origins"),
        sources=tuple(_source(each) for each in facts["sources"]),
        source=facts["source"],
    )
    removed = zip(facts["removed"], names("removed_reasons"), strict=True)
    train, validation, test = (examples.pick(arrays[side]) for side in SIDES)
    split = DataSplit(
        train=train,
        validation=validation,
        test=test,
        fingerprint=facts["fingerprint"],
        removed=tuple(Removed(*each) for each in removed),
        notes=tuple(facts["notes"]),
    )
    return loaded, split


def _named(names: Sequence[Any]) -> NameList[Any]:
    made: NameList[Any] = NameList()
    for name in names:
        made.append(name)
    return made


def _source(facts: dict[str, Any]) -> SourceRead:
    columns = facts["columns"]
    return SourceRead(
        **{
            **facts,
            "columns": None if columns is None else ColumnMap(**columns),
            "column_names": tuple(facts["column_names"]),
        }
    )
