"""Attention over packed rows: each row attends within itself, rows of like length together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

__all__ = ["Group", "attend", "attend_backward", "group_rows"]

CALL_COST = 4_000
"""On a CPU, about as many scores (queries x keys) as take the time of one more group."""


@dataclass(frozen=True)
class Group:
    """Rows whose attention is computed as one padded batch; of a single row nothing is padded."""

    queries: torch.Tensor | slice
    """(B * Q,) places in the packed queries, or the slice of the one row."""
    keys: torch.Tensor | slice
    """(B * K,) places in the packed keys, or the slice of the one row."""
    size: tuple[int, int, int]
    """B, Q, K."""
    bias: torch.Tensor | None
    """Added to the scores, (H or 1, Q, K) for one row and (B, H or 1, Q or 1, K) for several."""
    real: _Real | None
    """Which queries are some, if others are padding."""
    real_keys: _Real | None
    """Which keys are some, if others are padding."""


@dataclass(frozen=True)
class _Real:
    """The part of a padded batch that is not padding."""

    flags: torch.Tensor
    """(B, 1, L, 1), 1 for what is real, 0 for padding."""
    padded: torch.Tensor
    """(n,) its places in the padded batch."""
    packed: torch.Tensor
    """(n,) its places in the packed rows."""


def group_rows(
    query_lengths: Sequence[int],
    key_lengths: Sequence[int],
    bias: torch.Tensor | None,
    device: torch.device,
    dtype: torch.dtype,
) -> list[Group]:
    """Divide packed rows into groups: padding costs time, and so does every group.

    Args:
        query_lengths: Of each row.
        key_lengths: Of each row.
        bias: (H, at least the longest query, at least the longest key) for all rows, such as T5's
            relative positions.
        device: Of the tensors.
        dtype: Of the scores.
    """
    starts = _starts(query_lengths), _starts(key_lengths)
    lengths = list(zip(query_lengths, key_lengths, strict=True))
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    # On a GPU another call costs more than padding ever does.
    call_cost = CALL_COST if device.type == "cpu" else 1 << 60
    groups: list[list[int]] = []
    for i in order:
        if groups:
            together = [*groups[-1], i]
            apart = _area(groups[-1], lengths) + lengths[i][0] * lengths[i][1] + call_cost
            if _area(together, lengths) <= apart:
                groups[-1] = together
                continue
        groups.append([i])
    return [_group(rows, lengths, starts, bias, device, dtype) for rows in groups]


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, groups: Sequence[Group]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """T5's attention: softmax of unscaled scores plus bias.

    Args:
        q: (N, H, d), packed queries.
        k: (M, H, d), packed keys.
        v: (M, H, d), packed values.
        groups: Which of them belong together.

    Returns:
        (N, H * d), and the probabilities of each group for the backward pass.
    """
    out = torch.empty((len(q), q.shape[1] * q.shape[2]), dtype=q.dtype, device=q.device)
    saved = []
    for group in groups:
        heads_q, heads_k, heads_v = _take(q, k, v, group)
        scores = _scores(heads_q, heads_k, group)
        probabilities = torch.softmax(scores, -1)
        _put(out.view(q.shape), torch.bmm(probabilities, heads_v), group.queries, group.real)
        saved.append(probabilities)
    return out, saved


def attend_backward(
    grad: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    groups: Sequence[Group],
    saved: Sequence[torch.Tensor],
    grads: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    """Fill the gradients of queries, keys and values.

    Args:
        grad: (N, H * d), of the output.
        q: As in `attend`.
        k: As in `attend`.
        v: As in `attend`.
        groups: As in `attend`.
        saved: What `attend` gave.
        grads: Where the gradients of q, k and v go, in their shapes.
    """
    grad_q, grad_k, grad_v = grads
    for group, probabilities in zip(groups, saved, strict=True):
        heads_q, heads_k, heads_v = _take(q, k, v, group)
        B, Q, _ = group.size
        heads_grad = _heads(grad.view(q.shape), group.queries, B, Q)
        if group.real is not None:
            # A padding query repeats a real one; what it would give back must not count twice.
            heads_grad.view(B, -1, *heads_grad.shape[1:]).mul_(group.real.flags)
        grad_p = torch.bmm(heads_grad, heads_v.transpose(1, 2))
        _put(
            grad_v,
            torch.bmm(probabilities.transpose(1, 2), heads_grad),
            group.keys,
            group.real_keys,
        )
        # No public function does this in one pass over the scores.
        grad_s = torch._softmax_backward_data(  # noqa: SLF001
            grad_p, probabilities, -1, grad_p.dtype
        )
        _put(grad_q, torch.bmm(grad_s, heads_k), group.queries, group.real)
        _put(grad_k, torch.bmm(grad_s.transpose(1, 2), heads_q), group.keys, group.real_keys)


def _scores(q: torch.Tensor, k: torch.Tensor, group: Group) -> torch.Tensor:
    """(B * H, Q, K)."""
    if group.bias is None:
        return torch.bmm(q, k.transpose(1, 2))
    if group.bias.dim() == 3:
        return torch.baddbmm(group.bias, q, k.transpose(1, 2))
    B, Q, K = group.size
    scores = torch.bmm(q, k.transpose(1, 2)).view(B, -1, Q, K)
    return scores.add_(group.bias).view(-1, Q, K)


def _take(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, group: Group
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    B, Q, K = group.size
    return (
        _heads(q, group.queries, B, Q),
        _heads(k, group.keys, B, K),
        _heads(v, group.keys, B, K),
    )


def _heads(packed: torch.Tensor, places: torch.Tensor | slice, B: int, L: int) -> torch.Tensor:
    """(B * H, L, d) of (N, H, d)."""
    if isinstance(places, slice):
        return packed[places].transpose(0, 1)
    H, d = packed.shape[1:]
    return packed.index_select(0, places).view(B, L, H, d).transpose(1, 2).reshape(B * H, L, d)


def _put(
    packed: torch.Tensor,
    heads: torch.Tensor,
    places: torch.Tensor | slice,
    real: _Real | None,
) -> None:
    """The way back: (B * H, L, d) into its places of (N, H, d)."""
    if isinstance(places, slice):
        packed[places] = heads.transpose(0, 1)
        return
    H, d = packed.shape[1:]
    L = heads.shape[1]
    rows = heads.view(-1, H, L, d).transpose(1, 2).reshape(-1, H, d)
    if real is not None:
        places, rows = real.packed, rows.index_select(0, real.padded)
    packed.index_copy_(0, places, rows)


def _group(
    rows: Sequence[int],
    lengths: Sequence[tuple[int, int]],
    starts: tuple[list[int], list[int]],
    bias: torch.Tensor | None,
    device: torch.device,
    dtype: torch.dtype,
) -> Group:
    B, Q, K = len(rows), max(lengths[i][0] for i in rows), max(lengths[i][1] for i in rows)
    part = bias[:, :Q, :K] if bias is not None else None
    if B == 1:
        i = rows[0]
        q = slice(starts[0][i], starts[0][i] + Q)
        k = slice(starts[1][i], starts[1][i] + K)
        return Group(q, k, (B, Q, K), part, None, None)
    q_places, q_real = _padded(
        [starts[0][i] for i in rows], [lengths[i][0] for i in rows], device, dtype
    )
    k_places, k_real = _padded(
        [starts[1][i] for i in rows], [lengths[i][1] for i in rows], device, dtype
    )
    added = part[None] if part is not None else None
    if k_real is not None:
        hidden = (1 - k_real.flags.view(B, 1, 1, K)) * torch.finfo(dtype).min
        added = hidden if added is None else added + hidden
    return Group(q_places, k_places, (B, Q, K), added, q_real, k_real)


def _padded(
    starts: Sequence[int], lengths: Sequence[int], device: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor, _Real | None]:
    """Places of rows padded to the longest by repeating their last place, and which are real."""
    longest = torch.arange(max(lengths))
    count = torch.tensor(lengths)[:, None]
    places = (torch.tensor(starts)[:, None] + torch.minimum(longest, count - 1)).flatten()
    real = longest < count
    if bool(real.all()):
        return places.to(device), None
    padded = real.flatten().nonzero().flatten()
    flags = real[:, None, :, None].to(device, dtype)
    return places.to(device), _Real(flags, padded.to(device), places[padded].to(device))


def _area(rows: Sequence[int], lengths: Sequence[tuple[int, int]]) -> int:
    return len(rows) * max(lengths[i][0] for i in rows) * max(lengths[i][1] for i in rows)


def _starts(lengths: Sequence[int]) -> list[int]:
    starts, place = [], 0
    for length in lengths:
        starts.append(place)
        place += length
    return starts
