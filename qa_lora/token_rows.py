"""The rows of new tokens in a frozen model's embeddings, trained beside a LoRA adapter.

peft replaces those rows while the adapter is at work (``trainable_token_indices``) and saves them
with it; the base's own matrices stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.trainable_tokens import TrainableTokensLayer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from qa_lora.whitespace import NEW_TOKENS

__all__ = ["row_indices", "start_rows", "token_layers", "why_no_rows"]


def why_no_rows(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    """Why a model cannot learn new tokens; empty if it can.

    Args:
        base: Without an adapter.
        tokenizer: Its own.
    """
    if not all(hasattr(base, name) for name in ("shared", "encoder", "decoder", "lm_head")):
        return f"{type(base).__name__} is no T5"
    # A matrix with more rows would no longer be the base model that answers are compared with.
    if min(len(base.shared.weight), len(base.lm_head.weight)) < len(tokenizer) + NEW_TOKENS:
        return "its embeddings have no free rows"
    return ""


def row_indices(base: PreTrainedModel, ids: Sequence[int]) -> dict[str, list[int]] | None:
    """The ``trainable_token_indices`` for new tokens, as peft takes them; None for none.

    T5's config says that its lm_head is tied to the embeddings even where the weights are not.
    peft would then tie their new rows, too, unless the lists differ; so the lm_head's is turned
    around, and names both inputs: the encoder's and the decoder's.
    """
    if not ids:
        return None
    if base.lm_head.weight is base.shared.weight:
        return {"shared": list(ids)}
    return {"embed_tokens": list(ids), "lm_head": list(reversed(ids))}


def token_layers(model: torch.nn.Module) -> Iterator[tuple[str, TrainableTokensLayer]]:
    """The layers of peft that hold rows of their own, with their names."""
    for name, module in model.named_modules():
        if isinstance(module, TrainableTokensLayer) and module.tied_adapter is None:
            yield name, module


@torch.no_grad()
def start_rows(model: PeftModel, known: int) -> None:
    """Give new rows their first values: the mean of the rows in use.

    What a checkpoint holds in unused rows was never meant to be read; in the lm_head it is often
    so low, or so high, that learning takes long to undo it.

    Args:
        model: With an adapter that has rows.
        known: How many rows the base's tokenizer uses.
    """
    for _, layer in token_layers(model):
        weight: Any = layer.get_base_layer().weight
        mean = weight[:known].float().mean(0)
        for rows in layer.trainable_tokens_delta.values():
            rows.copy_(mean.expand_as(rows))
