"""The gradients of all processes, summed by one exchange a step.

An adapter's gradients are small, so they go as one flat buffer after the whole backward pass. That
leaves the model unwrapped, whatever computes its loss.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist

from qa_lora.distributed import collective, count

__all__ = ["copy_from_first", "sum_gradients"]


def sum_gradients(parameters: Sequence[torch.Tensor], beside: torch.Tensor) -> torch.Tensor:
    """Replace each gradient by its sum over all processes; a missing one counts as zero.

    Args:
        parameters: The trained weights, in the same order everywhere.
        beside: A few numbers (K,) to be summed on the same way.

    Returns:
        The sums of `beside`, (K,).

    Raises:
        TrainingError: If another process has ended.
    """
    if count() == 1:
        return beside
    parts = [
        torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for parameter in parameters
    ]
    flat = torch.cat([part.detach().reshape(-1).float() for part in (*parts, beside)])
    with collective():
        dist.all_reduce(flat)
    start = 0
    for parameter, part in zip(parameters, parts, strict=True):
        end = start + part.numel()
        parameter.grad = flat[start:end].view_as(part).to(part.dtype)
        start = end
    return flat[start:]


def copy_from_first(parameters: Sequence[torch.Tensor]) -> None:
    """Give all processes the first one's weights, by one exchange.

    Raises:
        TrainingError: If another process has ended.
    """
    if count() == 1:
        return
    flat = torch.cat([parameter.detach().reshape(-1).float() for parameter in parameters])
    with collective():
        dist.broadcast(flat, src=0)
    start = 0
    with torch.no_grad():
        for parameter in parameters:
            end = start + parameter.numel()
            parameter.copy_(flat[start:end].view_as(parameter))
            start = end
