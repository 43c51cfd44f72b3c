"""Files and folders that are either whole or not there.

Both writers put the new content beside the old one, flush it to the disk and rename it, so that a
kill or a full disk at any moment leaves the old content or the new, never a half.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["recover_folder", "replaced_file", "replaced_folder"]


@contextmanager
def replaced_file(target: Path) -> Iterator[Path]:
    """Give a path to write to; when the block ends well, it takes the place of `target`.

    Raises:
        OSError: If the disk is full or the folder cannot be written; `target` is as it was.
    """
    beside = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        yield beside
        _flush(beside)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder to fill; when the block ends well, it takes the place of `target`.

    Raises:
        OSError: If the disk is full or the folder cannot be written; `target` is as it was.
    """
    recover_folder(target)
    new, old = _beside(target)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
        for path in new.rglob("*"):
            if path.is_file():
                _flush(path)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    if target.exists():
        target.rename(old)
    try:
        new.rename(target)
    except FileNotFoundError:
        if not target.exists():  # else a reader took this moment for a kill and was faster
            raise
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


def _beside(target: Path) -> tuple[Path, Path]:
    return target.with_name(f".{target.name}.new"), target.with_name(f".{target.name}.old")


def _flush(path: Path) -> None:
    with path.open("r+b") as file:  # Windows flushes only what may be written
        os.fsync(file.fileno())
