"""Whose a run is, on a server that several people use: a word in the run's folder.

The word is a hash. It says that two folders belong to the same visitor, and nothing about who that
is. A folder without one belongs to the server: a run of the command line, or one of a server that
has one user.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from qa_lora.files import replaced_file

__all__ = ["OWNER", "disk_bytes", "owner_of", "owner_word", "write_owner"]

OWNER = "owner.json"
NOBODY = "?"
"""The owner where the file is there and cannot be read: no visitor's word."""


def owner_word(secret: str) -> str:
    """The word for what only the visitor and the server know, or for the name of a login."""
    return hashlib.sha256(f"qa-lora owner {secret}".encode()).hexdigest()[:32]


def write_owner(folder: Path, word: str) -> None:
    """Say whose a folder is.

    Raises:
        OSError: If it cannot be written.
    """
    with replaced_file(folder / OWNER) as file:
        file.write_text(json.dumps({"owner": word}), "utf-8")


def owner_of(folder: Path) -> str | None:
    """Whose a folder is; None if it is the server's own."""
    try:
        text = (folder / OWNER).read_text("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return NOBODY
    try:
        word = json.loads(text)["owner"]
    except (ValueError, KeyError, TypeError):
        return NOBODY
    return word if isinstance(word, str) and word else NOBODY


def disk_bytes(folder: Path) -> int:
    """The sizes of all files in a folder and below; 0 if it is not there."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).lstat().st_size
            except OSError:
                continue  # it has just been replaced
    return total
