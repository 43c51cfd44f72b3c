"""Sources -> examples, a row at a time, and their division."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Literal

from qa_lora.config import SPLIT_SETTINGS
from qa_lora.data import cache
from qa_lora.data.coming import FROM_FIRST_ROWS, Coming, Screen
from qa_lora.data.example import QAExample
from qa_lora.data.loaded import LoadedData
from qa_lora.data.mixture import weighted
from qa_lora.data.opened import Opened, open_all
from qa_lora.data.reading import Dropped, SourceRead
from qa_lora.data.source_rows import SourceRows, places
from qa_lora.data.split import DataSplit, Removed, split_examples
from qa_lora.data.store import collect, pick

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
    rows = SourceRows(
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
    return _kept(opened, _rows(opened, config), config, whole=whole)


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
    rows = _rows(opened, config)
    loaded, once = _kept(opened, rows, config, whole=False)
    split = with_weights(loaded, once, config.seed)
    return split, Coming(rows.queues(loaded, split, config)) if rows.streams else None


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
    origins = [loaded.origins[at] for at in places(split.train, loaded.examples)]
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


def _rows(opened: Sequence[Opened], config: TrainConfig) -> SourceRows:
    return SourceRows(
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


def _kept(
    opened: Sequence[Opened], rows: SourceRows, config: TrainConfig, *, whole: bool
) -> tuple[LoadedData, DataSplit]:
    origin = cache.Origin(
        settings={name: getattr(config, name) for name in SPLIT_SETTINGS},
        sources=[(each.source.label, each.licence) for each in opened],
        files=[part.files for each in opened for part in each.parts],
    )
    return cache.kept(origin, lambda: _read_and_split(rows, config, whole=whole))


def _read_and_split(
    rows: SourceRows, config: TrainConfig, *, whole: bool
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
        screened = chain.from_iterable(rows.screened(number, screen) for number in rows.streams)
        for place, (example, refusal) in enumerate(screened, len(loaded.examples)):
            if refusal:
                removed.append(Removed(example.id, refusal))
            else:
                trained.append(place)
            yield example

    everything = collect(chain(loaded.examples, later()))
    train, validation, test = (
        places(side, loaded.examples) for side in (split.train, split.validation, split.test)
    )
    return rows.loaded(everything), dataclasses.replace(
        split,
        train=pick(everything, [*train, *trained]),
        validation=pick(everything, validation),
        test=pick(everything, test),
        removed=(*split.removed, *removed),
    )
