"""Made-up files for the readers: any bytes, JSON and CSV gone wrong, and valid files with damage.

Shared by tests/test_readers_fuzz.py and benchmarks/fuzz_readers.py.
"""

from __future__ import annotations

import csv
import datetime
import functools
import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
from hypothesis import strategies as st
from pyarrow import parquet

from qa_lora.data.readers import open_table
from qa_lora.errors import QALoRAError

KINDS = (
    *(".csv", ".tsv", ".json", ".jsonl", ".parquet", ".xlsx"),
    *(".csv.gz", ".csv.zst", ".json.gz", ".jsonl.zst"),
)
"""Endings that bring every reader and every kind of compression into use."""

_WORDS = [
    *"[]{},:;|\t\n\r\"'1aé=-.\ufeff\0",
    *("null", "true", "NaN", "-Infinity", "1e999", "9" * 5000, "\\ud83d", '"answer"', '"data"'),
    *("question,answer\n", "question;answer\n", "question\tanswer\n", '"a""b"', ",,,,", "a,b\r\n"),
    *('{"question": "a", "answer": ["b"]}', '{"a": 1, "a": 2}', '"paragraphs": [', "[" * 60),
]
_TEXTS = st.text(max_size=12) | st.sampled_from(["a\nb", 'say "no"', "1,5", "=1+1", " x ", "🙂"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=6,
)


def read(path: Path) -> int | None:
    """Read a file to its end.

    Returns:
        The number of rows, or None if it is refused in one sentence.

    Raises:
        AssertionError: If a row is not what a reader promises, or the refusal is no sentence.
    """
    try:
        table = open_table(path)
        assert table.columns
        count = 0
        for row in table.rows():
            assert all(isinstance(name, str) for name in row)
            assert all(
                value is None or isinstance(value, str | bool | int | float | list | dict)
                for value in row.values()
            )
            count += 1
        assert count
        return count
    except QALoRAError as error:
        sentence = str(error)
        assert sentence.endswith((".", ")")) and len(sentence.splitlines()) == 1, sentence
        return None


def inputs(kind: str) -> st.SearchStrategy[bytes]:
    """Bytes for a file of that kind: some valid, most not, many nearly."""
    parts = kind.split(".")
    if len(parts) == 3:
        plain = inputs(f".{parts[1]}")
        packed = plain.map(_gzip if parts[2] == "gz" else _zstd)
        return st.binary(max_size=60) | packed | damaged(packed)
    valid = _valid(kind)
    soup = st.lists(st.sampled_from(_WORDS), max_size=30).map("".join)
    made = st.binary(max_size=80) | valid | damaged(valid) | damaged(valid)
    if kind in (".parquet", ".xlsx"):
        return made
    return made | st.builds(str.encode, soup, st.sampled_from(["utf-8", "utf-8", "utf-16"]))


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """A file with a few of its bytes changed, lost, doubled or put in, or with its end missing."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        length = draw(st.integers(1, 12))
        how = draw(st.sampled_from(["change", "lose", "double", "put in", "cut"]))
        if how == "change":
            data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif how == "lose":
            del data[at : at + length]
        elif how == "double":
            data[at:at] = data[at : at + length]
        elif how == "put in":
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
        else:
            del data[at:]
    return bytes(data)


def _valid(kind: str) -> st.SearchStrategy[bytes]:
    if kind == ".xlsx":
        return _workbooks()
    if kind == ".parquet":
        return st.lists(_TEXTS | st.none(), min_size=1, max_size=6).flatmap(_parquet)
    if kind in (".csv", ".tsv"):
        rows = st.lists(st.tuples(_TEXTS, _TEXTS, _TEXTS), min_size=1, max_size=5)
        return rows.map(functools.partial(_delimited, kind))
    records = st.lists(
        st.dictionaries(st.sampled_from(["question", "answer", "x"]), _VALUES, max_size=3),
        min_size=1,
        max_size=4,
    )
    if kind == ".jsonl":
        return records.map(lambda rows: "\n".join(map(json.dumps, rows)).encode())
    return records.map(lambda rows: json.dumps(rows, indent=1).encode()) | records.map(_nested)


def _delimited(kind: str, rows: list[tuple[str, ...]]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter="," if kind == ".csv" else "\t")
    writer.writerows([("question", "answer", "context"), *rows])
    return out.getvalue().encode("utf-8", "replace")


def _nested(records: list[dict[str, Any]]) -> bytes:
    questions = [
        {"id": "1", "question": "Why?", "answers": [{"text": "a", "answer_start": 0}], **record}
        for record in records
    ]
    paragraphs = [{"context": "A passage.", "qas": questions}]
    articles = [{"title": "T", "paragraphs": paragraphs}]
    return json.dumps({"version": "v2.0", "data": articles}).encode()


def _parquet(texts: list[str | None]) -> st.SearchStrategy[bytes]:
    count = len(texts)
    table = pa.table(
        {
            "question": texts,
            "answer": [[text, None] for text in texts],
            "score": [0.5] * count,
            "day": [datetime.date(2020, 1, 2)] * count,
            "raw": [b"\xff"] * count,
            "answers": [{"text": [text], "answer_start": [0]} for text in texts],
        }
    )

    def written(compression: str, dictionary: bool) -> bytes:
        sink = pa.BufferOutputStream()
        parquet.write_table(table, sink, compression=compression, use_dictionary=dictionary)
        data: bytes = sink.getvalue().to_pybytes()
        return data

    return st.builds(written, st.sampled_from(["none", "snappy", "zstd", "gzip"]), st.booleans())


@functools.cache
def _book() -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["A title"])
    table = book.create_sheet("Table")
    table.append(["question", "answer", "when", "number"])
    table.append(["Why?", "Because.", datetime.datetime(2020, 1, 2, 3), 1.5])
    table.append(["How much?", "=SUM(D2:D3)", None, True])
    table.append([None, None, datetime.time(1, 2), "x"])
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


@st.composite
def _workbooks(draw: st.DrawFn) -> bytes:
    """A workbook in whose parts something was changed before they were packed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(_book())) as source:
        names = source.namelist()
        chosen = draw(st.sampled_from([None, *names, *[n for n in names if "sheet" in n] * 4]))
        with zipfile.ZipFile(out, "w", draw(st.sampled_from([0, zipfile.ZIP_DEFLATED]))) as target:
            for name in names:
                part = source.read(name)
                if name == chosen:
                    part = draw(damaged(st.just(part)) | _tokens_swapped(part))
                target.writestr(name, part)
    return out.getvalue()


@st.composite
def _tokens_swapped(draw: st.DrawFn, part: bytes) -> bytes:
    """The XML stays whole, and what it says does not make sense."""
    numbers = st.sampled_from([b'"0"', b'"-1"', b'"99999999999"', b'"XFD1"', b'"s"', b'"d"', b'""'])
    pieces = part.split(b'"')
    at = draw(st.integers(0, max((len(pieces) - 2) // 2, 0))) * 2 + 1
    if at < len(pieces):
        pieces[at] = draw(numbers).strip(b'"')
    return b'"'.join(pieces)


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)  # the time of day would make each run's bytes its own


def _zstd(data: bytes) -> bytes:
    packed: bytes = pa.compress(data, codec="zstd", asbytes=True)
    return packed
