"""Examples on disk: a million rows in the memory of a few thousand."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from qa_lora.data.example import QAExample

if TYPE_CHECKING:
    from datasets import Dataset
    from datasets.arrow_writer import ArrowWriter

__all__ = [
    "CHUNK",
    "IN_MEMORY",
    "Collection",
    "StoredExamples",
    "collect",
    "pick",
    "read_many",
    "text_lengths",
]

IN_MEMORY = 20_000
"""Up to so many examples stay Python objects, which are quicker to use."""

CHUNK = 10_000
"""Rows that are Python objects at a time, on the way to the disk and back."""

_FILE = "examples.arrow"
_COLUMNS = [field.name for field in dataclasses.fields(QAExample)]


class StoredExamples(Sequence[QAExample]):
    """Examples in a memory-mapped Arrow file: rows that nobody reads cost 8 bytes each."""

    def __init__(self, rows: Dataset, order: np.ndarray | None = None) -> None:
        """Examples of a data set as :func:`collect` writes it.

        Args:
            rows: All of them.
            order: (N,) which of them, in which order; all when None.
        """
        self._rows = rows
        self._batches = rows.data.table.to_batches()
        self._starts = np.cumsum([0, *(len(batch) for batch in self._batches)])
        self._order = np.arange(len(rows)) if order is None else order

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, index: int) -> QAExample: ...
    @overload
    def __getitem__(self, index: slice) -> StoredExamples: ...
    def __getitem__(self, index: int | slice) -> QAExample | StoredExamples:
        if isinstance(index, slice):
            return StoredExamples(self._rows, self._order[index])
        return self.many([index])[0]

    def __iter__(self) -> Iterator[QAExample]:
        for start in range(0, len(self), CHUNK):
            yield from self.many(range(start, min(start + CHUNK, len(self))))

    def pick(self, indices: Sequence[int]) -> StoredExamples:
        """Those with these indices, in that order; the file is shared."""
        return StoredExamples(self._rows, self._order[np.asarray(indices, dtype=np.int64)])

    def many(self, indices: Sequence[int]) -> list[QAExample]:
        """Those with these indices, read together: much quicker than one by one."""
        numbers = self._order[np.asarray(indices, dtype=np.int64)]
        found: list[Any] = [None] * len(numbers)
        batch_of = np.searchsorted(self._starts, numbers, side="right") - 1
        # Arrow's own take() over many batches is slower, and so is that of datasets.
        for batch in np.unique(batch_of):
            places = np.nonzero(batch_of == batch)[0]
            rows = self._batches[batch].take(numbers[places] - self._starts[batch]).to_pydict()
            for place, *texts in zip(places, *(rows[name] for name in _COLUMNS), strict=True):
                found[place] = _example(*texts)
        return found

    @property
    def numbers(self) -> np.ndarray:
        """(N,) which rows of the file these are."""
        return self._order

    @property
    def bytes(self) -> int:
        """How large the file is, about."""
        return int(self._rows.data.nbytes)

    def write(self, path: Path) -> None:
        """Write the whole file anew, for :meth:`open`.

        Raises:
            OSError: If the disk is full or the file cannot be written.
        """
        import pyarrow as pa

        with pa.OSFile(str(path), "wb") as file:
            with pa.ipc.new_stream(file, self._batches[0].schema) as writer:
                for batch in self._batches:
                    writer.write_batch(batch)

    @classmethod
    def open(cls, path: Path) -> StoredExamples:
        """All examples of a file that was written before.

        Raises:
            OSError: If it cannot be read.
            ValueError: If it is no such file.
        """
        import datasets

        rows = datasets.Dataset.from_file(str(path))
        if rows.column_names != _COLUMNS:
            raise ValueError(f"{path} does not hold examples")
        return cls(rows)

    def text_lengths(self) -> np.ndarray:
        """Characters of question, context, earlier turns and answer together; (N,) int64."""
        import pyarrow.compute as pc

        texts = ("question", "context", "history", "answer")
        lengths = [
            sum(pc.utf8_length(batch.column(name)).to_numpy() for name in texts)
            for batch in self._batches
        ]
        return np.concatenate(lengths).astype(np.int64)[self._order]


class Collection:
    """Examples that come one after the other; more than a few go to a temporary Arrow file.

    All columns of the file hold text. Earlier turns and facts are JSON, or nothing where there are
    none.
    """

    def __init__(self, in_memory: int = IN_MEMORY) -> None:
        """An empty one.

        Args:
            in_memory: Up to so many stay Python objects. The file is gone with the process.
        """
        self._in_memory = in_memory
        self._waiting: list[QAExample] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._writer: ArrowWriter | None = None

    def add(self, example: QAExample) -> None:
        """Add one at the end.

        Raises:
            OSError: If the disk is full.
        """
        self._waiting.append(example)
        if len(self._waiting) > (self._in_memory if self._writer is None else CHUNK):
            self._write(CHUNK)

    def close(self) -> Sequence[QAExample]:
        """All of them: a tuple, or :class:`StoredExamples`.

        Raises:
            OSError: If the disk is full.
        """
        if self._writer is None or self._folder is None:
            return tuple(self._waiting)
        import datasets

        self._write(1)
        self._writer.finalize()
        # Mapped pages stay readable after the name is gone; where the system keeps files that are
        # in use, the folder is left to the system's own cleaning.
        with self._folder as folder:
            return StoredExamples(datasets.Dataset.from_file(str(Path(folder) / _FILE)))

    def _write(self, least: int) -> None:
        """Write what waits, in chunks of at least so many: rows are found quicker in few."""
        import pyarrow as pa
        from datasets.arrow_writer import ArrowWriter

        schema = pa.schema([(name, pa.large_string()) for name in _COLUMNS])
        if self._writer is None:
            self._folder = tempfile.TemporaryDirectory(
                prefix="qa-lora-", ignore_cleanup_errors=True
            )
            self._writer = ArrowWriter(path=str(Path(self._folder.name) / _FILE), schema=schema)
        while len(self._waiting) >= least:
            columns = zip(*map(_texts, self._waiting[:CHUNK]), strict=True)
            arrays = [pa.array(column, pa.large_string()) for column in columns]
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=schema), CHUNK)
            del self._waiting[:CHUNK]


def collect(examples: Iterable[QAExample], *, in_memory: int = IN_MEMORY) -> Sequence[QAExample]:
    """Keep examples: a few as a tuple, many as :class:`StoredExamples`.

    Args:
        examples: Read once, and never held all at a time when there are many.
        in_memory: More than so many go to a temporary file, which is gone with the process.

    Raises:
        OSError: If the disk is full.
    """
    collection = Collection(in_memory)
    for example in examples:
        collection.add(example)
    return collection.close()


def pick(examples: Sequence[QAExample], indices: Sequence[int]) -> Sequence[QAExample]:
    """Those with these indices, in that order, kept as the whole is."""
    if isinstance(examples, StoredExamples):
        return examples.pick(indices)
    return tuple(examples[i] for i in indices)


def read_many(examples: Sequence[QAExample], indices: Sequence[int]) -> list[QAExample]:
    """Those with these indices, in that order; at once where they can be read together."""
    many = getattr(examples, "many", None)
    return [examples[i] for i in indices] if many is None else list(many(indices))


def text_lengths(examples: Sequence[QAExample]) -> np.ndarray:
    """Characters of question, context, earlier turns and answer of each together; (N,) int64."""
    if isinstance(examples, StoredExamples):
        return examples.text_lengths()
    rows = ((e.question, e.context, e.answer, *chain(*e.history)) for e in examples)
    return np.array([sum(map(len, texts)) for texts in rows], dtype=np.int64)


def _texts(example: QAExample) -> tuple[str, ...]:
    history = json.dumps(example.history) if example.history else ""
    facts = json.dumps(example.facts) if example.facts else ""
    return example.id, example.question, example.answer, example.context, history, facts


def _example(
    id: str, question: str, answer: str, context: str, history: str, facts: str
) -> QAExample:
    return QAExample(
        id=id,
        question=question,
        answer=answer,
        context=context,
        history=tuple((q, a) for q, a in json.loads(history)) if history else (),
        facts=tuple(json.loads(facts)) if facts else (),
    )
