"""Bring in an adapter from a folder, a .zip or the Hub, and keep it beside the runs.

Nothing is kept that could not be used: whatever is wrong with it is said here.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from qa_lora import adapter_settings
from qa_lora.adapter_archive import choose_folder, unpack
from qa_lora.adapter_settings import ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_settings
from qa_lora.adapter_weights import (
    check_finite,
    check_fit,
    check_sizes,
    expected_on,
    read_head,
    without_weights,
)
from qa_lora.catalog import HUB_ID, POCKET
from qa_lora.checksums import CHECKSUMS, find_damage, write_checksums
from qa_lora.errors import ModelError, RunError, first_line, quoted
from qa_lora.files import sync
from qa_lora.imported import FOLDER, KNOWN_FILES, NAME, SOURCE, Imported, read_imported
from qa_lora.owners import owner_of, write_owner

__all__ = ["import_adapter"]

TAKEN = ("base", "tuned")
"""What the systems of every comparison are called."""

MOST_KEPT = 200
ABANDONED_SECONDS = 24 * 3600
DEEPEST = 3
"""Folders below the one that was given in which an adapter is looked for."""


def import_adapter(
    source: str | Path,
    runs_dir: str | Path,
    *,
    name: str = "",
    revision: str | None = None,
    base: str = "",
    folders_allowed: bool = True,
    most_bytes: int = 0,
    owner: str = "",
) -> Imported:
    """Bring in an adapter and keep it.

    Args:
        source: A folder (an adapter's, or one that holds one, such as a run), a .zip of such a
            folder, or a Hub id.
        runs_dir: The runs folder.
        name: What it is to be called; made from the source if empty.
        revision: Of a Hub id: a branch, tag or commit.
        base: Its base model, where its settings name another place for it.
        folders_allowed: Whether paths of this machine are looked at. False for strangers; an
            archive that they uploaded is given as a Path.
        most_bytes: Of any file of it, if not 0.
        owner: Whose it is, see :mod:`qa_lora.owners`; the server's own when empty.

    Raises:
        ModelError: If it is no adapter that can be used, with the reason.
        RunError: If the name is taken or not possible, or it cannot be written.
    """
    if name and (not NAME.fullmatch(name) or name in TAKEN):
        raise RunError(
            f"An adapter cannot be called {quoted(name)}.",
            "Use letters, digits, dots, dashes and underscores, 80 at most; not base or tuned.",
        )
    root = Path(runs_dir) / FOLDER
    try:
        root.mkdir(parents=True, exist_ok=True)
        _sweep(root)
        if len(list(root.iterdir())) >= MOST_KEPT:
            raise RunError(f"There are {MOST_KEPT} imported adapters already.", "Remove some.")
        staging = Path(tempfile.mkdtemp(prefix=".in-", dir=root))
        try:
            most = {file: min(size, most_bytes or size) for file, size in KNOWN_FILES.items()}
            known = _fetch(source, staging, revision, folders_allowed, most)
            what = f"The adapter {known['source']}"
            known["base"] = _check(staging, what, base, folders_allowed)
            known["digest"] = _digest(staging)
            called = name or _safe_name(known["source"], known["digest"])
            (staging / SOURCE).write_text(json.dumps(known, indent=2) + "\n", "utf-8")
            write_checksums(staging)
            if owner:
                write_owner(staging, owner)
            return _keep(staging, root, called, known["digest"], owner, made_up=not name)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise RunError(
            f"The adapter cannot be kept in {root}: {error.strerror or first_line(error)}.",
            "Make room there, or choose another runs folder.",
        ) from None


def _fetch(
    source: str | Path,
    staging: Path,
    revision: str | None,
    folders_allowed: bool,
    most: Mapping[str, int],
) -> dict[str, str]:
    """Put the files of `most`, which has the most bytes of each, into the staging folder.

    Returns:
        Where they are from.
    """
    when = datetime.now(timezone.utc).isoformat(timespec="seconds")
    text = str(source).strip()
    path = _path(text) if folders_allowed or isinstance(source, Path) else None
    kind, commit, named = "hub", "", text
    if path is not None and path.is_dir():
        kind, named = "folder", path.resolve().name
        _copy(path / _folder_in(path, f"The folder {path}"), staging, most)
    elif path is not None and path.suffix.lower() == ".zip":
        kind, named = "zip", path.name
        unpack(path, staging, most)
    elif path is not None:
        raise ModelError(
            f"The file {path.name} is no adapter.",
            "Give an adapter's folder, a .zip of it, or a Hub id.",
        )
    elif HUB_ID.fullmatch(text) and "/" in text and ".." not in text:
        from qa_lora.hub_adapter import download

        folder, commit = download(text, most, revision)
        _copy(folder, staging, most)
    else:
        places = "a folder, a .zip file, or " if folders_allowed else ""
        raise ModelError(
            f"There is no adapter {quoted(text) or '(nothing was given)'} here, and it cannot "
            "be a Hub id.",
            f"Give {places}a Hub id such as someone/adapter.",
        )
    if revision and kind != "hub":
        raise ModelError("Only an adapter of the Hub has revisions.", "Leave the revision out.")
    return {"kind": kind, "source": quoted(named), "revision": revision or "", "commit": commit,
            "when": when}  # fmt: skip


def _path(text: str) -> Path | None:
    """Where a file or folder of that name is; None if there is none."""
    try:
        path = Path(text).expanduser()
        return path if text and path.exists() else None
    except (OSError, RuntimeError, ValueError):  # too long a name, no such user, a zero byte
        return None


def _can_only_be_on_the_hub(base: str) -> bool:
    return bool(HUB_ID.fullmatch(base)) and ".." not in base and not Path(base).exists()


def _folder_in(path: Path, what: str) -> str:
    if (path / ADAPTER_CONFIG).is_file():
        return ""
    names: list[str] = []
    level = [path]
    for _ in range(DEEPEST):
        inside = [child for folder in level for child in sorted(folder.iterdir())[:1000]]
        names += [child.relative_to(path).as_posix() for child in inside if child.is_file()]
        if any(child.name == ADAPTER_CONFIG for child in inside):
            break
        level = [c for c in inside if c.is_dir() and not c.is_symlink() and c.name[0] != "."][:100]
    return choose_folder(names, what)


def _copy(folder: Path, staging: Path, most: Mapping[str, int]) -> None:
    for name, bytes_ in most.items():
        path = folder / name
        if path.is_file():
            if path.stat().st_size > bytes_:
                raise ModelError(
                    f"The adapter in {folder} is too large: {name} has more than {bytes_:,} bytes."
                )
            shutil.copyfile(path, staging / name)
    if not (staging / ADAPTER_WEIGHTS).is_file():
        raise without_weights((path.name for path in folder.iterdir()), f"The adapter in {folder}")


def _check(staging: Path, what: str, base: str, folders_allowed: bool) -> str:
    """Refuse what cannot be used; the name of the base."""
    try:
        settings = read_settings(staging)
    except ModelError:
        raise ModelError(f"{what} has settings ({ADAPTER_CONFIG}) that are damaged.") from None
    adapter_settings.check_settings(settings, what)
    if base:
        settings["base_model_name_or_path"] = base
    named = adapter_settings.base_of(settings, what)
    if not folders_allowed and named != POCKET and not _can_only_be_on_the_hub(named):
        raise ModelError(
            f"{what} names as its base model {quoted(named)}, which is no Hub id.",
            "Name its base model by a Hub id, such as google/flan-t5-base.",
        )
    head = read_head(staging, what)
    damage = find_damage(staging, [ADAPTER_WEIGHTS]) if (staging / CHECKSUMS).is_file() else None
    if damage is not None:
        raise ModelError(f"{what} is damaged: {damage}.", "Copy or download it again.")
    check_sizes(settings, head, what)
    _check_base(named, settings, head, what)
    check_finite(staging, what)
    (staging / ADAPTER_CONFIG).write_text(
        json.dumps(settings | {"base_model_name_or_path": named}, indent=2, sort_keys=True), "utf-8"
    )
    return named


def _check_base(base: str, settings: Mapping[str, Any], head: Mapping[str, Any], what: str) -> None:
    """Whether the weights fit the base that the adapter names."""
    from qa_lora.skeleton import is_elsewhere, skeleton

    if is_elsewhere(base):
        raise ModelError(
            f"{what} names as its base model the folder {quoted(base)}, which is not here.",
            "Say which base it belongs on, such as google/flan-t5-base.",
        )
    empty = skeleton(base, lm_head="lm_head" in str(settings.get("trainable_token_indices")))
    numbers = sum(tensor.numbers for tensor in head.values())
    if numbers > (most := sum(weights.numel() for weights in empty.parameters())):
        raise ModelError(
            f"{what} has {numbers:,} numbers, more than its base model {base} ({most:,}).",
            "An adapter is a small part of that.",
        )
    try:
        expected = expected_on(empty, settings)
    except Exception as error:  # peft raises bare exceptions of many kinds
        raise ModelError(
            f"{what} does not fit the base model {base} that it names: {first_line(error)}.",
            "Its settings may be of another adapter.",
        ) from None
    check_fit(expected, head, what, f"{base} that it names")


def _keep(
    staging: Path, root: Path, name: str, digest: str, owner: str, *, made_up: bool
) -> Imported:
    target = root / name
    for path in staging.iterdir():
        sync(path)
    if (root.parent / name / "config.yaml").is_file():
        raise RunError(f"There is a run named {name} already.", "Give the adapter another name.")
    try:
        staging.chmod(0o755)  # a temporary folder is for its owner only
        staging.rename(target)
    except OSError:
        there = read_imported(target)
        if there is None:
            raise
        whose = owner_of(target)
        if there.digest == digest and whose not in (None, owner or None) and made_up:
            # Another visitor brought it in, whose copy nobody else sees or may count on.
            return _keep(staging, root, f"{name[:70]}-{owner[:6]}", digest, owner, made_up=False)
        if there.digest != digest or whose not in (None, owner or None):
            raise RunError(
                f"There is another imported adapter named {name} already.",
                "Give this one another name, or remove that one.",
            ) from None
    kept = read_imported(target)
    assert kept is not None
    return kept


def _digest(staging: Path) -> str:
    digest = hashlib.sha256()
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS, "prompt.json", "tokenizer.json"):
        with suppress(FileNotFoundError), (staging / name).open("rb") as file:
            while chunk := file.read(2**20):
                digest.update(chunk)
    return digest.hexdigest()


def _safe_name(source: str, digest: str) -> str:
    stem = source.rsplit("/", 1)[-1].removesuffix(".zip")
    safe = re.sub(r"[^A-Za-z0-9._]+", "-", stem).strip("-._")[:60] or "adapter"
    return f"{safe}-{digest[:6]}"


def _sweep(root: Path) -> None:
    """Delete what a kill left half done."""
    for path in root.glob(".in-*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
