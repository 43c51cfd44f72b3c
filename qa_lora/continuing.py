"""Train on from an adapter that exists, as a new run with settings of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from qa_lora.adapter_settings import ADAPTER_CONFIG
from qa_lora.adapters import attach_adapter
from qa_lora.base_names import same_base, same_state
from qa_lora.config import TrainConfig
from qa_lora.errors import ModelError
from qa_lora.locate import locate
from qa_lora.models import LoadedModel, load_adapter_tokenizer

__all__ = ["continue_adapter"]


def continue_adapter(
    base: LoadedModel, config: TrainConfig, runs_dir: Path
) -> tuple[PeftModel, PreTrainedTokenizerBase, str]:
    """Put the adapter that ``init_adapter`` names on its base model, to be trained.

    Args:
        base: The base model and its tokenizer.
        config: The settings; those of LoRA itself come from the adapter.
        runs_dir: Where run ids are looked up.

    Returns:
        The model, the adapter's tokenizer, and a sentence about settings that do not count, if
        some were given.

    Raises:
        RunError: If there is no such run, or it has no adapter yet.
        ModelError: If the adapter is not safe to read, or of another base model.
    """
    found = locate(config.init_adapter, runs_dir)
    if not same_base(found.base, config.model):
        raise ModelError(
            f"The adapter {config.init_adapter} was trained on {found.base}, not on "
            f"{config.model}.",
            f"Set model to {found.base}, or go on from another adapter.",
        )
    model = attach_adapter(base.model, found.folder, trainable=True)
    tokenizer = load_adapter_tokenizer(found.folder, base.tokenizer)
    saved = json.loads((found.folder / ADAPTER_CONFIG).read_text("utf-8"))
    notices = []
    if not same_state(found.commit, base.commit):
        notices.append(
            f"The adapter was trained on the commit {found.commit} of {found.base}, and goes on on "
            f"its commit {base.commit}."
        )
    unused = [name for name, value in _shape(saved, config).items() if value]
    if unused:
        notices.append(
            "LoRA settings come from the adapter that training goes on from, so "
            f"{', '.join(unused)} {'does' if len(unused) == 1 else 'do'} not count."
        )
    return model, tokenizer, " ".join(notices)


def _shape(saved: dict[str, Any], config: TrainConfig) -> dict[str, bool]:
    """For each setting of LoRA itself: was one given that differs from the adapter's?"""
    targets = saved.get("target_modules")
    names = set(targets) if isinstance(targets, list) else {targets}
    wanted = {name.strip() for name in config.target_modules.split(",")}
    differs = {
        "lora_r": saved.get("r") != config.lora_r,
        "lora_alpha": saved.get("lora_alpha") != config.lora_alpha,
        "lora_dropout": saved.get("lora_dropout") != config.lora_dropout,
        "target_modules": "all-linear" not in wanted and names != wanted,
        "use_rslora": bool(saved.get("use_rslora")) != config.use_rslora,
        "use_dora": bool(saved.get("use_dora")) != config.use_dora,
        "whitespace_tokens": (config.whitespace_tokens == "on")
        != bool(saved.get("trainable_token_indices")),
    }
    given = config.changed()
    return {name: name in given and different for name, different in differs.items()}
