"""What a person calls a run, and notes about it: ``label.json`` in its folder. Loads no torch.

The folder's name is the run's id and never changes, so whatever names a run goes on naming it.
"""

from __future__ import annotations

import json
import unicodedata
from dataclasses import asdict, dataclass
from pathlib import Path

from qa_lora.errors import ConfigError, RunError
from qa_lora.files import replaced_file
from qa_lora.runs import Run

__all__ = ["LABEL", "LONGEST_NOTE", "LONGEST_TITLE", "Label", "read_label", "write_label"]

LABEL = "label.json"
LONGEST_TITLE = 80
LONGEST_NOTE = 2_000
MOST_BYTES = 65_536


@dataclass(frozen=True)
class Label:
    """A run's display name and note; both may be empty."""

    title: str = ""
    note: str = ""


def read_label(folder: Path) -> Label:
    """The label in a run's folder; an empty one if there is none.

    Raises:
        RunError: If it is damaged.
    """
    path = folder / LABEL
    try:
        if path.is_symlink():
            raise _damaged(folder)
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        return Label()
    except OSError:
        raise _damaged(folder) from None
    try:
        values = json.loads(data.decode("utf-8"))
        title, note = values.get("title", ""), values.get("note", "")
    except (ValueError, AttributeError, RecursionError):
        raise _damaged(folder) from None
    if not isinstance(title, str) or not isinstance(note, str) or len(data) > MOST_BYTES:
        raise _damaged(folder)
    # What another hand wrote may be longer than what is written here.
    return Label(_one_line(title)[:LONGEST_TITLE], _plain(note)[:LONGEST_NOTE])


def _damaged(folder: Path) -> RunError:
    return RunError(f"{LABEL} of {folder.name} is damaged.", "Give the run a name again.")


def write_label(run: Run, *, title: str | None = None, note: str | None = None) -> Label:
    """Give a run a name, a note or both; None leaves what is there, and "" takes it away.

    Returns:
        The label as it is now.

    Raises:
        ConfigError: If one is too long.
        RunError: If it cannot be written.
    """
    try:
        label = read_label(run.path)
    except RunError:
        label = Label()  # this mends it
    label = Label(
        label.title if title is None else _one_line(title),
        label.note if note is None else _plain(note),
    )
    for what, text, most in (
        ("name", label.title, LONGEST_TITLE),
        ("note", label.note, LONGEST_NOTE),
    ):
        if len(text) > most:
            raise ConfigError(
                f"The {what} of a run has at most {most:,} characters; this one has {len(text):,}."
            )
    if run.path.is_symlink():
        raise RunError(f"The run {run.id} is a link to another folder.", "Name it there.")
    try:
        with replaced_file(run.path / LABEL) as file:
            text = json.dumps(asdict(label), ensure_ascii=False, indent=2)
            file.write_bytes(text.encode("utf-8", "replace") + b"\n")
    except OSError as error:
        raise RunError(
            f"The name of {run.id} cannot be written: {error.strerror or error}."
        ) from None
    return label


def _one_line(text: str) -> str:
    return " ".join(_plain(text).split())


def _plain(text: str) -> str:
    """The text without characters that are not seen but change what is: controls, turned lines."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    return "".join(
        char
        for char in lines
        if char in "\n\t\u200d" or unicodedata.category(char) not in ("Cc", "Cf", "Cs")
    )
