"""What a base model is called where nobody knows this machine's folders."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath

from qa_lora.catalog import POCKET

__all__ = ["base_name", "is_bundled", "is_local"]


def base_name(base: str) -> str:
    """A Hub id as it is, a snapshot in the Hub's cache by its id, a folder by its name alone.

    Args:
        base: "pocket", a folder or a Hub id.
    """
    if is_bundled(base):
        return POCKET
    parts = (PureWindowsPath if "\\" in base else Path)(base).parts
    cached = [part for part in parts[:-2] if part.startswith("models--")]
    if cached and parts[-2] == "snapshots":
        return cached[-1].removeprefix("models--").replace("--", "/", 1)
    return parts[-1] if is_local(base) and parts else base


def is_bundled(base: str) -> bool:
    """Whether this is the bundled model, wherever the package lies."""
    parts = (PureWindowsPath if "\\" in base else Path)(base).parts
    return base == POCKET or parts[-2:] == ("bundled", POCKET)


def is_local(source: str) -> bool:
    """Whether a name means something on a disk, which need not be there any more."""
    if source.startswith(("~", ".")) or Path(source).is_absolute() or "\\" in source:
        return True
    try:
        return Path(source).exists()
    except OSError:  # too long a name
        return False
