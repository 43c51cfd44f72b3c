"""What the settings name as data, opened: tables of which no more than the first rows are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qa_lora.bundled import ATLAS
from qa_lora.data.hub_tables import hub_licence, open_hub
from qa_lora.data.parts import Part, licence_in, open_local
from qa_lora.data.sources import Source, parse
from qa_lora.errors import DataError

__all__ = ["Opened", "licence_of", "open_all"]


@dataclass(frozen=True)
class Opened:
    """A source that can be read."""

    source: Source
    side: str | None
    """The side of all its rows, where the settings say it."""
    parts: Sequence[Part]
    licence: str | None
    stream: bool
    """Whether its rows come over the network as they are read."""


def open_all(
    data: str,
    validation_data: str | None,
    test_data: str | None,
    *,
    streaming: bool,
    max_rows: int | None,
    max_bytes: int | None = None,
) -> list[Opened]:
    """Open all sources that the settings name.

    Args:
        data: Sources, one a line.
        validation_data: Those whose rows are for validation.
        test_data: Those whose rows are for test.
        streaming: Read Hub data sets as a stream.
        max_rows: Use no more rows than this.
        max_bytes: Refuse a larger file.

    Raises:
        DataError: If one cannot be opened, or nothing limits a stream.
    """
    wanted = [
        (source, side)
        for text, side in ((data, None), (validation_data, "validation"), (test_data, "test"))
        if text or side is None
        for source in parse(text or "")
    ]
    return [
        Opened(
            source,
            side,
            _open(source, streaming=streaming, max_rows=max_rows, max_bytes=max_bytes),
            licence_of(source),
            _is_stream(source, streaming),
        )
        for source, side in wanted
    ]


def licence_of(source: Source) -> str | None:
    """The licence of a source, if its card is on this machine and names one."""
    if source.repo is not None:
        return hub_licence(source)
    path = source.path
    card = ATLAS.with_name("README.md") if path is None else path / "README.md"
    return licence_in(card) if card.is_file() else None


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
