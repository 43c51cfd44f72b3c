"""Regular files as streams of bytes; what is compressed expands as it is read, within limits."""

from __future__ import annotations

import gzip
import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from qa_lora.errors import DataError, first_line

__all__ = ["open_bytes", "open_regular", "refuse_irregular", "refuse_ratio"]

MAX_RATIO = 200
"""Text shrinks to a third or a tenth; what shrinks to less than this is made to fill a memory."""
FREE_BYTES = 100 * 1024**2
"""Repetitive small files are left alone: the ratio counts from here on."""
MAX_BYTES = 64 * 1024**3
"""Of one expanded file."""
_BUFFER = 256 * 1024

_MAGIC = {".gz": (b"\x1f\x8b", "gzip"), ".zst": (b"\x28\xb5\x2f\xfd", "Zstandard")}


def refuse_irregular(path: Path) -> None:
    """Raise DataError for folders, devices, pipes and what is not there, without opening it."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise DataError(f"{path} is a folder, not a file.", "Name the file inside it.")
    if not stat.S_ISREG(mode):
        what = "a pipe" if stat.S_ISFIFO(mode) else "a device or a socket"
        raise DataError(f"{path} is no file but {what}.", "Save its content as a file first.")


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file for reading.

    Raises:
        DataError: If it is not one, or may not be read.
    """
    try:
        refuse_irregular(path)
        return io.BufferedReader(io.FileIO(path), _BUFFER)
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise DataError(f"{path} cannot be read: {reason[:1].lower()}{reason[1:]}.") from None


@contextmanager
def open_bytes(path: Path) -> Iterator[io.BufferedReader]:
    """The bytes of a file, expanded if its ending is .gz or .zst.

    Raises:
        DataError: If it is no file, damaged, cut off, or expands beyond the limits.
    """
    ending = path.suffix.lower()
    with open_regular(path) as file:
        if ending not in _MAGIC or os.fstat(file.fileno()).st_size == 0:
            yield file
            return
        magic, kind = _MAGIC[ending]
        if file.read(len(magic)) != magic:
            raise DataError(
                f"{path.name} ends in {ending} and is not compressed with {kind}.",
                f"Take {ending} off its name, or compress it again.",
            )
        file.seek(0)
        with _expanding(file, ending) as expanded:
            yield io.BufferedReader(_Expanded(file, expanded, path.name, kind), _BUFFER)


def refuse_ratio(name: str, packed: int, expanded: int) -> None:
    """Raise DataError if so many bytes came out of so few that it cannot be honest text."""
    if expanded > FREE_BYTES and expanded > MAX_RATIO * packed:
        raise DataError(
            f"{name} expands to more than {MAX_RATIO} times its size "
            f"({expanded / 1024**2:,.0f} MB so far), as only made-up archives do.",
            "Expand it yourself and give the plain file.",
        )
    if expanded > MAX_BYTES:
        raise DataError(f"{name} expands to more than {MAX_BYTES / 1024**3:,.0f} GB.")


@contextmanager
def _expanding(file: BinaryIO, ending: str) -> Iterator[Any]:
    if ending == ".gz":
        with gzip.GzipFile(fileobj=file) as expanded:
            yield expanded
    else:
        import pyarrow as pa

        # Closing it would close the file as well, which the caller does.
        yield pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")


class _Expanded(io.RawIOBase):
    """What an archive expands to; its ratio is watched, and its errors are sentences."""

    def __init__(self, file: BinaryIO, expanded: Any, name: str, kind: str) -> None:
        self._file, self._expanded, self._name, self._kind = file, expanded, name, kind
        self._size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._expanded.read(len(buffer))
        except EOFError:
            raise DataError(
                f"{self._name} is cut off: its {self._kind} archive ends too early.",
                "Copy or download it again.",
            ) from None
        except (OSError, zlib.error, ValueError, MemoryError) as error:
            cut = "truncated" in str(error).lower()
            problem = "ends too early" if cut else f"cannot be expanded ({first_line(error)})"
            raise DataError(
                f"{self._name} is {'cut off' if cut else 'damaged'}: its {self._kind} archive "
                f"{problem}.",
                "Copy or download it again.",
            ) from None
        self._size += len(data)
        refuse_ratio(self._name, self._file.tell(), self._size)
        buffer[: len(data)] = data
        return len(data)
