"""A table -> examples, with account of what could not be used."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qa_lora.data.columns import ColumnMap, find_columns
from qa_lora.data.example import QAExample
from qa_lora.data.readers import cell_texts
from qa_lora.data.sources import SPLIT_NAMES, read_table, source_name
from qa_lora.data.split import DataSplit, fingerprint, split_examples
from qa_lora.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

    from qa_lora.config import TrainConfig

__all__ = ["Dropped", "LoadedData", "load", "load_and_split", "load_split"]


@dataclass(frozen=True)
class Dropped:
    """A row that cannot be used."""

    row: int
    """1-based, among the data rows of the source."""
    reason: str


@dataclass(frozen=True)
class LoadedData:
    """The usable examples of a source, and what became of the rest."""

    examples: tuple[QAExample, ...]
    columns: ColumnMap
    column_names: tuple[str, ...]
    """All columns of the source, for a form that offers them."""
    dropped: tuple[Dropped, ...]
    rows_read: int
    """Rows looked at: all of the source, or as many as were asked for."""
    rows_in_source: int
    splits: tuple[str | None, ...]
    """train, validation or test, where the source says it, for each example."""
    rows: tuple[int, ...]
    """The 1-based row that each example comes from."""
    fingerprint: str
    """Of all examples, whatever their order."""
    source: str
    """Short name, for messages and reports."""


def load(
    source: str,
    *,
    question_column: str | None = None,
    answer_column: str | None = None,
    context_column: str | None = None,
    max_rows: int | None = None,
    max_bytes: int | None = None,
) -> LoadedData:
    """Read a source and make examples of its rows.

    White space around a question or an answer is cut off, and every line break in it becomes a line
    feed; nothing else is changed. A cell with several answers gives one example for each.

    Args:
        source: As for :func:`qa_lora.data.sources.read_table`.
        question_column: The question's column, if its name does not tell.
        answer_column: The answer's column, if its name does not tell.
        context_column: The passage's column, if its name does not tell.
        max_rows: Use no more rows than this, spread evenly over the source, so that a sorted file
            gives a fair sample.
        max_bytes: Refuse a larger file.

    Raises:
        DataError: If the source cannot be read or holds no usable row.
        ColumnsError: If the columns cannot be told; it lists them.
    """
    table = read_table(source, max_bytes=max_bytes)
    name = source_name(source)
    columns = find_columns(
        table.column_names,
        question=question_column,
        answer=answer_column,
        context=context_column,
        source=name,
    )
    total = table.num_rows
    count = min(total, max_rows or total)
    numbers = [i * total // count for i in range(count)]
    if count < total:
        table = table.take(numbers)

    questions = _column(table, columns.question)
    answers = _column(table, columns.answer)
    contexts = _column(table, columns.context)
    facts = _column(table, columns.fact)
    ids = _column(table, columns.id)
    labels = _split_labels(_column(table, columns.split), columns.split, name, numbers)
    if not any(labels):
        columns = dataclasses.replace(columns, split=None)

    examples: list[QAExample] = []
    splits: list[str | None] = []
    rows: list[int] = []
    dropped: list[Dropped] = []
    used_ids = _UniqueIds()
    for at, number in enumerate(numbers):
        if len(questions[at]) != 1:
            reason = "several questions in one cell" if questions[at] else "empty question"
            dropped.append(Dropped(number + 1, reason))
            continue
        if not answers[at]:
            dropped.append(Dropped(number + 1, "empty answer"))
            continue
        row_id = ids[at][0] if ids[at] else f"row-{number + 1}"
        for answer in answers[at]:
            example = QAExample(
                id=used_ids.make(row_id),
                question=questions[at][0],
                answer=answer,
                context="\n".join(contexts[at]),
                facts=facts[at],
            )
            examples.append(example)
            splits.append(labels[at])
            rows.append(number + 1)
    if not examples:
        first = dropped[0]
        raise DataError(
            f"{name} holds no usable row: all {len(dropped):,} are dropped, "
            f"row {first.row} for its {first.reason}."
        )
    return LoadedData(
        examples=tuple(examples),
        columns=columns,
        column_names=tuple(table.column_names),
        dropped=tuple(dropped),
        rows_read=count,
        rows_in_source=total,
        splits=tuple(splits),
        rows=tuple(rows),
        fingerprint=fingerprint(examples),
        source=name,
    )


def load_and_split(config: TrainConfig) -> tuple[LoadedData, DataSplit]:
    """Read the data that a config names, and divide it as the config says.

    Raises:
        DataError: If the data cannot be used.
    """
    loaded = load(
        config.data,
        question_column=config.question_column,
        answer_column=config.answer_column,
        context_column=config.context_column,
        max_rows=config.max_rows,
    )
    split = split_examples(
        loaded.examples,
        validation_fraction=config.validation_fraction,
        test_fraction=config.test_fraction,
        seed=config.seed,
        given=loaded.splits,
        source=loaded.source,
        near_duplicates=config.near_duplicates,
    )
    return loaded, split


def load_split(config: TrainConfig) -> DataSplit:
    """The three sides of the data that a config names: the same for training and for scoring.

    Raises:
        DataError: If the data cannot be used.
    """
    return load_and_split(config)[1]


class _UniqueIds:
    """Gives every example its own id: a, a#2, a#3."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.times: dict[str, int] = {}

    def make(self, wanted: str) -> str:
        made = wanted
        while made in self.seen:
            self.times[wanted] = self.times.get(wanted, 1) + 1
            made = f"{wanted}#{self.times[wanted]}"
        self.seen.add(made)
        return made


def _column(table: pa.Table, name: str | None) -> list[tuple[str, ...]]:
    """The different, non-empty, trimmed texts of each cell."""
    if name is None:
        return [()] * int(table.num_rows)
    return [_clean(value) for value in table.column(name).to_pylist()]


def _clean(value: object) -> tuple[str, ...]:
    texts = (t.replace("\r\n", "\n").replace("\r", "\n").strip() for t in cell_texts(value))
    return tuple(dict.fromkeys(text for text in texts if text))


def _split_labels(
    cells: Sequence[tuple[str, ...]], column: str | None, source: str, numbers: Sequence[int]
) -> list[str | None]:
    """The side of each row; all None if the column has no value that names one."""
    labels = [SPLIT_NAMES.get(cell[0].casefold()) if cell else None for cell in cells]
    if any(labels):
        for cell, label, number in zip(cells, labels, numbers, strict=True):
            if cell and label is None:
                raise DataError(
                    f"{source}, row {number + 1}: the column {column} says {cell[0]!r}.",
                    "It must say train, validation or test, or nothing.",
                )
    return labels
