"""Rows -> :class:`QAExample`: read sources, know their form, divide them, report on them.

Every name is imported when it is first used: the first page and ``--help`` need none of this.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qa_lora.data.checks import check
    from qa_lora.data.columns import ColumnMap, ColumnsError, find_columns
    from qa_lora.data.example import QAExample, normalise_question, question_key
    from qa_lora.data.report import DataReport
    from qa_lora.data.rows import (
        Dropped,
        LoadedData,
        SourceRead,
        begin,
        load,
        load_and_split,
        load_split,
    )
    from qa_lora.data.sources import UPLOAD_LIMIT_BYTES
    from qa_lora.data.split import (
        DataSplit,
        Overlap,
        Overlaps,
        Removed,
        fingerprint,
        overlaps,
        split_examples,
    )

_HOME = {
    "checks": ("check",),
    "columns": ("ColumnMap", "ColumnsError", "find_columns"),
    "example": ("QAExample", "normalise_question", "question_key"),
    "report": ("DataReport",),
    "rows": (
        *("Dropped", "LoadedData", "SourceRead"),
        *("begin", "load", "load_and_split", "load_split"),
    ),
    "sources": ("UPLOAD_LIMIT_BYTES",),
    "split": (
        *("DataSplit", "Overlap", "Overlaps", "Removed"),
        *("fingerprint", "overlaps", "split_examples"),
    ),
}
"""Module of this package -> the names it gives."""

__all__ = [
    "UPLOAD_LIMIT_BYTES",
    "ColumnMap",
    "ColumnsError",
    "DataReport",
    "DataSplit",
    "Dropped",
    "LoadedData",
    "Overlap",
    "Overlaps",
    "QAExample",
    "Removed",
    "SourceRead",
    "begin",
    "check",
    "find_columns",
    "fingerprint",
    "load",
    "load_and_split",
    "load_split",
    "normalise_question",
    "overlaps",
    "question_key",
    "split_examples",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
