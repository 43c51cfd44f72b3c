"""A T5 with a LoRA adapter over packed rows: loss, and gradients of the adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


class _Stack:
    """An encoder or a decoder: its embedding, its sublayers in order, and the norm after them.

    Args:
        stack: The T5's.
        activation: Of its feed-forward layers.
        encoder_trained: Of a decoder, whether what it attends to takes gradients.
    """

    def __init__(self, stack: Any, activation: str, *, encoder_trained: bool = False) -> None:
        self.tokens = TokenMatrix(stack.embed_tokens)
        self.layers: list[SelfAttention | CrossAttention | FeedForward] = []
        for block in stack.block:
            attention, *cross, ff = block.layer
            self.layers.append(SelfAttention(attention.layer_norm, attention.SelfAttention))
            self.layers += [CrossAttention(c.layer_norm, c.EncDecAttention) for c in cross]
            self.layers.append(FeedForward(ff.layer_norm, ff.DenseReluDense, activation))
        self.norm = Norm(stack.final_layer_norm)
        takes_gradients = (
            layer.trained or (encoder_trained and isinstance(layer, CrossAttention))
            for layer in self.layers
        )
        self.lowest = next((i for i, taken in enumerate(takes_gradients) if taken), None)
        """The first sublayer that gradients must reach, -1 for the embedding; None if none is."""
        if self.tokens.rows is not None:
            self.lowest = -1

    def forward(
        self,
        ids: torch.Tensor,
        beside: Mapping[type, Any],
        *,
        training: bool,
        tape: list[Any] | None,
    ) -> torch.Tensor:
        """Normed output (N, D).

        Args:
            ids: (N,), what is read.
            beside: For each kind of sublayer, what it takes beside the stream.
            training: Whether adapters drop out.
            tape: What `backward` needs goes there, unless it is None.
        """
        x = self.tokens.embed(ids)
        for layer in self.layers:
            x, saved = layer.forward(x, *beside[type(layer)], training=training)
            if tape is not None:
                tape.append(saved)
        normed, inverse = self.norm.forward(x)
        if tape is not None:
            tape.append((x, normed, inverse))
        return normed

    def backward(
        self,
        grad_normed: torch.Tensor,
        ids: torch.Tensor,
        beside: Mapping[type, Any],
        tape: list[Any],
    ) -> None:
        """Add the gradients of what is trained; empties the tape on its way.

        Args:
            grad_normed: (N, D), of the normed output; overwritten.
            ids: As in `forward`.
            beside: As in `forward`.
            tape: As `forward` left it.
        """
        if self.lowest is None:
            return
        x, normed, inverse = tape.pop()
        grad = torch.zeros_like(x)
        self.norm.backward(grad_normed, x, normed, inverse, grad)
        del x, normed, inverse
        for i in range(len(self.layers) - 1, max(self.lowest, 0) - 1, -1):
            layer, saved = self.layers[i], tape.pop()
            deeper = i > self.lowest
            grad = layer.backward(grad, saved, *beside[type(layer)], need_input=deeper)
        self.tokens.embed_backward(ids, grad)


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
        self._head = TokenMatrix(base.lm_head)
        self._head_scale = base.model_dim**-0.5 if base.config.scale_decoder_outputs else 1.0
        self._start_id = base.config.decoder_start_token_id
        act = base.config.dense_act_fn
        self._bias_layers = [
            stack.block[0].layer[0].SelfAttention for stack in (base.encoder, base.decoder)
        ]
        self._encoder = _Stack(base.encoder, act)
        self._encoder_trained = self._encoder.lowest is not None
        self._decoder = _Stack(base.decoder, act, encoder_trained=self._encoder_trained)
        self._biases: list[torch.Tensor] = []

    @torch.no_grad()
    def loss(self, rows: Sequence[EncodedExample]) -> torch.Tensor:
        """Summed negative log-likelihood of the rows' labels, in nats, without dropout."""
        packed = self._pack(rows)
        encoded = self._encoder.forward(
            packed.source, _encoder_side(packed), training=False, tape=None
        )
        hidden = self._decoder.forward(
            packed.shifted,
            _decoder_side(packed, Memory(encoded, None)),
            training=False,
            tape=None,
        )
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
        encoder_side = _encoder_side(packed)
        encoder_tape: list[Any] | None = [] if self._encoder_trained else None
        encoded = self._encoder.forward(
            packed.source, encoder_side, training=True, tape=encoder_tape
        )
        memory = Memory(
            encoded,
            torch.zeros(encoded.shape, device=encoded.device) if self._encoder_trained else None,
        )
        decoder_side = _decoder_side(packed, memory)
        tape: list[Any] = []
        hidden = self._decoder.forward(packed.shifted, decoder_side, training=True, tape=tape)
        read = hidden * self._head_scale if self._head_scale != 1.0 else hidden
        del hidden
        total, grad_read = head_loss(
            read,
            self._head,
            packed.labels,
            label_smoothing=label_smoothing,
            grad_scale=scale,
            hidden_scale=self._head_scale,
        )
        del read
        assert grad_read is not None
        self._decoder.backward(grad_read, packed.shifted, decoder_side, tape)
        if encoder_tape is not None and memory.grad is not None:
            grad_encoded = memory.grad.to(encoded.dtype)
            self._encoder.backward(grad_encoded, packed.source, encoder_side, encoder_tape)
        return total

    def _pack(self, rows: Sequence[EncodedExample]) -> _Packed:
        weight = self._encoder.tokens.weight
        device, dtype = weight.device, weight.dtype
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


def _encoder_side(packed: _Packed) -> Mapping[type, Any]:
    """What each kind of sublayer of the encoder takes beside the stream."""
    return {SelfAttention: (packed.source_groups,), FeedForward: ()}


def _decoder_side(packed: _Packed, memory: Memory) -> Mapping[type, Any]:
    """The same of the decoder."""
    return {
        SelfAttention: (packed.target_groups,),
        CrossAttention: (memory, packed.cross_groups),
        FeedForward: (),
    }
