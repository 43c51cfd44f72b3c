"""Rows -> :class:`QAExample`: reading a source, finding its columns, dividing it."""

from qa_lora.data.checks import check
from qa_lora.data.columns import ColumnMap, ColumnsError, find_columns
from qa_lora.data.example import QAExample, normalise_question, question_key
from qa_lora.data.report import DataReport
from qa_lora.data.rows import Dropped, LoadedData, load, load_and_split, load_split
from qa_lora.data.sources import UPLOAD_LIMIT_BYTES, read_table
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
    "check",
    "find_columns",
    "fingerprint",
    "load",
    "load_and_split",
    "load_split",
    "normalise_question",
    "overlaps",
    "question_key",
    "read_table",
    "split_examples",
]
