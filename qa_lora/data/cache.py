"""Large data is read and divided once: the result is kept on disk for every later process.

The page's estimate, its report, the training, each of its processes and the scoring all need the
same rows. Reading a million of them takes minutes; opening what was kept takes seconds.

An entry is a folder in :func:`place`, named by all that the rows follow from (:func:`_key`): a
changed file, setting or version has another name, so that nothing is ever out of date. What cannot
be kept or opened is read as if there were no cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from qa_lora.config import SOURCES
from qa_lora.data import cache_entry
from qa_lora.data.loaded import LoadedData
from qa_lora.data.sources import absolute
from qa_lora.data.split import DataSplit
from qa_lora.data.store import StoredExamples
from qa_lora.files import replaced_folder

__all__ = ["KEPT", "Origin", "kept", "place"]

VERSION = 1
"""Of what an entry holds. The code that reads and divides has part in an entry's name already."""

WORTH_BYTES = 1 << 20
"""Files of fewer bytes together are read anew each time; that takes no more than seconds."""

KEPT = 4
"""So many entries stay, those that were used last."""

PATIENCE_SECONDS = 1800
"""How long to wait for another process that is reading the same."""

ROOM_BYTES = 1 << 30
"""So much of the disk is left free for what matters more, such as checkpoints."""

ABANDONED_SECONDS = 24 * 3600
"""What is half written and so old was left by a process that is gone."""


@dataclass(frozen=True)
class Origin:
    """All that the rows and their division follow from, but for the code."""

    settings: Mapping[str, Any]
    """The values of :data:`qa_lora.config.SPLIT_SETTINGS`."""
    sources: Sequence[tuple[str, str | None]]
    """Each source's name in messages, and its licence."""
    files: Sequence[Sequence[Path]]
    """The files that each table is read from; none for what comes over the network."""


def kept(
    origin: Origin, make: Callable[[], tuple[LoadedData, DataSplit]]
) -> tuple[LoadedData, DataSplit]:
    """What was kept for this origin; else make it, and keep it if it is large.

    Of several processes that need the same at once, one makes it and the others wait for it.

    Args:
        origin: What the data follows from.
        make: Reads and divides it.
    """
    key = _key(origin)
    if key is None:
        return make()
    folder = place() / key
    if (found := _open(folder)) is not None:
        return found
    with _alone(folder) as alone:
        if not alone:
            return make()
        if (found := _open(folder)) is not None:  # another process was making it
            return found
        made = make()
        # A file that was changed while it was read is read again next time.
        if _key(origin) == key and _keep(folder, *made):
            return _open(folder) or made
        return made


def place() -> Path:
    """The folder of all entries, beside the data sets that the library `datasets` keeps."""
    from huggingface_hub.constants import HF_HOME

    # As datasets itself finds it, without the second that importing it takes.
    datasets = os.environ.get("HF_DATASETS_CACHE") or Path(HF_HOME, "datasets")
    return Path(datasets).expanduser() / "qa_lora"


def _key(origin: Origin) -> str | None:
    """The name of an entry; None for what is not kept: streams, and what is read in no time."""
    try:
        # The name in the folder may say which side a file is for, whatever it is a link to.
        files = [
            [(str(path.absolute()), str(path.resolve()), _state(path)) for path in of_table]
            for of_table in origin.files
        ]
        settings = dict(origin.settings)
        for name in SOURCES:
            settings[name] = settings[name] and absolute(settings[name])
    except (OSError, ValueError):
        return None
    size = sum(state[0] for of_table in files for *_, state in of_table)
    if size < WORTH_BYTES or not all(files):
        return None
    said = json.dumps(
        [VERSION, _code(), unicodedata.unidata_version, settings, origin.sources, files],
        sort_keys=True,
        default=str,
    )
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def _state(path: Path) -> tuple[int, ...]:
    """What changes when a file does; the last two, when its size and time were set back."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


@cache
def _code() -> str:
    """A digest of the code that reads and divides."""
    from qa_lora import __version__

    digest = hashlib.sha256(__version__.encode())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _open(folder: Path) -> tuple[LoadedData, DataSplit] | None:
    """An entry, marked as used; None if there is none, or it is damaged or not to be trusted."""
    try:
        if not folder.is_dir() or not (_own(folder.parent) and _own(folder)):
            return None
        found = cache_entry.read(folder)
    except Exception:  # damage can be anything, and what is damaged is made again
        return None
    with suppress(OSError):  # a disk that is only read
        os.utime(folder)
    return found


def _own(folder: Path) -> bool:
    """Whether nobody but this user could have put something there.

    Who shares the folder of the data sets can guess an entry's name, and a made-up one would be
    trained on. Where a system has no such rights, all is one's own.
    """
    if not hasattr(os, "getuid"):
        return True
    stat = folder.stat()
    return stat.st_uid == os.getuid() and not stat.st_mode & 0o022


def _keep(folder: Path, loaded: LoadedData, split: DataSplit) -> bool:
    """Write an entry, if it is large and there is room; whether it was written."""
    if not isinstance(loaded.examples, StoredExamples):
        return False
    with suppress(OSError):  # the disk is full, or not to be written
        if shutil.disk_usage(folder.parent).free < loaded.examples.bytes + ROOM_BYTES:
            return False
        if not _own(folder.parent):  # it would never be opened
            return False
        with replaced_folder(folder) as new:
            new.chmod(0o700)
            cache_entry.write(new, loaded, split)
        _tidy(folder.parent)
        return True
    return False


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether this process alone makes the entry; the others wait here until it has.

    The locks are few and stay: deleting one that another process waits for would let two in.
    """
    from filelock import FileLock

    lock = None
    with suppress(OSError, NotImplementedError):  # no right to write, no locks, or no end in sight
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(folder.parent / f"{folder.name[:2]}.lock", timeout=PATIENCE_SECONDS)
        lock.acquire()
    try:
        yield lock is not None and lock.is_locked
    finally:
        if lock is not None:
            lock.release()


def _tidy(folder: Path) -> None:
    """Remove all entries but those used last, and what a kill left half written.

    Where a system keeps files that are in use, such an entry stays. Elsewhere the processes that
    have it open keep its pages.
    """
    now = time.time()
    used: list[tuple[float, Path]] = []
    for path in folder.iterdir():
        with suppress(OSError):
            if path.is_dir() and not path.name.startswith("."):
                used.append((path.stat().st_mtime, path))
            elif path.is_dir() and now - path.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
    for _, path in sorted(used, reverse=True)[KEPT:]:
        with suppress(OSError):
            shutil.rmtree(path.rename(path.with_name(f".{path.name}.gone")), ignore_errors=True)
