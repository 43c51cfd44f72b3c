"""Sources -> examples, a row at a time, and their division."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from qa_lora.bundled import ATLAS
from qa_lora.config import SPLIT_SETTINGS
from qa_lora.data import cache
from qa_lora.data.hub_tables import hub_licence, open_hub
from qa_lora.data.loaded import LoadedData
from qa_lora.data.mixture import weighted
from qa_lora.data.parts import Part, licence_in, open_local
from qa_lora.data.picking import counted, picks
from qa_lora.data.reading import Dropped, Reading, SourceRead, unused
from qa_lora.data.sources import Source, parse
from qa_lora.data.split import DataSplit, split_examples
from qa_lora.data.store import StoredExamples, collect, pick
from qa_lora.errors import DataError

if TYPE_CHECKING:
    from qa_lora.config import TrainConfig

__all__ = [
    "Dropped",
    "LoadedData",
    "SourceRead",
    "licence_of",
    "load",
    "load_and_split",
    "load_split",
    "with_weights",
]


@dataclass(frozen=True)
class _Opened:
    """A source that can be read; of its rows, no more than the first ones are read already."""

    source: Source
    side: str | None
    """The side of all its rows, where the settings say it."""
    parts: Sequence[Part]
    licence: str | None
    stream: bool


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
    opened = _open_all(
        data,
        validation_data,
        test_data,
        streaming=streaming,
        max_rows=max_rows,
        max_bytes=max_bytes,
    )
    return _read(
        opened,
        named={"question": question_column, "answer": answer_column, "context": context_column},
        answers_from=answers_from,
        unanswerable=unanswerable,
        max_rows=max_rows,
    )


def load_and_split(config: TrainConfig) -> tuple[LoadedData, DataSplit]:
    """Read the data that a config names, and divide it as the config says.

    The training side holds every row once, whatever the weights: :func:`load_split` has them. What
    takes long is done once for all processes: see :mod:`qa_lora.data.cache`.

    Raises:
        DataError: If the data cannot be used.
    """
    opened = _open_all(
        config.data,
        config.validation_data,
        config.test_data,
        streaming=config.streaming,
        max_rows=config.max_rows,
    )
    origin = cache.Origin(
        settings={name: getattr(config, name) for name in SPLIT_SETTINGS},
        sources=[(each.source.label, each.licence) for each in opened],
        files=[part.files for each in opened for part in each.parts],
    )
    return cache.kept(origin, lambda: _read_and_split(opened, config))


def load_split(config: TrainConfig) -> DataSplit:
    """The three sides of the data that a config names: the same for training and for scoring.

    Sources with weights come in training as often as these say.

    Raises:
        DataError: If the data cannot be used.
    """
    return with_weights(*load_and_split(config), config.seed)


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
    if isinstance(split.train, StoredExamples):
        origins = [loaded.origins[number] for number in split.train.numbers.tolist()]
    else:
        origin_of = {e.id: name for e, name in zip(loaded.examples, loaded.origins, strict=True)}
        origins = [origin_of[example.id] for example in split.train]
    drawn = weighted(split.train, origins, weights, seed)
    return dataclasses.replace(split, train=pick(split.train, drawn))


def _read_and_split(opened: Sequence[_Opened], config: TrainConfig) -> tuple[LoadedData, DataSplit]:
    loaded = _read(
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


def _open_all(
    data: str,
    validation_data: str | None,
    test_data: str | None,
    *,
    streaming: bool,
    max_rows: int | None,
    max_bytes: int | None = None,
) -> list[_Opened]:
    """Open all sources that the settings name."""
    wanted = [
        (source, side)
        for text, side in ((data, None), (validation_data, "validation"), (test_data, "test"))
        if text or side is None
        for source in parse(text or "")
    ]
    return [
        _Opened(
            source,
            side,
            _open(source, streaming=streaming, max_rows=max_rows, max_bytes=max_bytes),
            licence_of(source),
            _is_stream(source, streaming),
        )
        for source, side in wanted
    ]


def _read(
    opened: Sequence[_Opened],
    *,
    named: dict[str, str | None],
    answers_from: Literal["all", "human", "chatgpt"],
    unanswerable: Literal["drop", "answer"],
    max_rows: int | None,
) -> LoadedData:
    """Make examples of the rows of all sources."""
    limited = max_rows is not None or any(each.source.rows for each in opened)
    read: list[SourceRead] = []
    parts: list[Sequence[Part]] = []
    lengths: list[int | None] = []
    for each in opened:
        found = counted(each.parts) if limited and not each.stream else each.parts
        parts.append(found)
        sizes = [part.rows for part in found if part.rows is not None]
        lengths.append(sum(sizes) if len(sizes) == len(found) else None)
        name = unused(each.source.label, {other.name for other in read})
        read.append(
            SourceRead(name, weight=each.source.weight, side=each.side, licence=each.licence)
        )
    reading = Reading(
        named=named, answers_from=answers_from, unanswerable=unanswerable, parts=parts
    )
    numbers = picks(lengths, [each.source.rows for each in opened], max_rows)
    examples = collect(
        example
        for source, of_source, chosen in zip(read, parts, numbers, strict=True)
        for example in reading.examples(source, of_source, chosen)
    )
    name = _together([each.name for each in read])
    if not len(examples):
        first = reading.dropped[0]
        raise DataError(
            f"{name} holds no usable row: all {len(reading.dropped):,} are dropped, "
            f"row {first.row} for its {first.reason}."
        )
    return LoadedData(
        examples=examples,
        columns=next(each.columns for each in read if each.columns is not None),
        column_names=tuple(dict.fromkeys(name for each in read for name in each.column_names)),
        dropped=reading.dropped,
        rows_read=sum(each.rows_read for each in read),
        rows_in_source=sum(each.rows_in_source for each in read),
        splits=reading.splits,
        rows=reading.rows,
        files=reading.files,
        origins=reading.origins,
        sources=tuple(read),
        source=name,
    )


def _open(
    source: Source, *, streaming: bool, max_rows: int | None, max_bytes: int | None
) -> list[Part]:
    if source.repo is None:
        return open_local(source, max_bytes)
    if _is_stream(source, streaming) and not (source.rows or max_rows):
        raise DataError(
            f"{source.name} is to be read as a stream, and nothing says how much of it.",
            "Put rows=10000 behind its name, or set max_rows.",
        )
    return open_hub(source, streaming=streaming, max_bytes=max_bytes)


def _is_stream(source: Source, streaming: bool) -> bool:
    return streaming and source.repo is not None and source.file is None


def licence_of(source: Source) -> str | None:
    """The licence of a source, if its card is on this machine and names one."""
    if source.repo is not None:
        return hub_licence(source)
    path = source.path
    card = ATLAS.with_name("README.md") if path is None else path / "README.md"
    return licence_in(card) if card.is_file() else None


def _together(names: Sequence[str]) -> str:
    return " and ".join(names) if len(names) < 3 else f"{names[0]} and {len(names) - 1} more"
