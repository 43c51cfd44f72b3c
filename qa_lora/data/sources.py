"""What the setting `data` says: sources of questions and answers, one a line.

A line is ``SOURCE [key=value ...]`` with the keys of :data:`KEYS`. Nothing here opens a file.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import unquote

from qa_lora.catalog import HUB_ID
from qa_lora.data.readers import ENDINGS, ending_of
from qa_lora.errors import DataError, shorten

__all__ = [
    "KEYS",
    "SPLIT_NAMES",
    "UPLOAD_LIMIT_BYTES",
    "Source",
    "absolute",
    "data_files",
    "local_files",
    "parse",
    "short_name",
    "without_folders",
]

UPLOAD_LIMIT_BYTES = 200 * 1024**2

KEYS = ("subset", "split", "revision", "weight", "rows")
"""What may stand behind a source's name, as key=value."""

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "development": "validation",
    "eval": "validation",
    "test": "test",
    "testing": "test",
}
"""How data sets name their splits, and what this project calls them."""

MAX_WEIGHT = 100

_HUB_ID = re.compile(r"(?P<repo>[\w.-]+(/[\w.-]+)?)(:(?P<subset>[^/\\]+))?")
_HUB_FILE = re.compile(
    r"hf://datasets/(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[^/]+))?/(?P<path>.+)"
)
_KEY_VALUE = re.compile(r"(?P<key>[A-Za-z_]+)=(?P<value>\S+)")
_OTHER_FILES = {
    *(".xls", ".ods", ".txt", ".text", ".md", ".zip", ".gz", ".zst", ".pdf", ".doc", ".docx"),
    *(".arrow", ".feather", ".db", ".sqlite", ".yaml", ".yml", ".xml", ".html"),
}
_NO_DATA = "Give a local file ({}) or atlas, the bundled questions.".format(" ".join(ENDINGS))


@dataclass(frozen=True)
class Source:
    """One line of `data`."""

    name: str
    """As it was written: ``atlas``, a path, a Hub id, or ``hf://datasets/...``."""
    subset: str | None = None
    split: str | None = None
    revision: str | None = None
    weight: float = 1.0
    """How often each of its training rows comes."""
    rows: int | None = None
    """Use at most this many of its rows."""
    repo: str | None = None
    """The Hub's id, if it is a data set there or a file of one."""
    file: str | None = None
    """The file's path within that repository."""

    @property
    def label(self) -> str:
        """Its short name, for messages and reports: a path without its folder."""
        if self.repo is None:
            return PurePath(self.name).name or self.name
        if self.file is not None:
            return f"{self.repo.rsplit('/', 1)[-1]}/{PurePath(self.file).name}"
        return f"{self.repo}:{self.subset}" if self.subset else self.repo

    @property
    def path(self) -> Path | None:
        """Where it lies on this machine; None for atlas and the Hub."""
        return None if self.repo or self.name == "atlas" else _home(self.name)


def parse(text: str) -> tuple[Source, ...]:
    """Read sources, one a line.

    A line that is the path of a file or folder as a whole is that file, whatever is in its name.

    Raises:
        DataError: If there is no source, a key is unknown or its value impossible, or a line names
            neither a file nor what could be a data set of the Hub.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or "\0" in text:
        raise DataError("No data is named.", _NO_DATA)
    return tuple(_parse_line(line) for line in lines)


def short_name(text: str) -> str:
    """A few words for a run's name: the first source, and how many there are beside it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [text]
    name, _ = _split_keys(lines[0])
    if match := _HUB_FILE.fullmatch(name):
        name = f"{match['repo'].rsplit('/', 1)[-1]}-{PurePath(match['path']).name}"
    ending = ending_of(name)
    first = PurePath(name).name
    first = first[: -len(ending)] if ending and len(ending) < len(first) else first
    return first[:20] + f" and {len(lines) - 1} more" if len(lines) > 1 else first


def absolute(text: str) -> str:
    """The same sources, with whole paths: a run goes on from any folder."""
    return _rename(text, lambda path: str(_home(str(path)).resolve()))


def without_folders(text: str) -> str:
    """The same sources, local ones by their name alone, for what may be published."""
    return _rename(text, lambda path: path.name, gone=True)


def local_files(text: str) -> tuple[Path, ...]:
    """The files on this machine that the sources are read from, as far as they are there.

    A folder stands before its files.
    """
    found: list[Path] = []
    for line in text.splitlines():
        name = _split_keys(line.strip())[0]
        path = _home(name)
        if name in ("", "atlas") or not _exists(path):
            continue
        found.append(path)
        with suppress(OSError):  # who reads it is told why it cannot be listed
            found += data_files(path) if path.is_dir() else []
    return tuple(found)


def data_files(folder: Path) -> list[Path]:
    """The files in a folder that can be read, sorted by name; those in folders below do not count.

    Raises:
        OSError: If it cannot be listed.
    """
    return sorted(
        path
        for path in folder.iterdir()
        if ending_of(path) and not path.name.startswith(".") and not path.is_dir()
    )


def _parse_line(line: str) -> Source:
    name, keys = _split_keys(line)
    if name == "atlas":
        return _with_keys(Source(name), keys, hub=False)
    if match := _HUB_FILE.fullmatch(name):
        if not HUB_ID.fullmatch(match["repo"]) or not {".", ".."}.isdisjoint(
            match["path"].split("/")
        ):
            raise DataError(
                f"{shorten(name, 200)} cannot be a file of a data set on the Hub.",
                "It is written hf://datasets/OWNER/NAME/FILE.",
            )
        revision = unquote(match["revision"]) if match["revision"] else None
        source = Source(name, revision=revision, repo=match["repo"], file=match["path"])
        if ending_of(match["path"]) is None:
            raise DataError(
                f"{PurePath(match['path']).name} on the Hub cannot be read.",
                f"The supported endings are {' '.join(ENDINGS)}.",
            )
        return _with_keys(source, keys, hub=True)
    path = _home(name)
    if _exists(path):
        return _with_keys(Source(name), keys, hub=False)
    match = _HUB_ID.fullmatch(name)
    if match is not None and not HUB_ID.fullmatch(match["repo"]):
        match = None
    if match is None or ending_of(path) or path.suffix.lower() in _OTHER_FILES:
        hint = f"Behind a source may stand {_listed(KEYS)}, as in rows=1000." if "=" in name else ""
        raise DataError(f"There is no file {shorten(name, 200)}.", hint)
    return _with_keys(Source(name, repo=match["repo"], subset=match["subset"]), keys, hub=True)


def _split_keys(line: str) -> tuple[str, dict[str, str]]:
    """A line's source, and the keys behind it; the whole line if there is such a file."""
    keys: dict[str, str] = {}
    rest = line
    while not (rest and _exists(_home(rest))):
        *before, last = rest.rsplit(maxsplit=1) or [""]
        match = _KEY_VALUE.fullmatch(last)
        if not before or match is None or match["key"] not in KEYS:
            break
        if match["key"] in keys:
            raise DataError(f"{shorten(line)} names {match['key']} twice.")
        keys[match["key"]] = match["value"]
        rest = before[0]
    return rest, keys


def _with_keys(source: Source, keys: dict[str, str], *, hub: bool) -> Source:
    for key, value in keys.items():
        changed: Any = value
        if key == "weight":
            changed = _weight(source, value)
        elif key == "rows":
            changed = _rows(source, value)
        elif not hub or (key != "revision" and source.file is not None):
            raise DataError(
                f"{source.label} is a file, which has no {key}.",
                f"{key} is for data sets of the Hub.",
            )
        elif getattr(source, key) is not None:
            raise DataError(f"{source.name} names its {key} already.", f"Leave out {key}={value}.")
        source = dataclasses.replace(source, **{key: changed})
    return source


def _weight(source: Source, value: str) -> float:
    try:
        weight = float(value)
    except ValueError:
        weight = math.nan
    if not 0 < weight <= MAX_WEIGHT:
        raise DataError(
            f"The weight of {source.label} must be a number above 0 and at most {MAX_WEIGHT} "
            f"(it is {shorten(value, 20)}).",
            "With 2 each of its training rows comes twice, with 0.5 half of its questions come.",
        )
    return weight


def _rows(source: Source, value: str) -> int:
    if not value.isdecimal() or len(value) > 15 or int(value) < 1:
        raise DataError(
            f"The rows of {source.label} must be a whole number from 1 "
            f"(it is {shorten(value, 20)})."
        )
    return int(value)


def _rename(text: str, rename: Callable[[Path], str], *, gone: bool = False) -> str:
    lines = []
    for line in filter(None, map(str.strip, text.splitlines())):
        name, keys = _split_keys(line)
        path = Path(name)
        if name != "atlas" and _exists(_home(name)):
            name = rename(path)
        elif gone and (path.is_absolute() or name.startswith(("~", "."))):
            name = path.name
        lines.append(" ".join([name, *(f"{key}={value}" for key, value in keys.items())]))
    return "\n".join(lines) if lines else text


def _home(name: str) -> Path:
    """A path, with what ~ stands for."""
    try:
        return Path(name).expanduser()
    except RuntimeError:  # of a user who is not there
        return Path(name)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"
