"""Cross-entropy of an lm_head, a piece at a time: the logits of all tokens never exist at once."""

from __future__ import annotations

import torch

from qa_lora.packed.linear import accumulate
from qa_lora.packed.tokens import TokenMatrix

__all__ = ["head_loss"]

CPU_TOKENS, GPU_TOKENS = 512, 4096
"""Tokens whose logits are computed together."""

CPU_STRIP = 16
"""Of these, tokens whose exponentials are taken together on a CPU: few enough for its cache."""

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
    on_cpu = hidden.device.type == "cpu"
    size = min(CPU_TOKENS if on_cpu else GPU_TOKENS, len(hidden))
    total = torch.zeros((), dtype=torch.float32, device=hidden.device)
    grad = torch.empty_like(hidden) if grad_scale is not None else None
    weight = head.weight
    V = weight.shape[0]
    rows = head.values() if head.rows is not None else None
    grad_rows = None if rows is None else torch.zeros_like(rows, dtype=torch.float32)
    # One piece of memory for all logits, which become exponentials in place.
    room = torch.empty((size, V), dtype=weight.dtype, device=hidden.device)
    for first in range(0, len(hidden), size):
        part = slice(first, first + size)
        target = labels[part, None]
        product = room[: len(target)]
        torch.mm(hidden[part], weight.t(), out=product)
        if rows is not None:
            product[:, head.indices] = torch.mm(hidden[part], rows.t())
        at_target = product.gather(-1, target).float()
        e = product.float()
        highest, mean = _exponentials(e, CPU_STRIP if on_cpu else size, bool(label_smoothing))
        sums = e.sum(-1, keepdim=True)
        normaliser = highest + sums.log()
        total += (normaliser - at_target).sum() * (1 - label_smoothing)
        if mean is not None:
            total += (normaliser - mean).sum() * label_smoothing
        if grad is None:
            continue
        # The target is taken off in fp32: of a sure token next to nothing is left.
        e.scatter_add_(-1, target, sums * (label_smoothing - 1.0))
        if label_smoothing:
            e.sub_(sums * (label_smoothing / V))
        at_rows = None
        if grad_rows is not None:
            at_rows = e[:, head.indices].to(weight.dtype)
            grad_rows += torch.mm((at_rows / sums).t().to(weight.dtype), hidden[part])
            e[:, head.indices] = 0.0  # the matrix's own rows there are not at work
        grad_part = torch.mm(e.to(weight.dtype), weight, out=grad[part])
        if at_rows is not None and rows is not None:
            grad_part.addmm_(at_rows, rows)
        if grad_scale is not None:
            grad_part.mul_(grad_scale * hidden_scale / sums)
    if head.rows is not None and grad_rows is not None and grad_scale is not None:
        accumulate(head.rows, grad_rows, grad_scale)
    return total, grad


def _exponentials(
    logits: torch.Tensor, strip: int, with_mean: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Replace logits (N, V) by the exponentials of what they are below the highest of their row.

    Args:
        logits: In fp32.
        strip: Rows that are computed together.
        with_mean: Whether the rows' means are asked for.

    Returns:
        The highest logit of each row and, if asked for, the mean one, (N, 1) each.
    """
    highest, means = [], []
    for rows in logits.split(strip):
        highest.append(rows.amax(-1, keepdim=True))
        if with_mean:
            means.append(rows.mean(-1, keepdim=True))
        rows.sub_(highest[-1])
        if bool(rows.amin() < -WIDEST_SPREAD):
            rows.clamp_(min=-WIDEST_SPREAD)
        rows.exp_()
    return torch.cat(highest), torch.cat(means) if with_mean else None
