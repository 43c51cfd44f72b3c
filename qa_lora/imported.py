"""Adapters from elsewhere, kept beside the runs: from a folder, a .zip, or the Hub.

Each lies in ``<runs folder>/.adapters/<name>/``: the files that peft reads, and ``source.json``,
which says where they are from. A folder is there whole, or not at all. Loads no torch.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qa_lora import adapter_settings
from qa_lora.adapter_settings import ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_settings
from qa_lora.adapter_weights import read_head
from qa_lora.base_names import named_commit
from qa_lora.checksums import CHECKSUMS
from qa_lora.errors import ModelError, RunError, quoted

__all__ = [
    "FOLDER",
    "KNOWN_FILES",
    "Imported",
    "imported_folder",
    "list_imported",
    "read_imported",
    "remove_imported",
]

FOLDER = ".adapters"
SOURCE = "source.json"

KNOWN_FILES = {
    ADAPTER_CONFIG: adapter_settings.MOST_BYTES,
    ADAPTER_WEIGHTS: 4 * 2**30,
    "prompt.json": 2**20,
    "tokenizer.json": 64 * 2**20,
    "tokenizer_config.json": 4 * 2**20,
    "special_tokens_map.json": 2**20,
    "added_tokens.json": 4 * 2**20,
    CHECKSUMS: 2**20,
}
"""All that is ever taken from elsewhere, with the most bytes of each."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True)
class Imported:
    """An adapter from elsewhere."""

    name: str
    folder: Path
    base: str
    """Name of its base model: "pocket", a folder or a Hub id."""
    base_commit: str | None
    """The state of a base of the Hub that its settings name."""
    kind: str
    """What it came from: folder, zip or hub."""
    source: str
    """The folder's or the archive's name, or the Hub id."""
    commit: str
    """Of a Hub id; else empty."""
    when: str
    digest: str
    r: int
    alpha: float
    targets: str
    variant: str
    """DoRA, rsLoRA or what else is special about it; mostly empty."""
    numbers: int
    """Parameters of the adapter."""

    def made_of(self) -> str:
        """Rank, scale, layers and what is special about it, in a few words."""
        special = f", {self.variant}" if self.variant else ""
        return f"r {self.r}, alpha {self.alpha:g}, on {self.targets}{special}"

    def summary(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {**asdict(self), "folder": str(self.folder)}


def list_imported(runs_dir: str | Path) -> list[Imported]:
    """All that were brought in, by name; damaged ones are left out."""
    root = Path(runs_dir) / FOLDER
    try:
        folders = sorted(path for path in root.iterdir() if NAME.fullmatch(path.name))
    except OSError:
        return []
    return [found for path in folders if (found := read_imported(path)) is not None]


def imported_folder(name: str | Path, runs_dir: str | Path) -> Path | None:
    """Where the one of that name lies; None if there is none, or it can be no name."""
    folder = Path(runs_dir) / FOLDER / str(name)
    return folder if NAME.fullmatch(str(name)) and (folder / SOURCE).is_file() else None


def remove_imported(name: str, runs_dir: str | Path) -> None:
    """Delete one.

    Raises:
        RunError: If there is none of that name, or it cannot be deleted.
    """
    folder = imported_folder(name, runs_dir)
    if folder is None:
        raise RunError(f"There is no imported adapter named {quoted(str(name))}.")
    try:
        gone = Path(tempfile.mkdtemp(prefix=".in-", dir=folder.parent))
        folder.rename(gone / "gone")
        shutil.rmtree(gone, ignore_errors=True)
    except OSError as error:
        raise RunError(f"The adapter {name} cannot be deleted: {error.strerror}.") from None


def read_imported(folder: Path) -> Imported | None:
    try:
        known = json.loads((folder / SOURCE).read_text("utf-8"))
        settings = read_settings(folder)
        size = (folder / ADAPTER_WEIGHTS).stat().st_size
        numbers = sum(each.numbers for each in read_head(folder, "").values()) if size else 0
        targets = settings.get("target_modules")
        special = {
            "DoRA": settings.get("use_dora"),
            "rsLoRA": settings.get("use_rslora"),
            "tokens of its own": settings.get("trainable_token_indices"),
            "whole modules": settings.get("modules_to_save"),
        }
        return Imported(
            name=folder.name,
            folder=folder,
            **{key: str(known[key]) for key in ("base", "kind", "source", "commit", "when")},
            base_commit=named_commit(str(known["base"]), settings.get("revision")),
            digest=str(known["digest"]),
            r=int(settings["r"]),
            alpha=float(settings.get("lora_alpha", 8)),
            targets=quoted(
                ", ".join(sorted(map(str, targets))) if isinstance(targets, list) else targets
            ),
            variant=", ".join(name for name, has in special.items() if has),
            numbers=numbers,
        )
    except (OSError, ValueError, KeyError, TypeError, ModelError):
        return None
