"""Rows -> :class:`QAExample`: reading a source, finding its columns, dividing it."""

from qa_lora.data.checks import DataReport, check
from qa_lora.data.columns import ColumnMap, ColumnsError, find_columns
from qa_lora.data.example import QAExample, normalise_question, question_key
from qa_lora.data.rows import Dropped, LoadedData, SourceRead, load, load_and_split, load_split
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
