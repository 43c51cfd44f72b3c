"""Sources -> examples, a row at a time, and their division."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
from operator import length_hint
from typing import TYPE_CHECKING, Literal

from qa_lora.config import SPLIT_SETTINGS
from qa_lora.data import cache
from qa_lora.data.coming import (
    FIRST_ROWS,
    FROM_FIRST_ROWS,
    ROWS_AT_ONCE,
    Coming,
    Queue,
    Screen,
)
from qa_lora.data.example import QAExample
from qa_lora.data.loaded import LoadedData
from qa_lora.data.mixture import times, weighted
from qa_lora.data.opened import Opened, open_all
from qa_lora.data.parts import Part
from qa_lora.data.picking import counted, picks
from qa_lora.data.reading import Dropped, Reading, SourceRead, unused
from qa_lora.data.split import DataSplit, Removed, split_examples
from qa_lora.data.store import StoredExamples, collect, pick
from qa_lora.errors import DataError

if TYPE_CHECKING:
    from qa_lora.config import TrainConfig

__all__ = [
    "Dropped",
    "LoadedData",
    "SourceRead",
    "begin",
    "load",
    "load_and_split",
    "load_split",
    "with_weights",
]


def load(
    data: str,
    *,
    question_column: str | None = None,
    answer_column: str | None = None,
    context_column: str | None = None,
    answers_from: Literal["all", "human", "chatgpt"] = "all",
    unanswerable: Literal["drop", "answer"] = "drop",
    streaming: bool = False,
    max_rows: int | None = None,
    max_bytes: int | None = None,
    validation_data: str | None = None,
    test_data: str | None = None,
) -> LoadedData:
    """Read sources and make examples of their rows.

    White space around a question or an answer is cut off, and every line break in it becomes a line
    feed; nothing else is changed. A cell with several answers gives one example for each; a chat
    gives one for each turn of the assistant.

    Args:
        data: Sources, one a line, as :func:`qa_lora.data.sources.parse` reads them.
        question_column: The question's column, if its name does not tell; of several sources, those
            that do not have it are read by their own form. The same goes for the other columns.
        answer_column: The answer's column, if its name does not tell.
        context_column: The passage's column, if its name does not tell.
        answers_from: Whose answers to take where a source has those of people and of ChatGPT.
        unanswerable: What becomes of the questions that SQuAD 2.0 marks as without an answer.
        streaming: Read Hub data sets as a stream: their first rows, up to a limit.
        max_rows: Use no more rows than this, spread evenly over all sources, so that a sorted file
            gives a fair sample.
        max_bytes: Refuse a larger file.
        validation_data: Sources whose rows are for validation.
        test_data: Sources whose rows are for test.

    Raises:
        DataError: If a source cannot be read, or none holds a usable row.
        ColumnsError: If the columns cannot be told; it lists them.
    """
    opened = open_all(
        data,
        validation_data,
        test_data,
        streaming=streaming,
        max_rows=max_rows,
        max_bytes=max_bytes,
    )
    rows = _Rows(
        opened,
        named={"question": question_column, "answer": answer_column, "context": context_column},
        answers_from=answers_from,
        unanswerable=unanswerable,
        max_rows=max_rows,
    )
    later = chain.from_iterable(map(rows.later, rows.streams))
    return rows.loaded(collect(chain(rows.first(), chain.from_iterable(each for each, _ in later))))


def load_and_split(config: TrainConfig, *, whole: bool = True) -> tuple[LoadedData, DataSplit]:
    """Read the data that a config names, and divide it as the config says.

    The training side holds every row once, whatever the weights: :func:`load_split` has them. What
    takes long is done once for all processes: see :mod:`qa_lora.data.cache`.

    Of a stream the held-out questions are among its first rows; the later ones follow on the
    training side in the order in which they come.

    Args:
        config: The settings.
        whole: Of a stream, read the later rows too, of which none is held out.

    Raises:
        DataError: If the data cannot be used.
    """
    opened = _open(config)
    origin = cache.Origin(
        settings={name: getattr(config, name) for name in SPLIT_SETTINGS},
        sources=[(each.source.label, each.licence) for each in opened],
        files=[part.files for each in opened for part in each.parts],
    )
    return cache.kept(origin, lambda: _read_and_split(_rows(opened, config), config, whole=whole))


def load_split(config: TrainConfig, *, whole: bool = True) -> DataSplit:
    """The three sides of the data that a config names: the same for training and for scoring.

    Sources with weights come in training as often as these say.

    Args:
        config: The settings.
        whole: As for :func:`load_and_split`.

    Raises:
        DataError: If the data cannot be used.
    """
    return with_weights(*load_and_split(config, whole=whole), config.seed)


def begin(config: TrainConfig) -> tuple[DataSplit, Coming | None]:
    """What a training can begin with.

    Returns:
        The sides as far as they are read, and, if there are later rows of streams, all rows to
        train on as they come: those that :func:`load_split` gives, in another order. Reading them
        raises what reading raises.

    Raises:
        DataError: If the data cannot be used.
    """
    opened = _open(config)
    rows = _rows(opened, config) if any(each.stream for each in opened) else None
    if rows is None or not rows.streams:
        return load_split(config), None
    loaded, split = _read_and_split(rows, config, whole=False)
    split = with_weights(loaded, split, config.seed)
    return split, Coming(rows.queues(loaded, split, config))


def with_weights(loaded: LoadedData, split: DataSplit, seed: int) -> DataSplit:
    """The same division, with training rows as often as the weights of their sources say.

    Args:
        loaded: What was read.
        split: Its division, each row once.
        seed: Of the draw of questions, where a weight is no whole number.
    """
    weights = {each.name: each.weight for each in loaded.sources}
    if all(weight == 1 for weight in weights.values()):
        return split
    streams = {each.name for each in loaded.sources if each.comes_later}
    origins = [loaded.origins[at] for at in _places(split.train, loaded.examples)]
    drawn = weighted(split.train, origins, weights, seed, streams)
    return dataclasses.replace(split, train=pick(split.train, drawn))


def _open(config: TrainConfig) -> list[Opened]:
    return open_all(
        config.data,
        config.validation_data,
        config.test_data,
        streaming=config.streaming,
        max_rows=config.max_rows,
    )


def _rows(opened: Sequence[Opened], config: TrainConfig) -> _Rows:
    return _Rows(
        opened,
        named={
            "question": config.question_column,
            "answer": config.answer_column,
            "context": config.context_column,
        },
        answers_from=config.answers_from,
        unanswerable=config.unanswerable,
        max_rows=config.max_rows,
    )


def _read_and_split(
    rows: _Rows, config: TrainConfig, *, whole: bool
) -> tuple[LoadedData, DataSplit]:
    loaded = rows.loaded(collect(rows.first()))
    split = split_examples(
        loaded.examples,
        validation_fraction=config.validation_fraction,
        test_fraction=config.test_fraction,
        seed=config.seed,
        given=loaded.splits,
        source=loaded.source,
        near_duplicates=config.near_duplicates,
    )
    if not rows.streams:
        return loaded, split
    split = dataclasses.replace(split, notes=(*split.notes, FROM_FIRST_ROWS))
    if not whole:
        to_come = round(sum(map(rows.expected, rows.streams)))
        note = f"About {to_come:,} more rows come while training goes on, and are not counted here."
        return loaded, dataclasses.replace(split, notes=(*split.notes, note), to_come=to_come)
    screen = Screen(split, config.near_duplicates)
    trained: list[int] = []
    removed: list[Removed] = []

    def later() -> Iterator[QAExample]:
        place = len(loaded.examples)
        for number in rows.streams:
            for examples, sides in rows.later(number):
                refusals = screen.refusals(examples, sides)
                for example, refusal in zip(examples, refusals, strict=True):
                    if refusal:
                        removed.append(Removed(example.id, refusal))
                    else:
                        trained.append(place)
                    place += 1
                    yield example

    everything = collect(chain(loaded.examples, later()))
    train, validation, test = (
        _places(side, loaded.examples) for side in (split.train, split.validation, split.test)
    )
    return rows.loaded(everything), dataclasses.replace(
        split,
        train=pick(everything, [*train, *trained]),
        validation=pick(everything, validation),
        test=pick(everything, test),
        removed=(*split.removed, *removed),
    )


class _Rows:
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
        places: list[list[int]] = [[] for _ in self._read]
        number_of = {source.name: number for number, source in enumerate(self._read)}
        for at, place in enumerate(_places(split.train, loaded.examples)):
            places[number_of[loaded.origins[place]]].append(at)
        found = []
        for number, first in enumerate(pick(split.train, each) for each in places):
            is_stream = number in self.streams
            coming = self._screened(number, screen, config.seed) if is_stream else iter(())
            if first or is_stream:
                found.append(Queue(chain(first, coming), len(first) + self.expected(number)))
        return found

    def _screened(self, number: int, screen: Screen, seed: int) -> Iterator[QAExample]:
        weight = self._read[number].weight
        for examples, sides in self.later(number):
            refusals = screen.refusals(examples, sides)
            for example, refusal in zip(examples, refusals, strict=True):
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


def _places(some: Sequence[QAExample], examples: Sequence[QAExample]) -> Sequence[int]:
    """Where among the examples these stand that were picked from them."""
    if isinstance(some, StoredExamples):
        places: list[int] = some.numbers.tolist()
        return places
    place_of = {example.id: place for place, example in enumerate(examples)}
    return [place_of[example.id] for example in some]


def _together(names: Sequence[str]) -> str:
    return " and ".join(names) if len(names) < 3 else f"{names[0]} and {len(names) - 1} more"
