"""How often each source of a mixture comes in training."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Container, Mapping, Sequence

from qa_lora.data.example import QAExample, question_key

__all__ = ["times", "weighted"]

_DRAWS = 1 << 64


def weighted(
    examples: Sequence[QAExample],
    origins: Sequence[str],
    weights: Mapping[str, float],
    seed: int,
    streams: Container[str] = (),
) -> Sequence[int]:
    """Draw training examples by the weights of their sources.

    A source of weight 2 comes twice. Of one of weight 0.5, half of the questions come, each with
    all its answers; of one of weight 1.5, all, and half of them twice. Which ones follows from the
    seed and the questions, not from the order of the rows.

    Args:
        examples: The training side, n examples.
        origins: The source of each.
        weights: Weight of each source; one that is not named has 1.
        seed: Another seed, other questions.
        streams: Sources of which :func:`times` says for each question by itself how often it comes,
            as for rows that are not here yet.

    Returns:
        Indices into `examples`, in their order; repeats stand side by side.
    """
    shares = {
        origin: weight % 1
        for origin, weight in weights.items()
        if weight % 1 and origin not in streams
    }
    keys: dict[str, set[int]] = {origin: set() for origin in shares}
    draws = array("Q", bytes(8 * len(origins)))
    if shares:  # else no text is read
        for index, (example, origin) in enumerate(zip(examples, origins, strict=True)):
            if origin in shares:
                draws[index] = _draw(example, seed)
                keys[origin].add(draws[index])
    last: dict[str, int] = {}
    for origin, drawn in keys.items():
        count = round(len(drawn) * shares[origin])
        if weights[origin] < 1:
            count = max(1, count)  # no source is lost altogether
        last[origin] = sorted(drawn)[count - 1] if drawn and count else -1
    found = array("q")
    for index, origin in enumerate(origins):
        weight = weights.get(origin, 1)
        often = int(weight)
        if origin in streams and weight % 1:
            often = times(examples[index], weight, seed)
        elif origin in last and draws[index] <= last[origin]:
            often += 1
        found.extend([index] * often)
    return found


def times(example: QAExample, weight: float, seed: int) -> int:
    """How often an example of a stream comes in training: its weight, on average.

    Args:
        example: One of the stream.
        weight: Of its source.
        seed: Another seed, other questions.
    """
    share = weight % 1
    return int(weight) + (share > 0 and _draw(example, seed) < share * _DRAWS)


def _draw(example: QAExample, seed: int) -> int:
    """A number that is as good as random, the same for all rows of a question."""
    key = question_key(example.question, example.context, example.history)
    digest = hashlib.sha256(f"mixture {seed}\n{key}".encode("utf-8", errors="surrogatepass"))
    return int.from_bytes(digest.digest()[:8], "big")
