"""An adapter's settings, read as what a stranger wrote: checked before peft acts on them.

Loads no torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qa_lora.base_names import is_bundled
from qa_lora.catalog import POCKET
from qa_lora.errors import ModelError, quoted

__all__ = [
    "ADAPTER_CONFIG",
    "ADAPTER_WEIGHTS",
    "TASK",
    "base_of",
    "check_settings",
    "read_settings",
]

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

TASK = "SEQ_2_SEQ_LM"

KEEPS_BASE = ("gaussian", "orthogonal", "eva", "mica")
"""Ways to start an adapter, besides the default, that leave the base model's weights alone."""

MOST_BYTES = 4 * 2**20
"""Of the settings' file: peft makes a row for every token that it names."""

MOST_QUANTIFIERS = 5
"""In a pattern of layer names. Each one multiplies the time to match a name by its length."""


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings in an adapter's folder, unchecked.

    Raises:
        ModelError: If they are missing or damaged.
    """
    path = folder / ADAPTER_CONFIG
    try:
        small = path.stat().st_size <= MOST_BYTES
        settings = json.loads(path.read_text("utf-8")) if small else None
    except (OSError, ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise ModelError(f"The adapter's settings {path} are missing or damaged.")
    return settings


def base_of(settings: Mapping[str, Any], what: str) -> str:
    """The base model that an adapter names.

    Args:
        settings: Of the adapter.
        what: The adapter, in a sentence.

    Raises:
        ModelError: If it names none.
    """
    base = settings.get("base_model_name_or_path")
    if not base or not isinstance(base, str):
        raise ModelError(
            f"{what} does not name its base model.",
            f"Say which one it is, or write it into {ADAPTER_CONFIG} as base_model_name_or_path.",
        )
    if not base.isprintable() or len(base) > 1000:
        raise ModelError(
            f"{what} names as its base model {quoted(base)}.", "No model is called so."
        )
    return POCKET if is_bundled(base) else base


def check_settings(settings: Mapping[str, Any], what: str) -> None:
    """Refuse adapters of other kinds, that change the base model, or that could run code.

    Args:
        settings: Of the adapter.
        what: The adapter, as the beginning of a sentence.

    Raises:
        ModelError: If it cannot be used, with the reason.
    """
    kind = settings.get("peft_type")
    if kind != "LORA":
        raise ModelError(f"{what} is of the kind {quoted(kind)}, not LoRA.", "Use a LoRA adapter.")
    task = settings.get("task_type")
    if task not in (None, TASK):
        raise ModelError(
            f"{what} was made for the task {quoted(task)}, not for {TASK}.",
            "Use an adapter of an encoder-decoder model.",
        )
    _check_no_code(settings, what)
    start = settings.get("init_lora_weights", True)
    changes = [
        f"init_lora_weights={quoted(start)}"
        if isinstance(start, str) and start not in KEEPS_BASE
        else "",
        f"bias={quoted(settings.get('bias'))}" if settings.get("bias", "none") != "none" else "",
        "kasa_config" if settings.get("kasa_config") else "",
        "layer_replication" if settings.get("layer_replication") else "",
    ]
    for change in filter(None, changes):
        raise ModelError(
            f"{what} changes the base model's own weights ({change}), so the base would not "
            "answer as itself.",
            "Convert it to plain LoRA first.",
        )
    _check_rank(settings, what)
    _check_patterns(settings, what)


def _check_no_code(settings: Mapping[str, Any], what: str) -> None:
    """Refuse settings that name Python code: a loader imports what they name."""
    mapping = settings.get("auto_mapping")
    library = mapping.get("parent_library") if isinstance(mapping, dict) else mapping
    # peft itself writes it, with a module of transformers, where no task was named.
    known = mapping is None or re.fullmatch(r"transformers(\.\w+)*", str(library))
    asks = {
        "auto_mapping": not known,
        "trust_remote_code": bool(settings.get("trust_remote_code")),
        "auto_map": bool(settings.get("auto_map")),
        "custom_pipelines": bool(settings.get("custom_pipelines")),
        "megatron_config": bool(settings.get("megatron_config")),
    }
    for name in (name for name, asked in asks.items() if asked):
        raise ModelError(
            f"{what} asks to run code of its own ({name} in {ADAPTER_CONFIG}), which is never "
            "done.",
            "Use an adapter of a model that transformers itself contains.",
        )


def _check_rank(settings: Mapping[str, Any], what: str) -> None:
    pattern = settings.get("rank_pattern") or {}
    ranks = [settings.get("r"), *(pattern.values() if isinstance(pattern, dict) else [None])]
    for rank in ranks:
        if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
            raise ModelError(
                f"{what} has the rank {quoted(rank)}.", "A rank is a whole number of 1 or more."
            )


def _check_patterns(settings: Mapping[str, Any], what: str) -> None:
    """Refuse patterns of layer names that could take for ever to match."""
    found: list[Any] = []
    for name in ("rank_pattern", "alpha_pattern"):
        found += list(settings.get(name) or ())
    for name in ("target_modules", "exclude_modules"):
        value = settings.get(name)
        found += [value] if isinstance(value, str) else []
    layers = settings.get("layers_pattern")
    found += layers if isinstance(layers, list) else [layers]
    for pattern in found:
        text = pattern if isinstance(pattern, str) else ""
        plain = text.replace("(?:", "(")
        many = len(re.findall(r"[*+?{]", plain)) > MOST_QUANTIFIERS
        if many or len(text) > 1000 or re.search(r"\)[*+{]", plain):
            raise ModelError(
                f"{what} picks its layers by a pattern that could take for ever to match: "
                f"{quoted(text)}.",
                "Name the layers in target_modules as a list.",
            )
