"""Parts of sources -> examples, one after the other, with account of every row."""

from __future__ import annotations

import dataclasses
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Literal, overload

from qa_lora.data.columns import ColumnMap, ColumnsError
from qa_lora.data.example import QAExample
from qa_lora.data.forms import HEAD_ROWS, Form, Row, UnusableError, read_row, recognise, texts
from qa_lora.data.names import NameList
from qa_lora.data.parts import Part
from qa_lora.data.sources import SPLIT_NAMES
from qa_lora.errors import DataError

__all__ = ["Dropped", "Drops", "Reading", "SourceRead", "unused"]

TEXTS_KEPT = 5
"""Of so many rows dropped for one reason the text is kept, to show it."""
LONGEST_TEXT = 200


@dataclass(frozen=True)
class Dropped:
    """A row that cannot be used."""

    row: int
    """1-based, among the data rows of its file."""
    reason: str
    file: str = ""
    """Its file or Hub split, where there are several."""
    text: str = field(default="", compare=False)
    """What it holds, of the first few that are dropped for a reason."""


class Drops(Sequence[Dropped]):
    """The dropped rows in order, in a few bytes each."""

    def __init__(self) -> None:
        self._rows = array("q")
        self._reasons: NameList[str] = NameList()
        self._files: NameList[str] = NameList()
        self._texts: dict[int, str] = {}
        self._times: Counter[str] = Counter()

    @classmethod
    def of(
        cls,
        rows: array[int],
        reasons: NameList[str],
        files: NameList[str],
        shown: Mapping[int, str],
    ) -> Drops:
        """Those that have these :attr:`rows`, :attr:`reasons`, :attr:`files` and :attr:`shown`."""
        made = cls()
        made._rows, made._reasons, made._files = rows, reasons, files
        made._texts = dict(shown)
        made._times = Counter(reasons)
        return made

    @property
    def rows(self) -> array[int]:
        """The row of each."""
        return self._rows

    @property
    def reasons(self) -> NameList[str]:
        """The reason of each."""
        return self._reasons

    @property
    def files(self) -> NameList[str]:
        """The file of each, or nothing."""
        return self._files

    @property
    def shown(self) -> Mapping[int, str]:
        """By its place among the dropped: what a row holds, of a few."""
        return self._texts

    def add(self, row: int, reason: str, file: str, cells: Row) -> None:
        """Add a row at the end."""
        self._times[reason] += 1
        if self._times[reason] <= TEXTS_KEPT:
            held = chain.from_iterable(map(texts, cells.values()))
            self._texts[len(self)] = " | ".join(held)[:LONGEST_TEXT]
        self._rows.append(row)
        self._reasons.append(reason)
        self._files.append(file)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Dropped: ...
    @overload
    def __getitem__(self, index: slice) -> list[Dropped]: ...
    def __getitem__(self, index: int | slice) -> Dropped | list[Dropped]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        return Dropped(self._rows[at], self._reasons[at], self._files[at], self._texts.get(at, ""))


@dataclass
class SourceRead:
    """What became of one source; filled while it is read."""

    name: str
    """Short, and different for each source."""
    weight: float = 1.0
    side: str | None = None
    """The side of all its rows, where the settings say it."""
    licence: str | None = None
    """As its own card names it."""
    form: str = ""
    """What its rows were recognised as, for people."""
    columns: ColumnMap | None = None
    """Of its first file."""
    column_names: tuple[str, ...] = ()
    comes_later: bool = False
    """Whether it is a stream of which rows come while a training goes on."""
    rows_read: int = 0
    rows_in_source: int = 0
    examples: int = 0


class Reading:
    """Reads sources into examples; keeps for each example where it comes from.

    Attributes:
        splits: The side that the source itself names for each example.
        rows: The 1-based row of its file.
        files: Its file or Hub split.
        origins: Its source's name.
        dropped: The rows that gave no example.
    """

    def __init__(
        self,
        *,
        named: dict[str, str | None],
        answers_from: Literal["all", "human", "chatgpt"],
        unanswerable: Literal["drop", "answer"],
        parts: Sequence[Sequence[Part]],
    ) -> None:
        """Prepare to read.

        Args:
            named: The columns that the user named for question, answer and context.
            answers_from: As for :func:`qa_lora.data.forms.recognise`.
            unanswerable: As for :func:`qa_lora.data.forms.recognise`.
            parts: All parts of all sources.

        Raises:
            ColumnsError: If none of several parts has a column that the user named.
        """
        every = [part for each in parts for part in each]
        self.several = len(every) > 1
        self.named = named
        self.answers_from = answers_from
        self.unanswerable = unanswerable
        self.splits: NameList[str | None] = NameList()
        self.rows = array("q")
        self.files: NameList[str] = NameList()
        self.origins: NameList[str] = NameList()
        self.dropped = Drops()
        self._file_names: set[str] = set()
        self._ids = _UniqueIds()
        have = dict.fromkeys(name for part in every for name in part.table.columns)
        for role, name in named.items():
            if self.several and name and name not in have:
                raise ColumnsError(
                    f"No source has a column {name!r} for the {role}.",
                    "Write the name as one of them has it.",
                    list(have),
                )

    def by_row(
        self, source: SourceRead, parts: Sequence[Part], numbers: Iterator[int]
    ) -> Iterator[list[QAExample]]:
        """Read a source a row at a time.

        Args:
            source: What is told of it; filled meanwhile.
            parts: Its parts.
            numbers: The rows to use: 0-based, rising, counted over all parts.

        Yields:
            For each row that is used its examples: one or several, none if it is dropped.
        """
        source.rows_in_source = sum(part.rows or 0 for part in parts)
        form: Form | None = None
        split_column = False
        columns: tuple[str, ...] = ()
        wanted = next(numbers, None)
        start = 0
        for part in parts:
            if wanted is None:
                break
            file = unused(part.table.name, self._file_names)
            self._file_names.add(file)
            if part.rows is not None and wanted >= start + part.rows:
                start += part.rows
                continue
            # Read once: the first rows of a stream need not come twice over the network.
            rows = part.table.rows()
            head = list(islice(rows, HEAD_ROWS))
            if form is None or part.table.columns != columns:
                form, columns = self._recognise(part, head), part.table.columns
            if source.columns is None:
                source.form, source.columns = form.name, form.columns
            source.column_names = tuple(dict.fromkeys((*source.column_names, *columns)))
            sides = _Sides(form, part, source, file)
            rows = chain(head, rows)
            del head  # long texts are not kept until the last row
            number = 0
            for number, row in enumerate(rows, 1):
                if wanted != start + number - 1:
                    continue
                wanted = next(numbers, None)
                source.rows_read += 1
                yield list(self._of_row(row, number, form, source, file, sides.of(row, number)))
                if wanted is None:
                    break
            sides.check()
            split_column = split_column or sides.known
            start += number if part.rows is None else part.rows
        source.rows_in_source = max(source.rows_in_source, source.rows_read)
        if source.columns is not None and not split_column:
            source.columns = dataclasses.replace(source.columns, split=None)

    def _recognise(self, part: Part, head: Sequence[Row]) -> Form:
        table = part.table
        named = {
            role: name if not self.several or name in table.columns else None
            for role, name in self.named.items()
        }
        return recognise(
            table.columns,
            head,
            answers_from=self.answers_from,
            unanswerable=self.unanswerable,
            source=table.name,
            **named,
        )

    def _of_row(
        self, row: Row, number: int, form: Form, source: SourceRead, file: str, side: str | None
    ) -> Iterator[QAExample]:
        try:
            said = read_row(form, row)
        except UnusableError as reason:
            self.dropped.add(number, str(reason), file if self.several else "", row)
            return
        plain = f"{file}:row-{number}" if self.several else f"row-{number}"
        own = texts(row.get(form.columns.id)) if form.columns.id else ()
        for at, (question, answer, context, history, facts) in enumerate(said, 1):
            if form.columns.id:
                name = self._ids.make(own[0] if own else plain)
            else:  # numbers repeat nowhere, so that nobody has to remember them all
                name = plain if at == 1 else f"{plain}#{at}"
            source.examples += 1
            self.splits.append(side)
            self.rows.append(number)
            self.files.append(file)
            self.origins.append(source.name)
            yield QAExample(name, question, answer, context, history, facts)


class _Sides:
    """The side that each row of a part is on, as far as the source says it."""

    def __init__(self, form: Form, part: Part, source: SourceRead, file: str) -> None:
        self.column = None if source.side else form.columns.split
        self.otherwise = source.side or part.side
        self.file = file
        self.known = False
        self.unknown: tuple[int, str] | None = None

    def of(self, row: Row, number: int) -> str | None:
        cell = texts(row.get(self.column)) if self.column else ()
        label = SPLIT_NAMES.get(cell[0].casefold()) if cell else None
        if label:
            self.known = True
        elif cell and self.unknown is None:
            self.unknown = number, cell[0]
        return label or self.otherwise

    def check(self) -> None:
        """A column that names a side anywhere must name one, or nothing, everywhere."""
        if self.known and self.unknown:
            number, said = self.unknown
            raise DataError(
                f"{self.file}, row {number}: the column {self.column} says {said!r}.",
                "It must say train, validation or test, or nothing.",
            )


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


def unused(name: str, used: set[str]) -> str:
    """The name, or the first of name#2, name#3 ... that is not used."""
    made, times = name, 1
    while made in used:
        times += 1
        made = f"{name}#{times}"
    return made
