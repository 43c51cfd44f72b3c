"""Bytes -> text: UTF-8, or UTF-16 where a byte order mark says so; anything else is refused."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qa_lora.data.readers.compression import open_bytes
from qa_lora.errors import DataError

__all__ = ["MAX_LINE", "numbered_lines", "open_text", "plain_lines", "refuse_zero"]

MAX_LINE = 20_000_000
"""Characters in one line, and in one JSON record."""

_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_MAGIC = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word document",
    b"\x1f\x8b": "a gzip archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"SQLite format 3": "an SQLite database",
    b"%PDF": "a PDF document",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
}
_ENDINGS = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst"}


@contextmanager
def open_text(path: Path, newline: str) -> Iterator[io.TextIOWrapper]:
    """A text file, compressed or not, without its byte order mark.

    Args:
        path: The file.
        newline: As for the built-in open(): "" keeps every kind of line end, a line feed alone
            ends a line only there.

    Raises:
        DataError: At the first byte that is no text, with its line; or if the file is empty, has
            another format, or is damaged.
    """
    encoding = "utf-8"
    try:
        with open_bytes(path) as binary:
            head = binary.peek(16)
            if not head:
                raise DataError(f"{path.name} is empty.")
            _refuse_magic(head, path)
            for mark, marked in _MARKS.items():
                if head.startswith(mark):
                    encoding = marked
                    binary.read(len(mark))
            with io.TextIOWrapper(binary, encoding, newline=newline) as text:
                yield text
    except UnicodeDecodeError:
        raise _not_text(path, encoding) from None


def numbered_lines(text: io.TextIOWrapper, name: str) -> Iterator[tuple[int, str]]:
    """The lines with their numbers from 1, each checked as :func:`plain_lines` does."""
    return enumerate(plain_lines(text, name), 1)


def plain_lines(text: io.TextIOWrapper, name: str) -> Iterator[str]:
    """The lines with their ends.

    Raises:
        DataError: If one is too long or holds a zero byte.
    """
    number = 0
    readline = text.readline
    while line := readline(MAX_LINE):
        number += 1
        if len(line) == MAX_LINE:
            raise DataError(
                f"{name}, line {number:,} has more than {MAX_LINE:,} characters.",
                "Is every row on a line of its own?",
            )
        if "\0" in line:
            refuse_zero(line, name, number)
        yield line


def refuse_zero(text: str, name: str, line: int) -> None:
    """Raise DataError if there is a zero byte in a text that begins in this line."""
    at = text.find("\0")
    if at >= 0:
        raise DataError(
            f"{name} is no text file: line {line + text.count(chr(10), 0, at):,} holds a zero "
            "byte.",
            "Export its rows as UTF-8 text.",
        )


def _refuse_magic(head: bytes, path: Path) -> None:
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            hint = "Export its rows to that format."
            if magic in _ENDINGS and path.suffix.lower() != _ENDINGS[magic]:
                hint = f"If it holds such text, name it {path.name}{_ENDINGS[magic]}."
            endings = "".join(path.suffixes[-2:]) if path.suffix in (".gz", ".zst") else path.suffix
            raise DataError(f"{path.name} is {kind}, not {endings.lower()} text.", hint)


def _not_text(path: Path, encoding: str) -> DataError:
    """Where the first byte is that is no text.

    The file is read again for it, because a reader that decodes as it goes does not know.
    """
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    line, read, wrong = 1, 0, b"?"
    with open_bytes(path) as binary:
        try:
            while block := binary.read(1024**2):
                read += len(block)
                line += decoder.decode(block).count("\n")
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            before, wrong = error.object[: error.start], error.object[error.start :]
            read -= len(wrong)
            line += before.decode(encoding).count("\n")
    where = f"line {line:,} holds the byte 0x{wrong[0]:02x} (byte {read + 1:,} of the file)"
    if encoding != "utf-8":
        return DataError(f"{path.name} is not whole UTF-16: {where}.", "Save it as UTF-8.")
    return DataError(
        f"{path.name} is not UTF-8: {where}.",
        'It may be Latin-1 or Windows-1252. Save it as UTF-8 (in a spreadsheet: "CSV UTF-8"; in '
        "a terminal: iconv -f WINDOWS-1252 -t UTF-8).",
    )
