"""What the training of a micro-batch keeps for its backward pass, in bytes; loads no torch."""

from __future__ import annotations

from collections.abc import Sequence

from qa_lora.estimate.shapes import Linear, ModelShape

__all__ = ["packed_bytes", "plain_bytes"]

HEAD_TOKENS = {"cpu": 512, "gpu": 4096}
"""Tokens whose logits exist at once; see packed/loss.py."""
FP32 = 4

Rows = Sequence[tuple[int, int]]
"""Source and target tokens of each row."""


def packed_bytes(
    shape: ModelShape,
    rows: Rows,
    *,
    weight: int,
    rank: int,
    targets: Sequence[Linear],
    dropout: bool,
    device: str,
) -> int:
    """Bytes of the packed path (qa_lora/packed) when its memory is fullest: at the lm_head.

    Args:
        shape: The model.
        rows: The micro-batch.
        weight: Bytes of a frozen weight, and of what is computed from it.
        rank: Of the adapter.
        targets: The linear layers that have one.
        dropout: Whether the adapter has dropout, whose mask is kept.
        device: "cpu" or "gpu".
    """
    D, F, inner, V = _widths(shape)
    M, N = sum(s for s, _ in rows), sum(t for _, t in rows)
    mask = (weight if device == "cpu" else 1) if dropout else 0  # see packed/linear.py
    ff_width = 2 * F if shape.gated else F

    def adapters(stack: str, names: tuple[str, ...], width: int, extra: int = 0) -> int:
        """Of layers that share an input: its mask, and the input in the adapters' ranks."""
        count = sum(each.stack == stack and each.name in names for each in targets)
        return (width * mask + extra + count * rank * weight) if count else 0

    stream = FP32 * D + weight * D + FP32  # the residual stream, normed, and the inverse norm
    qkv, wi = ("q", "k", "v"), ("wi", "wi_0", "wi_1")

    def self_and_ff(stack: str) -> int:
        attention = stream + 3 * weight * inner
        attention += adapters(stack, qkv, D) + adapters(stack, ("o",), inner, weight * inner)
        feed_forward = stream + weight * ff_width
        feed_forward += adapters(stack, wi, D) + adapters(stack, ("wo",), F, weight * F)
        return attention + feed_forward

    cross = stream + weight * inner
    cross += adapters("decoder", ("q",), D) + adapters("decoder", ("o",), inner, weight * inner)
    memory = 2 * weight * inner + adapters("memory", ("k", "v"), D)
    kept = M * shape.encoder_layers * self_and_ff("encoder")
    kept += shape.decoder_layers * (N * (self_and_ff("decoder") + cross) + M * memory)
    kept += (M + N) * stream + M * (FP32 + weight) * D

    ss, tt, ts = _scores(rows, together=device != "cpu")
    scores = shape.encoder_layers * ss + shape.decoder_layers * (tt + ts)
    # Once for all layers: the positions' bias of rows that are computed together.
    kept += weight * shape.heads * (scores + ss + tt)

    # In fp32 the logits become probabilities where they are; bf16 ones are widened and narrowed.
    logit = FP32 if weight == FP32 else FP32 + 2 * weight
    head = min(N, HEAD_TOKENS[device]) * V * logit + N * D * (FP32 + 2 * weight)
    layer = N * (2 * weight * ff_width + FP32 * D) + weight * shape.heads * 2 * tt
    return kept + max(head, layer)


def plain_bytes(
    shape: ModelShape,
    rows: Rows,
    *,
    weight: int,
    rank: int,
    targets: Sequence[Linear],
    base_dropout: bool,
    checkpointing: bool,
) -> int:
    """Bytes of transformers' own forward pass under autograd, padded to the longest row.

    Args:
        shape: The model.
        rows: The micro-batch.
        weight: Bytes of a frozen weight, and of what is computed from it.
        rank: Of the adapter.
        targets: The linear layers that have one.
        base_dropout: Whether the base's dropout is on, whose masks are kept.
        checkpointing: Whether a layer keeps its input only.
    """
    D, F, inner, V = _widths(shape)
    S, T = max(s for s, _ in rows), max(t for _, t in rows)
    M, N = len(rows) * S, len(rows) * T
    # The gated GELU is five operations in transformers, each of which keeps something.
    ff_kept = (7 if shape.gated else 2) * F
    masks = 3 * D * FP32 if base_dropout else 0

    def adapters(stack: str) -> int:
        return sum(
            each.inputs * (FP32 + 1) + rank * FP32 for each in targets if each.stack == stack
        )

    norm = 2 * FP32 * D
    own = norm + weight * (4 * inner + D) + norm + weight * ff_kept + masks
    if base_dropout:
        own += F * FP32
    encoder = own + adapters("encoder")
    decoder = own + norm + weight * (2 * inner + D) + adapters("decoder")
    memory = 2 * weight * inner + adapters("memory")
    ss, tt, ts = (len(rows) * a * b for a, b in ((S, S), (T, T), (T, S)))
    # Softmax in fp32 and, of lower precision or with dropout, another copy.
    per_score = FP32 + weight + (FP32 if base_dropout else 0)
    encoder_layer = M * encoder + shape.heads * ss * per_score
    decoder_layer = N * decoder + M * memory + shape.heads * (tt + ts) * per_score
    if checkpointing:
        kept = weight * D * (M * shape.encoder_layers + N * shape.decoder_layers)
        kept += max(encoder_layer, decoder_layer)
    else:
        kept = shape.encoder_layers * encoder_layer + shape.decoder_layers * decoder_layer
    real = sum(t for _, t in rows)
    # Logits, the real ones in fp32, their log-probabilities, and the gradients of these.
    logits = N * V * weight + real * V * (2 * FP32 + FP32)
    return kept + logits


def _widths(shape: ModelShape) -> tuple[int, int, int, int]:
    """Numbers a token has in the stream, in the feed-forward, in all heads, and as logits."""
    return shape.d_model, shape.d_ff, shape.inner, shape.vocabulary


def _scores(rows: Rows, *, together: bool) -> tuple[int, int, int]:
    """Attention scores of a head: source by source, target by target, target by source."""
    if together:
        S, T = max(s for s, _ in rows), max(t for _, t in rows)
        return len(rows) * S * S, len(rows) * T * T, len(rows) * S * T
    return (
        sum(s * s for s, _ in rows),
        sum(t * t for _, t in rows),
        sum(s * t for s, t in rows),
    )
