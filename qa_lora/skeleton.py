"""The shape of a base model without its weights, from its config.json alone."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedModel

from qa_lora.bundled import POCKET as POCKET_FOLDER
from qa_lora.catalog import HUB_ID, POCKET
from qa_lora.errors import ModelError, first_line, quoted
from qa_lora.hub_access import why_not

__all__ = ["is_elsewhere", "skeleton"]

CONFIG = "config.json"

MOST_LAYERS = 500
"""A stranger may have named the model."""


def is_elsewhere(model: str) -> bool:
    """Whether a base model's name is a path, and there is nothing: a folder of another machine."""
    return model != POCKET and not _is_here(model) and not HUB_ID.fullmatch(model)


def skeleton(model: str, *, lm_head: bool = False) -> PreTrainedModel:
    """A base model of the right shape without any weights (on torch's device "meta").

    Args:
        model: "pocket", a folder, or a Hub id, of which config.json is downloaded.
        lm_head: Whether its head is apart from its embeddings, which the config does not say.

    Raises:
        ModelError: If it cannot be found, or is no encoder-decoder model.
    """
    source = _source(model)
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # of many kinds, by what is wrong with a config.json
        raise ModelError(
            f"The model {quoted(model)} cannot be looked at: {first_line(error)}.",
            f"It must be a transformers model, with its {CONFIG}.",
        ) from None
    if not config.is_encoder_decoder:
        raise ModelError(
            f"The model {quoted(model)} is a {config.model_type} model without an encoder.",
            "Choose an encoder-decoder model such as google/flan-t5-base.",
        )
    layers = (getattr(config, "num_layers", 0), getattr(config, "num_decoder_layers", 0))
    if sum(count or 0 for count in layers) > MOST_LAYERS:
        raise ModelError(f"The model {quoted(model)} has more than {MOST_LAYERS} layers.")
    try:
        with torch.device("meta"):
            empty = AutoModelForSeq2SeqLM.from_config(config, trust_remote_code=False)
            if lm_head and hasattr(empty, "lm_head"):
                empty.lm_head.weight = torch.nn.Parameter(torch.empty_like(empty.lm_head.weight))
    except Exception as error:  # as above
        raise ModelError(
            f"The model {quoted(model)} cannot be built: {first_line(error)}."
        ) from None
    empty.name_or_path = model
    return empty


def _source(model: str) -> str:
    """Where `from_pretrained` finds it."""
    from huggingface_hub import try_to_load_from_cache

    if model == POCKET:
        return str(POCKET_FOLDER)
    if _is_here(model):
        folder = Path(model).expanduser()
        if not (folder / CONFIG).is_file():
            raise ModelError(f"The base model {quoted(model)} is no model: it has no {CONFIG}.")
        return str(folder)
    if not isinstance(try_to_load_from_cache(model, CONFIG), str):
        refusal = why_not(model, "model")
        if refusal is not None:
            raise ModelError(
                f"The base model {model} is no local folder, and {refusal.reason}.",
                refusal.hint or "Check the name and the network, or say which base it is.",
            )
    return model


def _is_here(model: str) -> bool:
    try:
        return Path(model).expanduser().exists()
    except (OSError, RuntimeError):  # too long a name, no such user
        return False
