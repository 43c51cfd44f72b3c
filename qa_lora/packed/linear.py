"""Frozen linear layers that share an input, as one matrix, with the adapters on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["AdaptedLinear", "accumulate", "joined", "keep_mask"]

MASK_LEVELS = 2**16
"""A mask's probability is a multiple of one part of this."""


@dataclass(frozen=True)
class _Adapter:
    """One LoRA adapter: adds ``scale * dropout(x) @ a.T @ b.T`` to some of the outputs."""

    first: int
    last: int
    """The outputs ``first:last`` of the joined matrix are its own."""
    a: torch.nn.Parameter
    """(r, in)."""
    b: torch.nn.Parameter
    """(last - first, r)."""
    scale: float


@dataclass
class Saved:
    """What the backward pass of an `AdaptedLinear` needs of its forward pass."""

    x: torch.Tensor
    mask: torch.Tensor | None
    u: torch.Tensor
    """(N, R), the input in the adapters' ranks."""


class AdaptedLinear:
    """Linear layers without bias on one input, joined into one matrix; see Hu et al. (2021).

    The layers' own weights become views of the joined matrix, so it takes no memory of its own.
    Their adapters draw one dropout mask together, where peft draws one for each.
    """

    def __init__(self, layers: Sequence[Any]) -> None:
        bases = [getattr(layer, "base_layer", layer) for layer in layers]
        self.weight = joined([base.weight for base in bases])
        self.adapters: list[_Adapter] = []
        self.dropout = 0.0
        first = 0
        for layer, base in zip(layers, bases, strict=True):
            last = first + base.weight.shape[0]
            if base is not layer:
                name = layer.active_adapters[0]
                a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
                self.adapters.append(_Adapter(first, last, a, b, layer.scaling[name]))
                self.dropout = getattr(layer.lora_dropout[name], "p", 0.0)
            first = last

    @property
    def trained(self) -> bool:
        """Whether there is an adapter on it."""
        return bool(self.adapters)

    def forward(self, x: torch.Tensor, *, training: bool) -> tuple[torch.Tensor, Saved | None]:
        """Outputs (N, out) of inputs (N, in), and what `backward` needs, if there are adapters."""
        y = torch.mm(x, self.weight.t())
        if not self.adapters:
            return y, None
        dropout = self.dropout if training else 0.0
        mask, kept = keep_mask(x.shape, dropout, x.device) if dropout else (None, 1.0)
        if mask is not None and x.device.type == "cpu":
            # A CPU would turn it into numbers at each of three uses.
            mask = mask.to(x.dtype)
        dropped = x if mask is None else x * mask
        u = torch.mm(dropped, self._joined_a(x.dtype).t())
        for adapter, part in self._parts(u):
            b = adapter.b.to(x.dtype)
            y[:, adapter.first : adapter.last].add_(
                torch.mm(part, b.t()), alpha=adapter.scale / kept
            )
        return y, Saved(x, mask, u)

    def backward(
        self, grad: torch.Tensor, saved: Saved | None, *, need_input: bool
    ) -> torch.Tensor | None:
        """Add to the adapters' gradients; give that of the input.

        Args:
            grad: (N, out), of the outputs.
            saved: What `forward` gave.
            need_input: Whether anything before this layer is trained.

        Returns:
            (N, in), or None if it is not needed.
        """
        grad_x = torch.mm(grad, self.weight) if need_input else None
        if saved is None:
            return grad_x
        kept = 1.0 if saved.mask is None else _kept(self.dropout)
        grad_u = torch.empty_like(saved.u)
        for (adapter, part), (_, grad_part) in zip(
            self._parts(saved.u), self._parts(grad_u), strict=True
        ):
            grad_y = grad[:, adapter.first : adapter.last]
            scale = adapter.scale / kept
            accumulate(adapter.b, torch.mm(grad_y.t(), part), scale)
            grad_part.copy_(torch.mm(grad_y, adapter.b.to(grad.dtype)).mul_(scale))
        dropped = saved.x if saved.mask is None else saved.x * saved.mask
        grad_a = torch.mm(grad_u.t(), dropped)
        for adapter, part in self._parts(grad_a.t()):
            accumulate(adapter.a, part.t())
        if grad_x is not None:
            through = torch.mm(grad_u, self._joined_a(grad.dtype))
            if saved.mask is None:
                grad_x.add_(through)
            else:
                grad_x.addcmul_(through, saved.mask.to(grad_x.dtype))
        return grad_x

    def _joined_a(self, dtype: torch.dtype) -> torch.Tensor:
        """(R, in): the first matrices of all adapters."""
        return torch.cat([adapter.a for adapter in self.adapters]).to(dtype)

    def _parts(self, ranks: torch.Tensor) -> list[tuple[_Adapter, torch.Tensor]]:
        """Each adapter with its columns of (N, R)."""
        sizes = [adapter.a.shape[0] for adapter in self.adapters]
        return list(zip(self.adapters, ranks.split(sizes, dim=1), strict=True))


def accumulate(parameter: torch.nn.Parameter, grad: torch.Tensor, scale: float = 1.0) -> None:
    """Add to a parameter's gradient, as a backward pass of autograd does."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    parameter.grad.add_(grad, alpha=scale)


def keep_mask(
    shape: torch.Size, dropout: float, device: torch.device
) -> tuple[torch.Tensor, float]:
    """A dropout mask, from 16 random bits an element: several times as fast as `bernoulli_`.

    Args:
        shape: Of the mask.
        dropout: Probability of False.
        device: Where the mask is made, with that device's random numbers.

    Returns:
        The mask, True where an element is kept, and the exact share of True.
    """
    count = shape.numel()
    words = torch.empty((count + 3) // 4, dtype=torch.int64, device=device)
    bits = words.random_(-(2**63), None).view(torch.int16)[:count].view(shape)
    return bits >= _dropped_levels(dropout) - MASK_LEVELS // 2, _kept(dropout)


def _dropped_levels(dropout: float) -> int:
    return min(round(dropout * MASK_LEVELS), MASK_LEVELS - 1)


def _kept(dropout: float) -> float:
    return 1.0 - _dropped_levels(dropout) / MASK_LEVELS


def joined(weights: Sequence[torch.nn.Parameter]) -> torch.Tensor:
    """One matrix of several, of which they become views; the same one if they already are."""
    if len(weights) == 1:
        return weights[0].detach()
    ends = [weight.storage_offset() + weight.numel() for weight in weights]
    if all(
        weight.untyped_storage().data_ptr() == weights[0].untyped_storage().data_ptr()
        and weight.storage_offset() == end
        and weight.is_contiguous()
        for weight, end in zip(weights[1:], ends, strict=False)
    ):
        rows = sum(len(weight) for weight in weights)
        return weights[0].detach().as_strided((rows, weights[0].shape[1]), weights[0].stride())
    matrix = torch.cat([weight.detach() for weight in weights])
    first = 0
    for weight in weights:
        last = first + weight.shape[0]
        weight.data = matrix[first:last]
        first = last
    return matrix
