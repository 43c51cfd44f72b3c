"""The rows of new tokens in a frozen model's embeddings, trained beside a LoRA adapter.

peft replaces those rows while the adapter is at work (``trainable_token_indices``) and saves them
with it; the base's own matrices stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.trainable_tokens import TrainableTokensLayer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from qa_lora.whitespace import NEW_TOKENS

__all__ = [
    "row_indices",
    "rows_in_place",
    "share_inputs",
    "start_rows",
    "under_all_names",
    "why_no_rows",
]


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
    around. The other list is for both inputs, encoder and decoder; see :func:`share_inputs`.
    """
    if not ids:
        return None
    if base.lm_head.weight is base.shared.weight:
        return {"shared": list(ids)}
    return {"embed_tokens": list(ids), "lm_head": list(reversed(ids))}


@contextmanager
def rows_in_place(model: torch.nn.Module) -> Iterator[None]:
    """Meanwhile the rows stand in the base's own matrices, where the adapter is at work at all.

    peft copies the whole matrix in every forward pass, which for answers means at every token.
    Afterwards each matrix holds, bit for bit, what it held before.
    """
    layers = [
        module
        for module in model.modules()
        if isinstance(module, TrainableTokensLayer)
        and not (module.disable_adapters or module.merged)
        and len(module.active_adapters) == 1
    ]
    rows_of: dict[tuple[int, int], torch.Tensor] = {}
    for weight, ids, rows in map(_row_values, layers):
        for i, row in zip(ids, rows, strict=True):
            if not torch.equal(rows_of.setdefault((weight.data_ptr(), i), row), row):
                layers = []  # one place for two rows: peft keeps them apart
    before = [(weight, ids, weight[ids].clone()) for weight, ids, _ in map(_row_values, layers)]
    try:
        for layer in layers:
            weight, ids, rows = _row_values(layer)
            weight[ids] = rows
            layer.merged_adapters.extend(layer.active_adapters)
        yield
    finally:
        for layer, (weight, ids, rows) in zip(layers, before, strict=True):
            weight[ids] = rows
            layer.merged_adapters.clear()


def _row_values(layer: TrainableTokensLayer) -> tuple[torch.Tensor, list[int], torch.Tensor]:
    """A layer's matrix, the places of its rows in it, and the rows."""
    name = layer.active_adapters[0]
    weight: Any = layer.get_base_layer().weight
    rows = layer.trainable_tokens_delta[name].detach().to(weight)
    return weight.detach(), layer.token_indices[name], rows


def share_inputs(model: PeftModel) -> None:
    """Make encoder and decoder read the same rows, as they read the same matrix.

    peft makes rows for each of them, and could not merge two rows into one. Rows that differ, of
    an adapter from elsewhere, stay as they are.
    """
    base = model.get_base_model()
    stacks = [getattr(base, name, None) for name in ("encoder", "decoder")]
    encoder, decoder = (
        getattr(getattr(stack, "embed_tokens", None), "token_adapter", None) for stack in stacks
    )
    if encoder is None or decoder is None or encoder.token_indices != decoder.token_indices:
        return
    for name, rows in encoder.trainable_tokens_delta.items():
        if torch.equal(rows, decoder.trainable_tokens_delta[name]):
            decoder.trainable_tokens_delta[name] = rows


def under_all_names(model: PeftModel, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Trained weights, shared ones under each of their names, as peft wants them for saving."""
    found = {id(p): weights[name] for name, p in model.named_parameters() if name in weights}
    return {
        name: weights[name] if name in weights else found[id(p)].clone()
        for name, p in model.named_parameters(remove_duplicate=False)
        if id(p) in found
    }


@torch.no_grad()
def start_rows(model: PeftModel, known: int) -> None:
    """Give new rows their first values: the mean of the rows in use.

    What a checkpoint holds in unused rows was never meant to be read; in the lm_head it is often
    so low, or so high, that learning takes long to undo it.

    Args:
        model: With an adapter that has rows.
        known: How many rows the base's tokenizer uses.
    """
    for layer in model.modules():
        if not isinstance(layer, TrainableTokensLayer):
            continue
        weight: Any = layer.get_base_layer().weight
        mean = weight[:known].float().mean(0)
        for rows in layer.trainable_tokens_delta.values():
            rows.copy_(mean.expand_as(rows))
