"""The sublayers of a T5: forward over packed rows, and backward by hand.

Each adds to the residual stream x (N, D), in fp32. ``forward`` gives the new stream and what
``backward`` needs; ``backward`` takes the gradient of the new stream and gives that of the old one,
in the same tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from qa_lora.packed.attention import Group, attend, attend_backward
from qa_lora.packed.linear import AdaptedLinear

__all__ = ["CrossAttention", "FeedForward", "Memory", "Norm", "SelfAttention"]


class Norm:
    """Root-mean-square norm (Zhang and Sennrich, 2019), as T5 has it."""

    def __init__(self, layer: Any) -> None:
        self.weight = layer.weight.detach()
        self.eps = layer.variance_epsilon

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, D) in the weight's dtype, and the inverse norms (N, 1)."""
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
        inverse = square.div_(x.shape[-1]).add_(self.eps).rsqrt_()
        return (x * inverse).to(self.weight.dtype).mul_(self.weight), inverse

    def backward(
        self,
        grad: torch.Tensor,
        x: torch.Tensor,
        normed: torch.Tensor,
        inverse: torch.Tensor,
        onto: torch.Tensor,
    ) -> None:
        """Add the gradient of x to `onto`, of the gradient `grad` of `normed`."""
        shared = torch.linalg.vecdot(grad.float(), normed.float())[:, None]
        onto.addcmul_(grad.mul_(self.weight).float(), inverse)
        onto.addcmul_(x, shared.mul_(inverse).mul_(inverse), value=-1.0 / x.shape[-1])


@dataclass
class Memory:
    """The encoder's output, which the decoder attends to, and its gradient so far."""

    hidden: torch.Tensor
    """(M, D), in the weights' dtype."""
    grad: torch.Tensor | None
    """(M, D), in fp32; None if nothing in the encoder is trained."""


class SelfAttention:
    """Norm, queries, keys and values in one product, attention, output projection."""

    def __init__(self, norm: Any, layer: Any) -> None:
        self.norm = Norm(norm)
        self.qkv = AdaptedLinear([layer.q, layer.k, layer.v])
        self.o = AdaptedLinear([layer.o])
        self.shape = (3, layer.n_heads, layer.key_value_proj_dim)
        self.trained = self.qkv.trained or self.o.trained

    def forward(
        self, x: torch.Tensor, groups: Sequence[Group], *, training: bool
    ) -> tuple[torch.Tensor, tuple[Any, ...]]:
        normed, inverse = self.norm.forward(x)
        qkv, saved_qkv = self.qkv.forward(normed, training=training)
        q, k, v = qkv.view(-1, *self.shape).unbind(1)
        context, probabilities = attend(q, k, v, groups)
        y, saved_o = self.o.forward(context, training=training)
        return x + y, (x, normed, inverse, qkv, saved_qkv, probabilities, saved_o)

    def backward(
        self,
        grad: torch.Tensor,
        saved: tuple[Any, ...],
        groups: Sequence[Group],
        *,
        need_input: bool,
    ) -> torch.Tensor:
        x, normed, inverse, qkv, saved_qkv, probabilities, saved_o = saved
        grad_context = self.o.backward(grad.to(normed.dtype), saved_o, need_input=True)
        assert grad_context is not None
        grad_qkv = torch.empty_like(qkv)
        q, k, v = qkv.view(-1, *self.shape).unbind(1)
        grad_q, grad_k, grad_v = grad_qkv.view(-1, *self.shape).unbind(1)
        attend_backward(grad_context, q, k, v, groups, probabilities, (grad_q, grad_k, grad_v))
        grad_normed = self.qkv.backward(grad_qkv, saved_qkv, need_input=need_input)
        if grad_normed is not None:
            self.norm.backward(grad_normed, x, normed, inverse, grad)
        return grad


class CrossAttention:
    """Norm, attention of the decoder to the encoder's output, output projection."""

    def __init__(self, norm: Any, layer: Any) -> None:
        self.norm = Norm(norm)
        self.q = AdaptedLinear([layer.q])
        self.kv = AdaptedLinear([layer.k, layer.v])
        self.o = AdaptedLinear([layer.o])
        self.heads = (layer.n_heads, layer.key_value_proj_dim)
        self.trained = self.q.trained or self.kv.trained or self.o.trained

    def forward(
        self, x: torch.Tensor, memory: Memory, groups: Sequence[Group], *, training: bool
    ) -> tuple[torch.Tensor, tuple[Any, ...]]:
        normed, inverse = self.norm.forward(x)
        q, saved_q = self.q.forward(normed, training=training)
        kv, saved_kv = self.kv.forward(memory.hidden, training=training)
        k, v = kv.view(-1, 2, *self.heads).unbind(1)
        context, probabilities = attend(q.view(-1, *self.heads), k, v, groups)
        y, saved_o = self.o.forward(context, training=training)
        return x + y, (x, normed, inverse, q, kv, saved_q, saved_kv, probabilities, saved_o)

    def backward(
        self,
        grad: torch.Tensor,
        saved: tuple[Any, ...],
        memory: Memory,
        groups: Sequence[Group],
        *,
        need_input: bool,
    ) -> torch.Tensor:
        x, normed, inverse, q, kv, saved_q, saved_kv, probabilities, saved_o = saved
        grad_context = self.o.backward(grad.to(normed.dtype), saved_o, need_input=True)
        assert grad_context is not None
        grad_q, grad_kv = torch.empty_like(q), torch.empty_like(kv)
        k, v = kv.view(-1, 2, *self.heads).unbind(1)
        grad_k, grad_v = grad_kv.view(-1, 2, *self.heads).unbind(1)
        q_heads, grad_q_heads = q.view(-1, *self.heads), grad_q.view(-1, *self.heads)
        attend_backward(
            grad_context, q_heads, k, v, groups, probabilities, (grad_q_heads, grad_k, grad_v)
        )
        through = self.kv.backward(grad_kv, saved_kv, need_input=memory.grad is not None)
        if through is not None and memory.grad is not None:
            memory.grad.add_(through)
        grad_normed = self.q.backward(grad_q, saved_q, need_input=need_input)
        if grad_normed is not None:
            self.norm.backward(grad_normed, x, normed, inverse, grad)
        return grad


class FeedForward:
    """Norm, one or (gated, Shazeer 2020) two products, activation, output projection."""

    def __init__(self, norm: Any, layer: Any, activation: str) -> None:
        self.norm = Norm(norm)
        self.gated = hasattr(layer, "wi_0")
        self.wi = AdaptedLinear([layer.wi_0, layer.wi_1] if self.gated else [layer.wi])
        self.wo = AdaptedLinear([layer.wo])
        self.act, self.act_backward = ACTIVATIONS[activation]
        self.trained = self.wi.trained or self.wo.trained

    def forward(self, x: torch.Tensor, *, training: bool) -> tuple[torch.Tensor, tuple[Any, ...]]:
        normed, inverse = self.norm.forward(x)
        h, saved_wi = self.wi.forward(normed, training=training)
        y, saved_wo = self.wo.forward(self._activated(h), training=training)
        return x + y, (x, normed, inverse, h, saved_wi, saved_wo)

    def backward(
        self, grad: torch.Tensor, saved: tuple[Any, ...], *, need_input: bool
    ) -> torch.Tensor:
        x, normed, inverse, h, saved_wi, saved_wo = saved
        grad_a = self.wo.backward(grad.to(normed.dtype), saved_wo, need_input=True)
        assert grad_a is not None
        grad_h = torch.empty_like(h)
        if self.gated:
            gate, linear = h.chunk(2, dim=1)
            grad_gate, grad_linear = grad_h.chunk(2, dim=1)
            torch.mul(grad_a, self.act(gate), out=grad_linear)
            grad_gate.copy_(self.act_backward(grad_a.mul_(linear), gate))
        else:
            grad_h.copy_(self.act_backward(grad_a, h))
        grad_normed = self.wi.backward(grad_h, saved_wi, need_input=need_input)
        if grad_normed is not None:
            self.norm.backward(grad_normed, x, normed, inverse, grad)
        return grad

    def _activated(self, h: torch.Tensor) -> torch.Tensor:
        if not self.gated:
            return self.act(h)
        gate, linear = h.chunk(2, dim=1)
        return self.act(gate).mul_(linear)


Activation = tuple[
    Callable[[torch.Tensor], torch.Tensor], Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
]

ACTIVATIONS: dict[str, Activation] = {
    "gelu_new": (
        lambda x: F.gelu(x, approximate="tanh"),
        lambda grad, x: torch.ops.aten.gelu_backward(grad, x, approximate="tanh"),
    ),
    "relu": (torch.relu, lambda grad, x: grad * (x > 0)),
}
"""By the name in the model's config: the function, and its gradient of the gradient and input."""
