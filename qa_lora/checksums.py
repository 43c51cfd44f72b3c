"""Checksums of a folder's files, in the format of ``sha256sum``. Loads no torch.

``sha256sum -c SHA256SUMS`` in the folder checks them as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

__all__ = ["CHECKSUMS", "digest_of", "find_damage", "read_checksums", "write_checksums"]

CHECKSUMS = "SHA256SUMS"
CHUNK_BYTES = 2**20


def write_checksums(folder: Path) -> None:
    """Write a checksum of every file in a folder into it.

    Raises:
        OSError: If the disk is full or the folder cannot be written.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CHECKSUMS)
    lines = [f"{digest_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / CHECKSUMS).write_text("".join(lines), "utf-8")


def find_damage(folder: Path, only: Collection[str] | None = None) -> str | None:
    """What is wrong with a folder's files, as the end of a sentence.

    Args:
        folder: A folder with checksums.
        only: Names of the files that are checked; all if None.

    Returns:
        None if every file is there and is what was written.
    """
    try:
        known = read_checksums(folder)
    except (OSError, ValueError):
        return f"{CHECKSUMS} is missing or unreadable"
    if not known:
        return f"{CHECKSUMS} is empty"
    for name in known if only is None else only:
        try:
            same = digest_of(folder / name) == known.get(name)
        except OSError:
            return f"{name} is missing or unreadable"
        if not same:
            return f"{name} is not what was written"
    return None


def read_checksums(folder: Path) -> dict[str, str]:
    """The checksums that were written into a folder, by the names of the files.

    Raises:
        OSError: If there are none, or they cannot be read.
        ValueError: If they are no text.
    """
    lines = (folder / CHECKSUMS).read_text("utf-8").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def digest_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
