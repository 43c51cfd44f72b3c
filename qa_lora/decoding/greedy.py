"""A batch of answers that grow together, a token at a time; who has ended leaves it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.nn import functional as F

from qa_lora.decoding.model import StepModel

__all__ = ["GreedyBatch"]

FIRST_COLUMNS = 32
"""Tokens that the caches have room for at first; the room doubles when it is used up."""


class GreedyBatch:
    """Answers to some prompts, each token the likeliest one.

    The first rows of all tensors are those at work: when an answer ends, the last row takes its
    place, so that the rows lie side by side and little is copied.

    Args:
        model: Says the tokens.
        prompts: Ids of B prompts, of like length for speed.
        ends: Ids that end an answer.
        max_new_tokens: Longest answer.
    """

    @torch.inference_mode()
    def __init__(
        self,
        model: StepModel,
        prompts: Sequence[Sequence[int]],
        ends: frozenset[int],
        max_new_tokens: int,
    ) -> None:
        self._model = model
        self._ends = ends
        self._longest = max_new_tokens
        self.rows = list(range(len(prompts)))
        """The prompts whose answers go on, in the order of the tensors' rows."""
        self._length = 0
        """Tokens that each row has said."""
        self._tokens = torch.full(
            (len(prompts), max_new_tokens + 1), model.start_id, device=model.device
        )
        """(B, 1 + T), the first of which is what the decoder starts with."""
        self._bias = model.decoder_bias(max_new_tokens).to(model.dtype)
        self._hidden, self._cross = _cross_caches(model, prompts)
        """(B, 1, 1, S), what is added to scores with prompts; of each layer (2, B, H, S, d)."""
        H, d = model.decoder[0].own.heads
        room = min(FIRST_COLUMNS, max_new_tokens)
        self._own = [
            torch.empty((2, len(prompts), H, room, d), dtype=model.dtype, device=model.device)
            for _ in model.decoder
        ]
        """Keys and values of what was said, of each layer (2, B, H, room, d)."""

    def advance(self, steps: int) -> Iterator[tuple[int, list[int], bool]]:
        """Say up to so many tokens more, and give the answers that ended.

        Args:
            steps: Tokens of each row.

        Yields:
            The prompt's place, its answer's ids without the end token, and whether it was cut.
        """
        before = self._length
        self._say(min(steps, self._longest - before))
        said = self._tokens[: len(self.rows), 1 : 1 + self._length]
        gone = []
        for row, new in enumerate(said[:, before:].tolist()):
            end = next((i for i, token in enumerate(new) if token in self._ends), None)
            if end is not None or self._length == self._longest:
                gone.append((row, self._length if end is None else before + end, end is None))
        ended = [(self.rows[row], said[row, :end].tolist(), cut) for row, end, cut in gone]
        self._drop([row for row, _, _ in gone])
        yield from ended

    @torch.inference_mode()
    def _say(self, steps: int) -> None:
        for _ in range(steps):
            if self._length == self._own[0].shape[3]:
                self._make_room()
            self._step()
            self._length += 1

    def _step(self) -> None:
        """The next token of every row."""
        model, n, t = self._model, len(self.rows), self._length
        x = model.said.embed(self._tokens[:n, t])
        # A copy, because attention on a GPU wants its first element at a round address.
        bias = (
            self._bias[:, self._longest - t - 1 :].contiguous()[None, :, None].expand(n, -1, -1, -1)
        )
        hidden = None if self._hidden is None else self._hidden[:n]
        for layer, own, cross in zip(model.decoder, self._own, self._cross, strict=True):
            qkv = layer.own.projected(x)
            own[:, :n, :, t] = qkv[:, 1:].transpose(0, 1)
            x = x.add_(layer.own.o(_attend(qkv, own[:, :n, :, : t + 1], bias)))
            x = x.add_(layer.cross.o(_attend(layer.cross.projected(x), cross[:, :n], hidden)))
            x = x.add_(layer.ff(x))
        normed, _ = model.decoder_norm.forward(x)
        if model.head_scale != 1.0:
            normed = normed * model.head_scale
        self._tokens[:n, t + 1] = model.head.likeliest(normed)

    def _make_room(self) -> None:
        n, t = len(self.rows), self._length
        for i, old in enumerate(self._own):
            _, _, H, _, d = old.shape
            new = old.new_empty((2, n, H, min(2 * t, self._longest), d))
            new[:, :, :, :t] = old[:, :n]
            self._own[i] = new

    @torch.inference_mode()
    def _drop(self, gone: Sequence[int]) -> None:
        """Let rows go, and the last ones take their places."""
        if not gone:
            return
        left = set(gone)
        n = len(self.rows) - len(gone)
        free = [row for row in gone if row < n]
        last = [row for row in range(n, len(self.rows)) if row not in left]
        for to, row in zip(free, last, strict=True):
            self.rows[to] = self.rows[row]
        del self.rows[n:]
        if not free:
            return
        places, sources = (torch.tensor(rows, device=self._tokens.device) for rows in (free, last))
        self._tokens[places] = self._tokens[sources]
        if self._hidden is not None:
            self._hidden[places] = self._hidden[sources]
        for own, cross in zip(self._own, self._cross, strict=True):
            own[:, places, :, : self._length] = own[:, sources, :, : self._length]
            cross[:, places] = cross[:, sources]


def _attend(q: torch.Tensor, kv: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """T5's attention of one token a row: softmax of unscaled scores plus bias.

    Args:
        q: (n, 1 or more, H, d), of which the first is the queries.
        kv: (2, n, H, T, d), keys and values.
        bias: (n, H or 1, 1, T).

    Returns:
        (n, H * d).
    """
    out = F.scaled_dot_product_attention(
        q[:, :1].transpose(1, 2), kv[0], kv[1], attn_mask=bias, scale=1.0
    )
    return out.transpose(1, 2).reshape(len(q), -1)


def _cross_caches(
    model: StepModel, prompts: Sequence[Sequence[int]]
) -> tuple[torch.Tensor | None, list[torch.Tensor]]:
    """Keys and values of the prompts, and what hides the padding, if there is some."""
    encoded = model.encode(prompts)
    lengths = torch.tensor([len(ids) for ids in prompts])
    positions = torch.arange(int(lengths.max()))
    starts = lengths.cumsum(0) - lengths
    places = starts[:, None] + torch.minimum(positions, lengths[:, None] - 1)
    padding = positions >= lengths[:, None]
    hidden = None
    if bool(padding.any()):
        hidden = torch.zeros(padding.shape, dtype=model.dtype)
        hidden = hidden.masked_fill_(padding, torch.finfo(model.dtype).min)
        hidden = hidden[:, None, None].to(model.device)
    places = places.to(model.device)
    caches = []
    for layer in model.decoder:
        assert layer.cross.kv is not None
        kv = layer.cross.kv(encoded).view(len(encoded), 2, *layer.cross.heads)
        caches.append(kv[places].permute(2, 0, 3, 1, 4).contiguous())
    return hidden, caches
