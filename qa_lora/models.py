"""Load a base model and its tokenizer from the package, a folder or the Hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from qa_lora.base_names import named_commit
from qa_lora.bundled import POCKET
from qa_lora.catalog import HUB_ID
from qa_lora.catalog import POCKET as POCKET_NAME
from qa_lora.devices import choose_device, choose_dtype
from qa_lora.errors import ModelError, first_line, shorten
from qa_lora.hub_access import why_not
from qa_lora.hub_downloads import bring, find_here

__all__ = ["LoadedModel", "check_kind", "load_adapter_tokenizer", "load_base", "load_tokenizer"]

TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class LoadedModel:
    """A base model on its device, in eval mode, with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    dtype: torch.dtype
    commit: str | None = None
    """Of a model of the Hub, the state that was loaded."""


def load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a base model.

    Args:
        model: "pocket", a folder, or a Hub id.

    Raises:
        ModelError: If there is none to be had.
    """
    local = _local(model)
    here = local or find_here(model)
    if here is None:
        refusal = why_not(model, "model")
        if refusal is not None:
            raise ModelError(
                f"The model {model} is no local folder, and {refusal.reason}.",
                refusal.hint or "Check the name and the network, or use pocket, which is bundled.",
            )
    # Its few files alone: whoever only counts tokens waits for no weights.
    return _read_tokenizer(str(here or model), model)


def _read_tokenizer(source: str, model: str) -> PreTrainedTokenizerBase:
    with _explained(model):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source, trust_remote_code=False
        )
    # Without its files transformers makes up a tokenizer that knows its control tokens only.
    if len(tokenizer) <= len(tokenizer.all_special_tokens) + 1:
        raise ModelError(
            f"The model {model} has no tokenizer.", "Its tokenizer.json belongs beside its weights."
        )
    return tokenizer


def load_adapter_tokenizer(folder: Path, base: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer an adapter was trained with: its own if it has tokens of its own.

    Args:
        folder: The adapter's.
        base: The tokenizer of its base model.

    Raises:
        ModelError: If the adapter's tokenizer cannot be read.
    """
    try:
        config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
        own = bool(config.get("trainable_token_indices"))
    except (OSError, ValueError, AttributeError):
        return base  # what is wrong with the adapter is said where it is loaded
    here = (folder / TOKENIZER).is_file()
    # Rows of tokens that the base knows need no other tokenizer.
    return _read_tokenizer(str(folder), str(folder)) if own and here else base


def load_base(
    model: str,
    *,
    precision: str = "auto",
    device: torch.device | None = None,
    commit: str | None = None,
) -> LoadedModel:
    """Load an encoder-decoder base model, frozen, in eval mode.

    Args:
        model: "pocket", a folder, or a Hub id.
        precision: "auto", "bf16" or "fp32".
        device: Where to put it; chosen by :func:`choose_device` if None.
        commit: Of a model of the Hub, the state that is wanted; see :func:`bring`.

    Raises:
        ModelError: If it cannot be found, read, or is no encoder-decoder model.
    """
    folder = _local(model) or bring(model, commit, lambda folder: check_kind(folder, model))
    device = device or choose_device()
    dtype = choose_dtype(precision, device)
    check_kind(folder, model)
    with _explained(model):
        with _without_progress_bar():
            loaded, report = AutoModelForSeq2SeqLM.from_pretrained(
                folder,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    if report["missing_keys"]:  # transformers warns, and makes up random numbers
        raise ModelError(
            f"The model {model} is damaged: {len(report['missing_keys'])} of its tensors are "
            f"missing, such as {min(report['missing_keys'])}."
        )
    tokenizer = _read_tokenizer(str(folder), model)
    loaded.requires_grad_(False)
    # peft writes this into the adapter's config; a bundled model has no path worth keeping.
    loaded.name_or_path = model
    state = named_commit(str(folder))
    return LoadedModel(loaded.to(device).eval(), tokenizer, device, dtype, state)


def check_kind(folder: Path, model: str) -> None:
    """Refuse what is no encoder-decoder model, by its config.json alone.

    Args:
        folder: The model's.
        model: What it is called.

    Raises:
        ModelError: If it is another kind of model, or its config.json cannot be read.
    """
    with _explained(model):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if not config.is_encoder_decoder:
        raise ModelError(
            f"The model {model} is a {config.model_type} model without an encoder.",
            "Choose an encoder-decoder model such as google/flan-t5-base.",
        )


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """A second of reading weights needs no bar amid the lines of a training."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _local(model: str) -> Path | None:
    """The folder of a base model on this machine; None for an id of the Hub."""
    if model == POCKET_NAME:
        return Path(POCKET)
    try:
        path = Path(model).expanduser()
        is_folder, is_file = path.is_dir(), path.is_file()
        has_config = (path / "config.json").is_file()
    except (OSError, RuntimeError) as error:  # no such user, no permission, too long a name
        raise ModelError(
            f"The model {shorten(model)} cannot be looked up: "
            f"{getattr(error, 'strerror', None) or first_line(error)}."
        ) from None
    if is_folder:
        if not has_config:
            raise ModelError(
                f"The folder {model} is no model: it has no config.json.",
                "Give a folder that save_pretrained wrote, a Hub id, or pocket.",
            )
        return path
    if is_file:
        raise ModelError(
            f"{model} is a file, not a model.", "Give a model's folder, a Hub id, or pocket."
        )
    if not HUB_ID.fullmatch(model):
        raise ModelError(
            f"There is no folder {model}, and it cannot be a Hub id.",
            "Give a model's folder, a Hub id such as google/flan-t5-base, or pocket.",
        )
    return None


@contextmanager
def _explained(model: str) -> Iterator[None]:
    """Turn the many errors of `from_pretrained` into one sentence."""
    try:
        yield
    except ModelError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, ImportError) as error:
        here = model == POCKET_NAME or Path(model).expanduser().is_dir()
        if here or not isinstance(error, OSError):
            raise ModelError(
                f"The model {model} cannot be loaded: {first_line(error)}.",
                "It must be a transformers folder with safetensors weights and a tokenizer.",
            ) from None
        raise ModelError(
            f"The model {model} could not be loaded from the Hub: {first_line(error)}.",
            "Check the network, or use pocket, which is bundled.",
        ) from None
    except Exception as error:  # safetensors raises its own class for a damaged file
        raise ModelError(f"The model {model} is damaged: {first_line(error)}.") from None
