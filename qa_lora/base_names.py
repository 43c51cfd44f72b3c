"""What base models are called, and when two names mean the same one. Loads no torch."""

from __future__ import annotations

import re
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

from qa_lora.catalog import POCKET

__all__ = ["base_name", "is_bundled", "is_local", "named_commit", "same_base", "same_state"]

COMMIT = re.compile(r"[0-9a-f]{40}")


def base_name(base: str) -> str:
    """What a base is called where nobody knows this machine's folders.

    A Hub id stays as it is; a snapshot in the Hub's cache is called by its id, any other folder by
    its name alone.

    Args:
        base: "pocket", a folder or a Hub id.
    """
    if is_bundled(base):
        return POCKET
    cached = _cached(base)
    if cached is not None:
        return cached[0]
    parts = _path(base).parts
    return parts[-1] if is_local(base) and parts else base


def is_bundled(base: str) -> bool:
    """Whether this is the bundled model, wherever the package lies or lay, on whatever system."""
    return base == POCKET or _path(base).parts[-2:] == ("bundled", POCKET)


def is_local(source: str) -> bool:
    """Whether a name means something on a disk, which need not be there any more."""
    if source.startswith(("~", ".")) or _path(source).is_absolute() or "\\" in source:
        return True
    try:
        return Path(source).exists()
    except (OSError, ValueError):  # too long a name, a zero byte
        return False


def named_commit(base: str, revision: object = None) -> str | None:
    """The state of a base of the Hub that its name, or what is written beside it, pins.

    Args:
        base: "pocket", a folder or a Hub id.
        revision: As peft writes it down: a commit, a branch, a tag or nothing.
    """
    cached = _cached(base)
    commit = cached[1] if cached is not None else revision
    return commit if isinstance(commit, str) and COMMIT.fullmatch(commit) else None


def same_base(one: str, other: str) -> bool:
    """Whether two names of a base model mean the same one.

    Folders are compared by where they are, so that a copy elsewhere is another model; a snapshot in
    the Hub's cache is the model that it is of. Which state of it, see :func:`same_state`.

    Args:
        one: "pocket", a folder or a Hub id.
        other: Likewise.
    """
    return _identity(one) == _identity(other)


def same_state(one: str | None, other: str | None) -> bool:
    """Whether two commits of one base may be the same; one that nobody wrote down fits any."""
    return one is None or other is None or one == other


def _identity(base: str) -> str:
    if is_bundled(base):
        return POCKET
    cached = _cached(base)
    if cached is not None:
        return cached[0].casefold()
    try:
        folder = Path(base).expanduser()
        return str(folder.resolve()) if folder.is_dir() else base.casefold()
    except (OSError, RuntimeError, ValueError):  # too long a name, no such user, a zero byte
        return base


def _cached(base: str) -> tuple[str, str] | None:
    """Id and commit, if a path is of a snapshot in the Hub's cache."""
    parts = _path(base).parts
    repos = [part for part in parts[:-2] if part.startswith("models--")]
    if not repos or parts[-2] != "snapshots":
        return None
    return repos[-1].removeprefix("models--").replace("--", "/", 1), parts[-1]


def _path(text: str) -> PurePath:
    return PureWindowsPath(text) if "\\" in text else PurePosixPath(text)
