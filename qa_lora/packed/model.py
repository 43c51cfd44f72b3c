"""A T5 with a LoRA adapter over packed rows: loss, and gradients of the adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.trainable_tokens import TrainableTokensLayer

from qa_lora.batching import EncodedExample
from qa_lora.packed.attention import Group, group_rows
from qa_lora.packed.layers import (
    ACTIVATIONS,
    CrossAttention,
    FeedForward,
    Memory,
    Norm,
    SelfAttention,
)
from qa_lora.packed.loss import head_loss
from qa_lora.packed.tokens import TokenMatrix

__all__ = ["PackedModel", "why_not"]

ARCHITECTURES = ("T5ForConditionalGeneration", "MT5ForConditionalGeneration")


def why_not(model: PeftModel) -> str | None:
    """Why a model cannot be computed over packed rows; None if it can.

    Args:
        model: With its adapter.
    """
    base = model.get_base_model()
    if type(base).__name__ not in ARCHITECTURES:
        return f"{type(base).__name__} is no T5"
    if base.config.dense_act_fn not in ACTIVATIONS:
        return f"its activation is {base.config.dense_act_fn}"
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            if len(module.active_adapters) != 1 or module.merged or module.disable_adapters:
                return f"{name} has not exactly one adapter at work"
            if module.lora_variant or any(module.lora_bias.values()) or module.fan_in_fan_out:
                return f"the adapter of {name} is no plain LoRA"
        if isinstance(module, TrainableTokensLayer) and (
            module.disable_adapters or module.merged or len(module.active_adapters) != 1
        ):
            return f"{name} has not exactly one adapter at work"
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    if not trained:
        return "nothing in it is trained"
    known = (".lora_A.", ".lora_B.", ".trainable_tokens_delta.")
    other = next((name for name in trained if not any(part in name for part in known)), "")
    return f"{other} is trained, too" if other else None


@dataclass(frozen=True)
class _Packed:
    """Rows end to end, and who may attend to whom."""

    source: torch.Tensor
    """(M,) ids."""
    shifted: torch.Tensor
    """(N,) ids that the decoder reads."""
    labels: torch.Tensor
    """(N,) ids that it should say."""
    source_groups: list[Group]
    target_groups: list[Group]
    cross_groups: list[Group]


class PackedModel:
    """Computes what a T5 with an adapter computes, from the weights of the model it was made of.

    The model can still be used as before: it keeps its weights, of which some now lie side by side.

    Raises:
        ValueError: If :func:`why_not` has a reason.
    """

    def __init__(self, model: PeftModel) -> None:
        reason = why_not(model)
        if reason is not None:
            raise ValueError(reason)
        base = model.get_base_model()
        self._source = TokenMatrix(base.encoder.embed_tokens)
        self._target = TokenMatrix(base.decoder.embed_tokens)
        self._head = TokenMatrix(base.lm_head)
        self._head_scale = base.model_dim**-0.5 if base.config.scale_decoder_outputs else 1.0
        self._start_id = base.config.decoder_start_token_id
        act = base.config.dense_act_fn
        self._bias_layers = [
            stack.block[0].layer[0].SelfAttention for stack in (base.encoder, base.decoder)
        ]
        self._encoder: list[SelfAttention | FeedForward] = []
        self._decoder: list[SelfAttention | CrossAttention | FeedForward] = []
        for block in base.encoder.block:
            attention, ff = block.layer
            self._encoder.append(SelfAttention(attention.layer_norm, attention.SelfAttention))
            self._encoder.append(FeedForward(ff.layer_norm, ff.DenseReluDense, act))
        for block in base.decoder.block:
            attention, cross, ff = block.layer
            self._decoder.append(SelfAttention(attention.layer_norm, attention.SelfAttention))
            self._decoder.append(CrossAttention(cross.layer_norm, cross.EncDecAttention))
            self._decoder.append(FeedForward(ff.layer_norm, ff.DenseReluDense, act))
        self._encoder_norm = Norm(base.encoder.final_layer_norm)
        self._decoder_norm = Norm(base.decoder.final_layer_norm)
        # What is trained below the first layer counts as layer -1.
        self._encoder_first = _first(
            [self._source.rows is not None, *(layer.trained for layer in self._encoder)]
        )
        encoder_trained = self._encoder_first < len(self._encoder)
        self._decoder_first = _first(
            [
                self._target.rows is not None,
                *(
                    layer.trained or (encoder_trained and isinstance(layer, CrossAttention))
                    for layer in self._decoder
                ),
            ]
        )
        self._biases: list[torch.Tensor] = []

    @torch.no_grad()
    def loss(self, rows: Sequence[EncodedExample]) -> torch.Tensor:
        """Summed negative log-likelihood of the rows' labels, in nats, without dropout."""
        packed = self._pack(rows)
        memory = Memory(self._encode(packed, training=False, tape=None)[0], None)
        hidden = self._decode(packed, memory, training=False, tape=None)[0]
        return head_loss(hidden.mul_(self._head_scale), self._head, packed.labels)[0]

    @torch.no_grad()
    def loss_and_gradients(
        self, rows: Sequence[EncodedExample], *, scale: float, label_smoothing: float = 0.0
    ) -> torch.Tensor:
        """The same with the adapter's dropout; adds the gradients of `scale` times it.

        Args:
            rows: A micro-batch.
            scale: Factor of the gradients, such as one over the label tokens of the whole batch.
            label_smoothing: Share of the target that is spread over the vocabulary.

        Returns:
            The sum, label smoothing included, before scaling.
        """
        packed = self._pack(rows)
        encoder_trained = self._encoder_first < len(self._encoder)
        encoder_tape: list[Any] | None = [] if encoder_trained else None
        encoded, *encoder_norm = self._encode(packed, training=True, tape=encoder_tape)
        memory = Memory(
            encoded,
            torch.zeros(encoded.shape, device=encoded.device) if encoder_trained else None,
        )
        tape: list[Any] = []
        hidden, x, inverse = self._decode(packed, memory, training=True, tape=tape)
        read = hidden * self._head_scale if self._head_scale != 1.0 else hidden
        total, grad_read = head_loss(
            read,
            self._head,
            packed.labels,
            label_smoothing=label_smoothing,
            grad_scale=scale,
            hidden_scale=self._head_scale,
        )
        assert grad_read is not None
        grad = torch.zeros_like(x)
        self._decoder_norm.backward(grad_read, x, hidden, inverse, grad)
        del read, hidden, x
        for i in range(len(self._decoder) - 1, max(self._decoder_first, 0) - 1, -1):
            layer, saved, deeper = self._decoder[i], tape.pop(), i > self._decoder_first
            if isinstance(layer, SelfAttention):
                grad = layer.backward(grad, saved, packed.target_groups, need_input=deeper)
            elif isinstance(layer, CrossAttention):
                grad = layer.backward(grad, saved, memory, packed.cross_groups, need_input=deeper)
            else:
                grad = layer.backward(grad, saved, need_input=deeper)
        self._target.embed_backward(packed.shifted, grad)
        if encoder_tape is not None and memory.grad is not None:
            x, inverse = encoder_norm
            grad = torch.zeros_like(x)
            self._encoder_norm.backward(memory.grad.to(encoded.dtype), x, encoded, inverse, grad)
            for i in range(len(self._encoder) - 1, max(self._encoder_first, 0) - 1, -1):
                encoder_layer, saved = self._encoder[i], encoder_tape.pop()
                deeper = i > self._encoder_first
                if isinstance(encoder_layer, SelfAttention):
                    grad = encoder_layer.backward(
                        grad, saved, packed.source_groups, need_input=deeper
                    )
                else:
                    grad = encoder_layer.backward(grad, saved, need_input=deeper)
            self._source.embed_backward(packed.source, grad)
        return total

    def _encode(
        self, packed: _Packed, *, training: bool, tape: list[Any] | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Normed output, the stream before the norm, and its inverse norms."""
        x = self._source.embed(packed.source)
        for layer in self._encoder:
            if isinstance(layer, SelfAttention):
                x, saved = layer.forward(x, packed.source_groups, training=training)
            else:
                x, saved = layer.forward(x, training=training)
            if tape is not None:
                tape.append(saved)
        normed, inverse = self._encoder_norm.forward(x)
        return normed, x, inverse

    def _decode(
        self, packed: _Packed, memory: Memory, *, training: bool, tape: list[Any] | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Normed output, the stream before the norm, and its inverse norms."""
        x = self._target.embed(packed.shifted)
        for layer in self._decoder:
            if isinstance(layer, SelfAttention):
                x, saved = layer.forward(x, packed.target_groups, training=training)
            elif isinstance(layer, CrossAttention):
                x, saved = layer.forward(x, memory, packed.cross_groups, training=training)
            else:
                x, saved = layer.forward(x, training=training)
            if tape is not None:
                tape.append(saved)
        normed, inverse = self._decoder_norm.forward(x)
        return normed, x, inverse

    def _pack(self, rows: Sequence[EncodedExample]) -> _Packed:
        device, dtype = self._source.weight.device, self._source.weight.dtype
        source = [len(row.input_ids) for row in rows]
        target = [len(row.labels) for row in rows]
        encoder_bias, decoder_bias = self._relative_positions(max(*source, *target))
        shifted = [i for row in rows for i in (self._start_id, *row.labels[:-1])]
        return _Packed(
            source=torch.tensor([i for row in rows for i in row.input_ids], device=device),
            shifted=torch.tensor(shifted, device=device),
            labels=torch.tensor([i for row in rows for i in row.labels], device=device),
            source_groups=group_rows(source, source, encoder_bias, device, dtype),
            target_groups=group_rows(target, target, decoder_bias, device, dtype),
            cross_groups=group_rows(target, source, None, device, dtype),
        )

    def _relative_positions(self, longest: int) -> list[torch.Tensor]:
        """T5's position biases (H, L, L) of encoder and decoder, the latter with its causal mask.

        They depend on the distance alone, so those of shorter rows are parts of those of longer.
        """
        if not self._biases or self._biases[0].shape[-1] < longest:
            longest = -(-longest // 64) * 64
            encoder, decoder = (
                layer.compute_bias(longest, longest)[0].contiguous() for layer in self._bias_layers
            )
            later = torch.ones(longest, longest, dtype=torch.bool, device=decoder.device).triu_(1)
            decoder.masked_fill_(later, torch.finfo(decoder.dtype).min)
            self._biases = [encoder, decoder]
        return self._biases


def _first(flags: list[bool]) -> int:
    """Place of the first true one, counted from -1; behind the last if none is."""
    return (flags.index(True) if True in flags else len(flags)) - 1
