"""From what a person calls a run to the adapter's folder and the base model it belongs on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qa_lora import runs
from qa_lora.catalog import HUB_ID, POCKET
from qa_lora.errors import ModelError, RunError
from qa_lora.hub_access import ask, refusal_of

__all__ = ["Located", "locate", "same_base"]

ADAPTER_CONFIG = "adapter_config.json"

TASK = "SEQ_2_SEQ_LM"

KEEPS_BASE = ("gaussian", "orthogonal", "eva", "mica")
"""Ways to start an adapter, besides the default, that leave the base model's weights alone."""


@dataclass(frozen=True)
class Located:
    """An adapter that can be compared with its base."""

    folder: Path
    base: str
    """Name of the base model: "pocket", a folder or a Hub id."""
    run: runs.Run | None
    """The run that made it, if it lies in one."""


def locate(run: str | Path | runs.Run, runs_dir: str | Path | None = None) -> Located:
    """Find an adapter and its base.

    Args:
        run: A run's id or folder, a PEFT adapter folder, or the Hub id of an adapter.
        runs_dir: Where run ids are looked up; :func:`qa_lora.runs.default_runs_dir` if None.

    Raises:
        RunError: If there is no such run, or it has no adapter yet.
        ModelError: If the adapter does not name its base, or would change it.
    """
    found: runs.Run | None
    if isinstance(run, runs.Run):
        found, folder = run, run.adapter
    else:
        found, folder = _look_up(run, runs_dir if runs_dir is not None else runs.default_runs_dir())
    if found is not None and not found.has_adapter():
        raise RunError(
            f"The run {found.id} has no adapter yet.", "It is kept after the first validation."
        )
    config = _read_config(folder)
    _check_base_stays(config, folder)
    return Located(folder, found.config().model if found else _base_of(config, folder), found)


def same_base(one: str, other: str) -> bool:
    """Whether two names of a base model mean the same one.

    Folders are compared by where they are, so that a copy elsewhere is another model; a snapshot in
    the Hub's cache is the model that it is of.

    Args:
        one: "pocket", a folder or a Hub id.
        other: Likewise.
    """
    return _identity(one) == _identity(other)


def _identity(base: str) -> str:
    parts = Path(base).parts
    if base == POCKET or parts[-2:] == ("bundled", POCKET):
        return POCKET
    cached = [part for part in parts[:-2] if part.startswith("models--")]
    if cached and parts[-2] == "snapshots":
        return cached[-1].removeprefix("models--").replace("--", "/", 1)
    try:
        folder = Path(base).expanduser()
        return str(folder.resolve()) if folder.is_dir() else base
    except (OSError, RuntimeError):  # too long a name, no such user
        return base


def _look_up(name: str | Path, runs_dir: str | Path) -> tuple[runs.Run | None, Path]:
    folder = Path(name).expanduser()
    if (folder / ADAPTER_CONFIG).is_file():
        around = runs.Run(folder.resolve().parent)
        if around.adapter == folder.resolve() and (around.path / runs.CONFIG).is_file():
            return around, around.adapter
        return None, folder
    try:
        found = runs.find(name, runs_dir)
    except RunError:
        if folder.is_dir():
            raise RunError(
                f"The folder {name} is neither a run nor an adapter.",
                f"A run holds {runs.CONFIG}, an adapter {ADAPTER_CONFIG}.",
            ) from None
        if "/" not in str(name) or not HUB_ID.fullmatch(str(name)):
            raise
        return None, _download(str(name))
    return found, found.adapter


def _download(repo_id: str) -> Path:
    from huggingface_hub import snapshot_download

    tokenizer = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]
    wanted = [ADAPTER_CONFIG, "adapter_model.safetensors", "prompt.json", *tokenizer]
    try:
        return Path(ask(lambda: snapshot_download(repo_id, allow_patterns=wanted)))
    except Exception as error:  # the Hub's client raises errors of several libraries
        refusal = refusal_of(error, repo_id, "adapter")
        raise ModelError(
            f"The adapter {repo_id} is no local run or folder, and {refusal.reason}.",
            refusal.hint or "Check the name and the network.",
        ) from None


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / ADAPTER_CONFIG
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        config = None
    if not isinstance(config, dict):
        raise ModelError(f"The adapter's settings {path} are missing or damaged.")
    return config


def _base_of(config: dict[str, Any], folder: Path) -> str:
    base = config.get("base_model_name_or_path")
    if not base or not isinstance(base, str):
        raise ModelError(
            f"The adapter in {folder} does not name its base model.",
            f"Write it into {ADAPTER_CONFIG} as base_model_name_or_path.",
        )
    bundled = Path(base).parts[-2:] == ("bundled", POCKET)  # where this package lay elsewhere
    return POCKET if bundled else base


def _check_base_stays(config: dict[str, Any], folder: Path) -> None:
    """Refuse adapters with which the base model would no longer answer as itself."""
    kind, start = config.get("peft_type"), config.get("init_lora_weights", True)
    if kind != "LORA":
        raise ModelError(
            f"The adapter in {folder} is of the kind {kind}, not LoRA.", "Use a LoRA adapter."
        )
    task = config.get("task_type")
    if task not in (None, TASK):
        raise ModelError(
            f"The adapter in {folder} was made for the task {task}, not for {TASK}.",
            "Use an adapter of an encoder-decoder model.",
        )
    changes = [
        f"init_lora_weights={start}" if isinstance(start, str) and start not in KEEPS_BASE else "",
        f"bias={config.get('bias')}" if config.get("bias", "none") != "none" else "",
        "kasa_config" if config.get("kasa_config") else "",
        "layer_replication" if config.get("layer_replication") else "",
    ]
    for change in filter(None, changes):
        raise ModelError(
            f"The adapter in {folder} changes the base model's own weights ({change}), so the base "
            "would not answer as itself.",
            "Convert it to plain LoRA first.",
        )
