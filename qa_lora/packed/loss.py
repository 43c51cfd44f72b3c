"""Cross-entropy of an lm_head, a piece at a time: the logits of all tokens never exist at once."""

from __future__ import annotations

import torch

from qa_lora.packed.linear import accumulate
from qa_lora.packed.tokens import TokenMatrix

__all__ = ["head_loss"]

CPU_TOKENS, GPU_TOKENS = 256, 4096
"""Tokens whose logits are computed together."""

WIDEST_SPREAD = 80.0
"""Logits further apart give probabilities near the smallest float, where CPUs compute slowly."""


def head_loss(
    hidden: torch.Tensor,
    head: TokenMatrix,
    labels: torch.Tensor,
    *,
    label_smoothing: float = 0.0,
    grad_scale: float | None = None,
    hidden_scale: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Summed negative log-likelihood of labels, and its gradient to the hidden states.

    Args:
        hidden: (N, D), what the lm_head reads.
        head: (V, D); its trained rows, if it has some, get their gradient, too.
        labels: (N,), all real.
        label_smoothing: Share of the target that is spread over all V (Szegedy et al., 2016).
        grad_scale: Gradients are those of the sum times this; none is computed if None.
        hidden_scale: `hidden` is so many times what the returned gradient is asked for.

    Returns:
        The sum in nats, fp32, and the gradient (N, D).
    """
    total = torch.zeros((), dtype=torch.float32, device=hidden.device)
    grad = torch.empty_like(hidden) if grad_scale is not None else None
    size = CPU_TOKENS if hidden.device.type == "cpu" else GPU_TOKENS
    weight = head.weight
    V = weight.shape[0]
    rows = head.values() if head.rows is not None else None
    grad_rows = None if rows is None else torch.zeros_like(rows, dtype=torch.float32)
    for first in range(0, len(hidden), size):
        part = slice(first, first + size)
        target = labels[part, None]
        logits = torch.mm(hidden[part], weight.t()).float()
        if rows is not None:
            logits[:, head.indices] = torch.mm(hidden[part], rows.t()).float()
        lowest, highest = torch.aminmax(logits, dim=-1, keepdim=True)
        at_target = logits.gather(-1, target)
        mean = logits.mean(-1, keepdim=True) if label_smoothing else None
        wide = bool((highest - lowest).max() > WIDEST_SPREAD)
        p = torch.softmax(logits, -1)
        del logits
        # The likeliest token's probability is never tiny, so its logarithm is exact enough.
        normaliser = highest - p.amax(-1, keepdim=True).log()
        total += (normaliser - at_target).sum() * (1 - label_smoothing)
        if mean is not None:
            total += (normaliser - mean).sum() * label_smoothing
        if grad is None:
            continue
        if wide:
            p.masked_fill_(p < 1e-30, 0.0)
        p.scatter_add_(-1, target, torch.full_like(at_target, label_smoothing - 1.0))
        if label_smoothing:
            p.sub_(label_smoothing / V)
        at_rows = None
        if grad_rows is not None:
            at_rows = p[:, head.indices].to(weight.dtype)
            grad_rows += torch.mm(at_rows.t(), hidden[part])
            p[:, head.indices] = 0.0  # the matrix's own rows there are not at work
        torch.mm(p.to(weight.dtype), weight, out=grad[part])
        if at_rows is not None and rows is not None:
            grad[part].addmm_(at_rows, rows)
    if grad is not None and grad_scale is not None:
        grad.mul_(grad_scale * hidden_scale)
        if head.rows is not None and grad_rows is not None:
            accumulate(head.rows, grad_rows, grad_scale)
    return total, grad
