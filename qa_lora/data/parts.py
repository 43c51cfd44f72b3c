"""A source -> its tables, and the side of the split that the source itself names for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from qa_lora.bundled import ATLAS
from qa_lora.data.readers import ENDINGS, Table, ending_of, open_table
from qa_lora.data.sources import SPLIT_NAMES, Source, data_files
from qa_lora.errors import DataError, first_line

__all__ = ["Part", "licence_in", "open_local", "sides_of"]


@dataclass(frozen=True)
class Part:
    """One table of a source: a file, or a split of a Hub data set."""

    table: Table
    side: str | None = None
    """train, validation or test, where the name of the file or the split says it."""
    rows: int | None = None
    """How many it has, where that is known without counting."""
    expected: int | None = None
    """How many a stream has, where its card says it; a card can be wrong."""
    files: tuple[Path, ...] = ()
    """The files on this machine that it is read from; none for what comes over the network."""


def open_local(source: Source, max_bytes: int | None) -> list[Part]:
    """Open atlas, a file, or all files of a folder that can be read.

    Files of a folder whose names begin with train, validation or test (or dev, val ...) name the
    sides.

    Raises:
        DataError: If something is not there, too large, or no table; or a file in a folder is a
            link that leads out of it.
    """
    path = source.path or ATLAS
    try:
        if not path.is_dir():
            return [Part(_open_file(path, max_bytes), files=(path,))]
        files = data_files(path)
        if not files:
            raise DataError(
                f"The folder {path} holds no file that can be read.",
                f"The supported endings are {' '.join(ENDINGS)}.",
            )
        sides = sides_of([file.name for file in files])
        return [
            Part(_open_file(file, max_bytes, inside=path), side, files=(file,))
            for file, side in zip(files, sides, strict=True)
        ]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}.") from None


def sides_of(names: Sequence[str]) -> list[str | None]:
    """The sides that files or splits are named after, such as train-00000-of-00002.parquet.

    None for all if none of them would be left to train on: then they are divided like any rows.
    """
    words = [PurePath(name).name.lower().replace("-", ".").replace("_", ".") for name in names]
    sides = [SPLIT_NAMES.get(word.split(".")[0]) for word in words]
    return sides if any(side in ("train", None) for side in sides) else [None] * len(sides)


def licence_in(readme: Path) -> str | None:
    """The licence that a data set's card names in its front matter."""
    from huggingface_hub import metadata_load

    try:
        named: Any = (metadata_load(readme) or {}).get("license")
    except (OSError, ValueError, AttributeError):  # a card is a courtesy, and so is reading it
        return None
    return named if isinstance(named, str) else ", ".join(map(str, named or [])) or None


def reason(error: Exception) -> str:
    """A foreign error as the second half of a sentence."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[:1].lower() + error.strerror[1:]
    return first_line(error)


def _open_file(path: Path, max_bytes: int | None, inside: Path | None = None) -> Table:
    if ending_of(path) is None:
        ending = f"the ending {path.suffix}" if path.suffix else "no ending"
        raise DataError(
            f"{path.name} has {ending}, which cannot be read.",
            f"The supported endings are {' '.join(ENDINGS)}.",
        )
    if not path.is_file():
        raise DataError(f"{path} is no file." if path.exists() else f"There is no file {path}.")
    size = path.stat().st_size
    if max_bytes is not None and size > max_bytes:
        raise DataError(
            f"{path.name} has {size / 1024**2:,.0f} MB, and at most "
            f"{max_bytes / 1024**2:,.0f} MB are accepted.",
            "Use fewer rows, or save it as Parquet, which is smaller.",
        )
    return open_table(path, inside=inside)
