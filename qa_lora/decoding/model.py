"""The weights of a T5 as a greedy pass over many rows reads them, with one adapter or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel

from qa_lora.packed.attention import Group, attend, group_rows
from qa_lora.packed.layers import ACTIVATIONS, Norm
from qa_lora.packed.linear import joined

__all__ = ["Attention", "DecoderLayer", "FeedForward", "StepModel", "TokenRows"]


class Linear:
    """Frozen layers on one input, as one matrix, with what an adapter adds to them.

    The layers' own weights become views of the matrix, so it takes no memory of its own. The
    adapter (Hu et al., 2021) stays two thin products: to merge it would take a copy of the layers.

    Args:
        layers: Linear layers without bias, or peft's wrappers of them.
        adapter: Whose products are added; None for the base's own outputs.
    """

    def __init__(self, layers: Sequence[Any], adapter: str | None) -> None:
        bases = [getattr(layer, "base_layer", layer) for layer in layers]
        self.weight = joined([base.weight for base in bases])
        self.a: torch.Tensor | None = None
        """(in, R), the first matrices of all layers' adapters."""
        at_work = [layer for layer in layers if adapter in getattr(layer, "lora_A", ())]
        if not at_work:
            return
        self.a = torch.cat([layer.lora_A[adapter].weight.detach() for layer in at_work])
        self.a = self.a.to(self.weight.dtype).t().contiguous()
        self.b = self.weight.new_zeros(self.a.shape[1], len(self.weight))
        """(R, out), the second ones, scaled, each where its layer's ranks and outputs are."""
        rank = first = 0
        for layer, base in zip(layers, bases, strict=True):
            last = first + len(base.weight)
            if layer in at_work:
                b = layer.lora_B[adapter].weight.detach()
                part = self.b[rank : rank + b.shape[1], first:last]
                part.copy_(layer.scaling[adapter] * b.t())
                rank += b.shape[1]
            first = last

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs (N, out) of inputs (N, in)."""
        x = x.to(self.weight.dtype)
        y = torch.mm(x, self.weight.t())
        if self.a is not None:
            y.addmm_(torch.mm(x, self.a), self.b)
        return y


class TokenRows:
    """A (V, D) matrix with a row for each token, some of which an adapter may replace.

    Args:
        module: An embedding or the lm_head, or peft's wrapper of it.
        adapter: Whose rows count.
    """

    def __init__(self, module: Any, adapter: str | None) -> None:
        wrapper = getattr(module, "token_adapter", None)
        layer = module if wrapper is None else wrapper.get_base_layer()
        self.weight: torch.Tensor = layer.weight.detach()
        self.rows: torch.Tensor | None = None
        if wrapper is not None and adapter in wrapper.trainable_tokens_delta:
            self.rows = wrapper.trainable_tokens_delta[adapter].detach().to(self.weight.dtype)
            self.indices = torch.tensor(wrapper.token_indices[adapter], device=self.weight.device)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """(N, D) in fp32, of ids (N,)."""
        x = self.weight[ids]
        if self.rows is not None:
            same = ids[:, None] == self.indices
            x = torch.where(same.any(1, keepdim=True), self.rows[same.int().argmax(1)], x)
        return x.float()

    def likeliest(self, hidden: torch.Tensor) -> torch.Tensor:
        """The id (N,) with the highest logit for each hidden state (N, D)."""
        logits = torch.mm(hidden, self.weight.t())
        if self.rows is not None:
            logits[:, self.indices] = torch.mm(hidden, self.rows.t())
        return logits.argmax(-1)


class Attention:
    """The norm and the projections of an attention sublayer.

    Args:
        norm: T5's norm before it.
        layer: T5's attention.
        adapter: At work in it.
        cross: Whether keys and values are made of another input than the queries.
    """

    def __init__(self, norm: Any, layer: Any, adapter: str | None, *, cross: bool = False) -> None:
        self.norm = Norm(norm)
        self.q = Linear([layer.q] if cross else [layer.q, layer.k, layer.v], adapter)
        """Queries, and without `cross` keys and values beside them."""
        self.kv = Linear([layer.k, layer.v], adapter) if cross else None
        self.o = Linear([layer.o], adapter)
        self.heads: tuple[int, int] = (layer.n_heads, layer.key_value_proj_dim)

    def projected(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 1 or 3, H, d) of the residual stream (N, D)."""
        return self.q(self.norm.forward(x)[0]).view(len(x), -1, *self.heads)


class FeedForward:
    """Norm, one or (gated, Shazeer 2020) two products, activation, output projection."""

    def __init__(self, norm: Any, layer: Any, activation: str, adapter: str | None) -> None:
        self.norm = Norm(norm)
        self.gated = hasattr(layer, "wi_0")
        self.wi = Linear([layer.wi_0, layer.wi_1] if self.gated else [layer.wi], adapter)
        self.wo = Linear([layer.wo], adapter)
        self.act, _ = ACTIVATIONS[activation]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """What is added to the residual stream (N, D)."""
        h = self.wi(self.norm.forward(x)[0])
        if self.gated:
            gate, linear = h.chunk(2, dim=1)
            return self.wo(self.act(gate).mul_(linear))
        return self.wo(self.act(h))


class DecoderLayer:
    """The three sublayers of a decoder's block."""

    def __init__(self, block: Any, activation: str, adapter: str | None) -> None:
        own, cross, ff = block.layer
        self.own = Attention(own.layer_norm, own.SelfAttention, adapter)
        self.cross = Attention(cross.layer_norm, cross.EncDecAttention, adapter, cross=True)
        self.ff = FeedForward(ff.layer_norm, ff.DenseReluDense, activation, adapter)


class StepModel:
    """A T5 with one of its adapters, or none, ready to read prompts and to say a token at a time.

    It reads the model's own weights, and the adapter's as they are when it is made.

    Args:
        model: One that :func:`qa_lora.decoding.support.why_not` has nothing against.
        adapter: The adapter's name, None for the base.
    """

    def __init__(self, model: PeftModel, adapter: str | None) -> None:
        base: Any = model.get_base_model()
        act = base.config.dense_act_fn
        self.start_id: int = base.generation_config.decoder_start_token_id
        self.read = TokenRows(base.encoder.embed_tokens, adapter)
        self.encoder = [
            (
                Attention(own.layer_norm, own.SelfAttention, adapter),
                FeedForward(ff.layer_norm, ff.DenseReluDense, act, adapter),
            )
            for own, ff in (block.layer for block in base.encoder.block)
        ]
        self.encoder_norm = Norm(base.encoder.final_layer_norm)
        self.said = TokenRows(base.decoder.embed_tokens, adapter)
        self.decoder = [DecoderLayer(block, act, adapter) for block in base.decoder.block]
        self.decoder_norm = Norm(base.decoder.final_layer_norm)
        self.head = TokenRows(base.lm_head, adapter)
        self.head_scale = base.model_dim**-0.5 if base.config.scale_decoder_outputs else 1.0
        self._encoder_bias = base.encoder.block[0].layer[0].SelfAttention.compute_bias
        self._decoder_bias = base.decoder.block[0].layer[0].SelfAttention.compute_bias

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of keys, values and what the encoder gives."""
        return self.decoder[0].own.q.weight.dtype

    def encode(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """The encoder's output (M, D) for all prompts, one after the other, without padding."""
        lengths = [len(ids) for ids in prompts]
        longest = max(lengths)
        bias = self._encoder_bias(longest, longest)[0]
        groups: list[Group] = group_rows(lengths, lengths, bias, self.device, self.dtype)
        x = self.read.embed(torch.tensor([i for ids in prompts for i in ids], device=self.device))
        for attention, ff in self.encoder:
            q, k, v = attention.projected(x).unbind(1)
            context, _ = attend(q, k, v, groups)
            x = x.add_(attention.o(context))
            x = x.add_(ff(x))
        return self.encoder_norm.forward(x)[0]

    def decoder_bias(self, longest: int) -> torch.Tensor:
        """(H, longest): what the last of so many tokens adds to its scores with all of them.

        It depends on the distance alone, so that of fewer tokens is the end of it.
        """
        bias: torch.Tensor = self._decoder_bias(1, longest, past_seen_tokens=longest - 1)
        return bias[0, :, 0]
