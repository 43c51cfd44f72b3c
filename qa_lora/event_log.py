"""The event log of a run: append, follow, ask for the last word, take back. Loads no torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from qa_lora.events import (
    Checkpointed,
    Event,
    Failed,
    Finished,
    Recovered,
    Scored,
    Scoring,
    Started,
    Step,
    from_json,
    to_json,
)
from qa_lora.files import replaced_file, sync

__all__ = ["EventReader", "append", "flush", "last_word", "lines", "truncate"]

TAIL_BYTES = 65_536
LONGEST_LINE = 16_777_216
"""Bytes; no event is as long. What a damaged log holds must not fill the memory of its readers."""


class EventReader:
    """Reads what was added to an event log since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._last_line = b""
        self.restarted = False
        """Whether the last look found the log rewritten (by a resume) and began at its start."""

    def new(self) -> list[Event]:
        """Events since the last call; a torn last line waits for its rest."""
        self.restarted = False
        try:
            with self._path.open("rb") as file:
                # Seeing the last line again tells more than size and inode: both may be used again.
                file.seek(self._offset - len(self._last_line))
                self.restarted = file.read(len(self._last_line)) != self._last_line
                if self.restarted:
                    file.seek(0)
                    self._offset, self._last_line = 0, b""
                return [event for line in self._whole(file) if (event := _event(line))]
        except FileNotFoundError:
            return []

    def _whole(self, file: BinaryIO) -> Iterator[bytes]:
        for line in _lines(file):
            self._offset += len(line)
            self._last_line = line
            yield line


def lines(path: Path) -> Iterator[bytes]:
    """The lines of a log, each with its end; without a torn last one. Nothing if there is no log.

    Raises:
        OSError: If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            yield from _lines(file)
    except FileNotFoundError:
        return


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """What follows, line by line; of one that is too long its pieces, which are no events."""
    while line := file.readline(LONGEST_LINE):
        if not line.endswith(b"\n") and len(line) < LONGEST_LINE:
            return
        yield line


def append(path: Path, event: Event) -> None:
    """Add one event, on a line of its own also after a torn one.

    Raises:
        OSError: If the disk is full or the log cannot be written.
    """
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
        torn = file.read(1) not in (b"", b"\n")
        file.write(b"\n" * torn + _line(event))


def flush(path: Path) -> None:
    """Wait until all events so far are on the disk; nothing if there is no log.

    Raises:
        OSError: If the disk is full.
    """
    if path.exists():
        sync(path)


def last_word(path: Path) -> Event | None:
    """The last event that says where a training stands: started, step, finished or failed."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            for length in (TAIL_BYTES, min(size, LONGEST_LINE)):
                file.seek(max(0, size - length))
                for line in reversed(file.read().split(b"\n")):
                    event = _event(line)
                    if isinstance(event, (Started, Step, Finished, Failed)):
                        return event
    except FileNotFoundError:
        pass
    return None


def truncate(path: Path, step: int) -> list[Event]:
    """Keep what happened up to the checkpoint of `step`; later events, and how it ended, go.

    Returns:
        The events that are kept.

    Raises:
        OSError: If the log cannot be read or written.
    """
    kept: list[Event] = []
    end = 0
    for event in EventReader(path).new():
        if isinstance(event, (Finished, Failed, Scoring, Scored)) or event.step > step:
            break
        kept.append(event)
        # After the checkpoint comes what is not part of it: a last look before a stop, or the
        # start of a training that went on from it.
        follows = isinstance(event, Recovered) and end == len(kept) - 1
        if event.step == step and (isinstance(event, Checkpointed) or follows):
            end = len(kept)
    kept = kept[: end or None]
    with replaced_file(path) as file:
        file.write_bytes(b"".join(map(_line, kept)))
    return kept


def _line(event: Event) -> bytes:
    # A file name that is not UTF-8 holds lone surrogates; JSON has an escape for them.
    return to_json(event).encode("utf-8", "backslashreplace") + b"\n"


def _event(line: bytes) -> Event | None:
    return from_json(line.decode("utf-8", "replace"))
