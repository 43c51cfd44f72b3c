"""Files and folders that are either whole or not there.

Both writers put the new content beside the old one, flush it to the disk and rename it, so that a
kill or a full disk at any moment leaves the old content or the new, never a half.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["recover_folder", "replaced_file", "replaced_folder", "sync"]


@contextmanager
def replaced_file(target: Path) -> Iterator[Path]:
    """Give a path to write to; when the block ends well, it takes the place of `target`.

    Raises:
        OSError: If the disk is full or the folder cannot be written; `target` is as it was.
    """
    beside = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        yield beside
        sync(beside)
        beside.replace(target)
        _sync_folder(target.parent)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def replaced_folder(target: Path, *, keep: Path | None = None) -> Iterator[Path]:
    """Give an empty folder to fill; when the block ends well, it takes the place of `target`.

    Args:
        target: The folder that is replaced.
        keep: Where the folder that was there goes, in place of what lay there; it is deleted if
            None. A kill between the two renames leaves nothing at `target` and the last whole
            folder here.

    Raises:
        OSError: If the disk is full or the folder cannot be written; `target` is as it was.
    """
    new, old = _beside(target)
    if keep is None:
        recover_folder(target)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
        for path in new.rglob("*"):
            _sync_folder(path) if path.is_dir() else sync(path)
        _sync_folder(new)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    if target.exists() and keep is not None:
        # There are two whole folders at every moment.
        if keep.exists():
            keep.rename(old)
        target.rename(keep)
    elif target.exists():
        target.rename(old)
    try:
        new.rename(target)
    except FileNotFoundError:
        if not target.exists():  # else a reader took this moment for a kill and was faster
            raise
    _sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover_folder(target: Path) -> None:
    """Finish a replacement that a kill cut short between its two renames."""
    new, old = _beside(target)
    if not target.exists() and old.exists():
        try:
            (new if new.exists() else old).rename(target)
        except OSError:
            if not target.exists():  # else it was no kill, and the writer was faster
                raise
    shutil.rmtree(old, ignore_errors=True)


def sync(path: Path) -> None:
    """Wait until a file's content is on the disk.

    Raises:
        OSError: If it cannot be written there.
    """
    with path.open("r+b") as file:  # Windows flushes only what may be written
        os.fsync(file.fileno())


def _beside(target: Path) -> tuple[Path, Path]:
    return target.with_name(f".{target.name}.new"), target.with_name(f".{target.name}.old")


def _sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can say so."""
    with suppress(OSError):  # Windows opens no folder, and some file systems flush none
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
