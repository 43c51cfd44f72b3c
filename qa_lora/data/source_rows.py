"""The rows of all sources -> examples: first those before a training, then those of streams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
from operator import length_hint
from typing import TYPE_CHECKING, Literal

from qa_lora.data.coming import FIRST_ROWS, ROWS_AT_ONCE, Queue, Screen
from qa_lora.data.example import QAExample
from qa_lora.data.loaded import LoadedData
from qa_lora.data.mixture import times
from qa_lora.data.opened import Opened
from qa_lora.data.parts import Part
from qa_lora.data.picking import counted, picks
from qa_lora.data.reading import Reading, SourceRead, unused
from qa_lora.data.split import DataSplit
from qa_lora.data.store import StoredExamples, pick
from qa_lora.errors import DataError

if TYPE_CHECKING:
    from qa_lora.config import TrainConfig

__all__ = ["SourceRows", "places"]


class SourceRows:
    """The rows of all sources, to be read once: first those before a training, then the others."""

    def __init__(
        self,
        opened: Sequence[Opened],
        *,
        named: dict[str, str | None],
        answers_from: Literal["all", "human", "chatgpt"],
        unanswerable: Literal["drop", "answer"],
        max_rows: int | None,
    ) -> None:
        """Prepare to read.

        Args:
            opened: The sources.
            named: The columns that the user named for question, answer and context.
            answers_from: As for :func:`qa_lora.data.forms.recognise`.
            unanswerable: As for :func:`qa_lora.data.forms.recognise`.
            max_rows: At most this many rows of all together.

        Raises:
            ColumnsError: If none of several tables has a column that the user named.
        """
        self._opened = opened
        self._max_rows = max_rows
        self._read: list[SourceRead] = []
        for each in opened:
            name = unused(each.source.label, {other.name for other in self._read})
            self._read.append(
                SourceRead(name, weight=each.source.weight, side=each.side, licence=each.licence)
            )
        self._reading = Reading(
            named=named,
            answers_from=answers_from,
            unanswerable=unanswerable,
            parts=[each.parts for each in opened],
        )

    @cached_property
    def _picked(self) -> list[tuple[Sequence[Part], Iterator[int], int]]:
        """The parts of each source, the rows to use, and how many of these come later."""
        limited = self._max_rows is not None or any(each.source.rows for each in self._opened)
        parts: list[Sequence[Part]] = []
        lengths: list[int | None] = []
        for each in self._opened:
            found = counted(each.parts) if limited and not each.stream else each.parts
            parts.append(found)
            sizes = [part.rows for part in found if part.rows is not None]
            lengths.append(sum(sizes) if len(sizes) == len(found) else None)
        numbers = picks(lengths, [each.source.rows for each in self._opened], self._max_rows)
        later = [
            _later(each, length_hint(chosen))
            for each, chosen in zip(self._opened, numbers, strict=True)
        ]
        return list(zip(parts, numbers, later, strict=True))

    @cached_property
    def _each(self) -> list[Iterator[list[QAExample]]]:
        """The examples of each row of each source."""
        for source, (_, _, later) in zip(self._read, self._picked, strict=True):
            source.comes_later = later > 0
        return [
            self._reading.by_row(source, parts, numbers)
            for source, (parts, numbers, _) in zip(self._read, self._picked, strict=True)
        ]

    @property
    def streams(self) -> list[int]:
        """The numbers of the sources that have later rows."""
        if not any(each.stream for each in self._opened):
            return []
        return [number for number, (_, _, later) in enumerate(self._picked) if later]

    def first(self) -> Iterator[QAExample]:
        """All examples, of streams those of the first rows."""
        for rows, (_, _, later) in zip(self._each, self._picked, strict=True):
            yield from chain.from_iterable(islice(rows, FIRST_ROWS) if later else rows)

    def later(self, number: int) -> Iterator[tuple[list[QAExample], list[str | None]]]:
        """The examples of the later rows of a stream, and the sides that it names for them."""
        splits = self._reading.splits
        while rows := list(islice(self._each[number], ROWS_AT_ONCE)):
            examples = list(chain.from_iterable(rows))
            yield examples, splits[len(splits) - len(examples) :]

    def expected(self, number: int) -> float:
        """About how many examples to train on the later rows of a source give, with its weight."""
        source = self._read[number]
        _, _, later = self._picked[number]
        return later * source.weight * source.examples / max(1, source.rows_read)

    def queues(self, loaded: LoadedData, split: DataSplit, config: TrainConfig) -> list[Queue]:
        """What there is to train on, by source.

        Args:
            loaded: The first rows.
            split: Their division, with weights.
            config: The settings.
        """
        screen = Screen(split, config.near_duplicates)
        trained: list[list[int]] = [[] for _ in self._read]
        number_of = {source.name: number for number, source in enumerate(self._read)}
        for at, place in enumerate(places(split.train, loaded.examples)):
            trained[number_of[loaded.origins[place]]].append(at)
        found = []
        for number, first in enumerate(pick(split.train, each) for each in trained):
            is_stream = number in self.streams
            coming = self._trained(number, screen, config.seed) if is_stream else iter(())
            if first or is_stream:
                found.append(Queue(chain(first, coming), len(first) + self.expected(number)))
        return found

    def screened(self, number: int, screen: Screen) -> Iterator[tuple[QAExample, str]]:
        """The examples of the later rows of a stream, and why each is not trained on, if it isn't.

        Args:
            number: Of the source.
            screen: Knows the held-out questions.
        """
        for examples, sides in self.later(number):
            yield from zip(examples, screen.refusals(examples, sides), strict=True)

    def _trained(self, number: int, screen: Screen, seed: int) -> Iterator[QAExample]:
        weight = self._read[number].weight
        for example, refusal in self.screened(number, screen):
            if not refusal:
                yield from [example] * times(example, weight, seed)

    def loaded(self, examples: Sequence[QAExample]) -> LoadedData:
        """These examples, and what is known of where they come from.

        Args:
            examples: All that was read so far.

        Raises:
            DataError: If there is none.
        """
        reading = self._reading
        name = _together([each.name for each in self._read])
        if not len(examples):
            dropped = reading.dropped[0]
            raise DataError(
                f"{name} holds no usable row: all {len(reading.dropped):,} are dropped, "
                f"row {dropped.row} for its {dropped.reason}."
            )
        return LoadedData(
            examples=examples,
            columns=next(each.columns for each in self._read if each.columns is not None),
            column_names=tuple(
                dict.fromkeys(name for each in self._read for name in each.column_names)
            ),
            dropped=reading.dropped,
            rows_read=sum(each.rows_read for each in self._read),
            rows_in_source=sum(each.rows_in_source for each in self._read),
            splits=reading.splits,
            rows=reading.rows,
            files=reading.files,
            origins=reading.origins,
            sources=tuple(self._read),
            source=name,
        )


def _later(opened: Opened, wanted: int) -> int:
    """About how many of the wanted rows come after the training has begun."""
    # What is held out as a whole must be here before it begins.
    if not opened.stream or opened.side is not None:
        return 0
    known = [part.expected for part in opened.parts if part.expected is not None]
    if len(known) == len(opened.parts):
        wanted = min(wanted, sum(known))
    return max(0, wanted - FIRST_ROWS)


def places(some: Sequence[QAExample], examples: Sequence[QAExample]) -> Sequence[int]:
    """Where among the examples these stand that were picked from them."""
    if isinstance(some, StoredExamples):
        places: list[int] = some.numbers.tolist()
        return places
    place_of = {example.id: place for place, example in enumerate(examples)}
    return [place_of[example.id] for example in some]


def _together(names: Sequence[str]) -> str:
    return " and ".join(names) if len(names) < 3 else f"{names[0]} and {len(names) - 1} more"
