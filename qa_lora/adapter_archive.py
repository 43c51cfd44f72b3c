"""An adapter out of a .zip from a stranger: its known files and nothing else. Loads no torch."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from qa_lora.adapter_settings import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from qa_lora.adapter_weights import PICKLES, without_weights
from qa_lora.errors import ModelError, quoted

__all__ = ["choose_folder", "unpack"]

MOST_ENTRIES = 2000
MOST_BYTES = 8 * 2**30
MOST_RATIO, RATIO_BYTES = 100, 32 * 2**20
"""A file of more bytes than this may not shrink to less than a hundredth: weights hardly do."""
CHUNK_BYTES = 2**20
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def unpack(archive: Path, into: Path, wanted: Mapping[str, int]) -> None:
    """Write the known files of the one adapter in an archive into a folder.

    Args:
        archive: A .zip file.
        into: An empty folder.
        wanted: Names of the files to take, with the most bytes each may have.

    Raises:
        ModelError: If it is no archive, is damaged, plays tricks, or holds no adapter or several.
        OSError: If `into` cannot be written.
    """
    what = f"The archive {archive.name}"
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = _checked(opened.infolist(), what)
            folder = choose_folder(list(entries), what)
            if f"{folder}{ADAPTER_WEIGHTS}" not in entries:
                raise without_weights([n for n in entries if n.startswith(folder)], what)
            for name, most in wanted.items():
                entry = entries.get(f"{folder}{name}")
                if entry is not None and not entry.is_dir():
                    if entry.file_size > most:
                        raise _refused(what, f"{name} has {entry.file_size:,} bytes", "too many")
                    with opened.open(entry) as source, (into / name).open("wb") as target:
                        _copy(source, target, most, name, what)
    except (zipfile.BadZipFile, zlib.error, EOFError, UnicodeError, ValueError) as error:
        raise ModelError(
            f"{what} is damaged or no .zip file: {str(error) or 'it ends too early'}.",
            "Upload the .zip of an adapter's folder.",
        ) from None
    except (NotImplementedError, RuntimeError):
        raise _refused(what, "it is packed in a way that is not read", "unusual") from None


def choose_folder(names: Sequence[str], what: str) -> str:
    """Where the adapter lies among paths: its folder with a final slash, or "" at the top.

    Args:
        names: Paths with forward slashes.
        what: What holds them, as the beginning of a sentence.

    Raises:
        ModelError: If there is no adapter, or several equally near to the top.
    """
    found = sorted(
        (name for name in names if PurePosixPath(name).name == ADAPTER_CONFIG),
        key=lambda name: (name.count("/"), name),
    )
    if not found:
        model = any(PurePosixPath(name).name == "config.json" for name in names)
        pickles = [name for name in names if PurePosixPath(name).suffix.lower() in PICKLES]
        if model:
            hint = "It looks like a whole model: that is a base to train on, not an adapter."
        elif pickles:
            hint = (
                f"{quoted(pickles[0])} is a pickle, which can run code and is not read: save the "
                "adapter again with save_pretrained(folder, safe_serialization=True)."
            )
        else:
            hint = f"An adapter is a folder that save_pretrained wrote, with {ADAPTER_WEIGHTS}."
        raise ModelError(f"{what} holds no {ADAPTER_CONFIG}.", hint)
    near = [name for name in found if name.count("/") == found[0].count("/")]
    if len(near) > 1:
        raise ModelError(
            f"{what} holds several adapters: {quoted(near[0])}, {quoted(near[1])}.",
            "Give the folder of one.",
        )
    return found[0].removesuffix(ADAPTER_CONFIG)


def _checked(entries: Sequence[zipfile.ZipInfo], what: str) -> dict[str, zipfile.ZipInfo]:
    """All entries by path, if none of them plays a trick; also those that are not taken."""
    if len(entries) > MOST_ENTRIES:
        raise _refused(what, f"it holds {len(entries):,} files", f"more than {MOST_ENTRIES:,}")
    total = sum(entry.file_size for entry in entries)
    if total > MOST_BYTES:
        raise _refused(what, f"its files have {total:,} bytes", f"more than {MOST_BYTES:,}")
    found: dict[str, zipfile.ZipInfo] = {}
    seen: set[str] = set()
    for entry in entries:
        # orig_filename is what stands there: the other one ends at the first zero byte.
        name = entry.orig_filename.replace("\\", "/")
        shown = quoted(ascii(entry.orig_filename), 60)
        parts = name.rstrip("/").split("/")
        if name.startswith("/") or ":" in parts[0] or "\0" in name:
            raise _refused(what, f"the path {shown} leads out of it", "unsafe")
        if any(part in ("..", ".", "") for part in parts):
            raise _refused(what, f"the path {shown} leads out of it or is unclear", "unsafe")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _refused(what, f"{shown} is a link or a device", "no plain file")
        if entry.flag_bits & 1:
            raise ModelError(f"{what} has a password.", "Pack the adapter without one.")
        if entry.compress_type not in METHODS:
            raise _refused(what, f"{shown} is packed in a way that is not read", "unusual")
        same = "/".join(parts).casefold()
        if same in seen:
            raise _refused(what, f"the path {shown} is in it twice", "ambiguous")
        seen.add(same)
        if entry.file_size > max(RATIO_BYTES, MOST_RATIO * entry.compress_size):
            raise _refused(what, f"{shown} grows more than {MOST_RATIO} times", "a bomb")
        found[name] = entry
    return found


def _copy(source: IO[bytes], target: IO[bytes], most: int, name: str, what: str) -> None:
    written = 0
    while chunk := source.read(CHUNK_BYTES):
        written += len(chunk)
        if written > most:  # whatever the archive says about it
            raise _refused(what, f"{name} has more than {most:,} bytes", "too many")
        target.write(chunk)


def _refused(what: str, reason: str, word: str) -> ModelError:
    return ModelError(
        f"{what} is refused: {reason} ({word}).", "Pack the plain files of one adapter's folder."
    )
