"""How many n-grams many pairs of texts have in common, counted for thousands of pairs at once.

Every overlap here is clipped as ROUGE, BLEU and chrF have it: an n-gram counts as often as both
texts hold it. The n-grams of a pair are packed into 64-bit numbers, sorted, and counted in runs; no
hash stands for a text, so the counts are exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ids", "clipped_overlaps", "overlaps", "skip_overlaps"]

Ids: TypeAlias = NDArray[np.uint32]
"""A text as numbers, one a word or character."""
Pair: TypeAlias = tuple[int, int]
Keys: TypeAlias = NDArray[np.uint64]

CHUNK_TOKENS, CHUNK_PAIRS = 12_000, 512
"""At most so much is sorted at once: it stays in a processor's cache."""


def overlaps(texts: Sequence[Ids], pairs: Sequence[Pair], order: int) -> NDArray[np.int64]:
    """The n-grams that pairs of texts have in common.

    Args:
        texts: Words or characters as numbers.
        pairs: Indices of two texts each.
        order: The longest n-grams to count.

    Returns:
        For each pair the overlap of 1-grams to `order`-grams, (pairs, order).
    """
    found = np.zeros((len(pairs), order), dtype=np.int64)
    for start, end in _chunks(texts, pairs):
        _count_ngrams(texts, pairs[start:end], found[start:end])
    return found


def _count_ngrams(texts: Sequence[Ids], pairs: Sequence[Pair], found: NDArray[np.int64]) -> None:
    order = found.shape[1]
    ids, pair, side, width = _stream(texts, pairs, order - 1)
    if width * order + len(pairs).bit_length() + 1 > 64:
        if len(pairs) == 1:
            found[0] = [_plain_overlap(texts, pairs[0], n) for n in range(1, order + 1)]
            return
        half = len(pairs) // 2
        _count_ngrams(texts, pairs[:half], found[:half])
        _count_ngrams(texts, pairs[half:], found[half:])
        return
    # A key holds, from the highest bits down: pair, the n-gram of the highest order, side. Sorted
    # once, it is sorted for every shorter n-gram, too, which is a prefix of it.
    keys = pair.copy()
    whole = ids > 0  # whether there is an n-gram here; behind it zeros fill the key
    for n in range(order):
        keys <<= width
        end = len(ids) - n
        whole[end:] = False
        whole[:end] &= ids[n:] > 0
        keys[:end] |= np.where(whole[:end], ids[n:], np.uint64(0))
    keys = ((keys << np.uint64(1)) | side)[ids > 0]
    keys.sort()
    seconds = _seconds(keys)
    keys >>= 1
    last = np.uint64((1 << width) - 1)
    for n in range(order, 0, -1):
        whole = (keys & last) > 0  # shorter n-grams end in zeros
        _add_runs(keys, seconds, width * n, found[:, n - 1], whole)
        keys >>= width


def skip_overlaps(texts: Sequence[Ids], pairs: Sequence[Pair], gap: int) -> NDArray[np.int64]:
    """The single words and skip-bigrams that pairs of texts have in common.

    Args:
        texts: Words as numbers.
        pairs: Indices of two texts each.
        gap: A skip-bigram has at most so many words between its two.

    Returns:
        For each pair, how many, (pairs,).
    """
    found = np.zeros(len(pairs), dtype=np.int64)
    for start, end in _chunks(texts, pairs):
        ids, pair, side, width = _stream(texts, pairs[start:end], gap + 1)
        first = (pair << width) | ids
        parts = [((first << width) << 1 | side)[ids > 0]]
        for distance in range(1, gap + 2):
            both = (ids[:-distance] > 0) & (ids[distance:] > 0)
            parts.append(
                (((first[:-distance] << width) | ids[distance:]) << 1 | side[:-distance])[both]
            )
        keys = np.concatenate(parts)
        keys.sort()
        seconds = _seconds(keys)
        keys >>= 1
        _add_runs(keys, seconds, 2 * width, found[start:end], None)
    return found


def clipped_overlaps(
    texts: Sequence[Ids], several: Sequence[tuple[int, Sequence[int]]], order: int
) -> NDArray[np.int64]:
    """The n-grams that a text has in common with several others taken together.

    Each counts as often as the text holds it, but no more than that one of the others has it which
    has it most often, as BLEU with several references has it.

    Args:
        texts: Words as numbers.
        several: The index of a text, and those of the others.
        order: The longest n-grams to count.

    Returns:
        For each the overlap of 1-grams to `order`-grams, (several, order).
    """
    found = np.zeros((len(several), order), dtype=np.int64)
    for at, (text, others) in enumerate(several):
        for n in range(1, order + 1):
            most: Counter[tuple[int, ...]] = Counter()
            for other in others:
                most |= _ngrams(texts[other], n)
            found[at, n - 1] = (_ngrams(texts[text], n) & most).total()
    return found


def _ngrams(ids: Ids, n: int) -> Counter[tuple[int, ...]]:
    words = ids.tolist()
    return Counter(zip(*(words[i:] for i in range(n)), strict=False))


def _plain_overlap(texts: Sequence[Ids], pair: Pair, n: int) -> int:
    return (_ngrams(texts[pair[0]], n) & _ngrams(texts[pair[1]], n)).total()


def _chunks(texts: Sequence[Ids], pairs: Sequence[Pair]) -> Iterator[tuple[int, int]]:
    """Where to cut the pairs so that few tokens are counted together."""
    start = tokens = 0
    for at, (one, other) in enumerate(pairs):
        more = len(texts[one]) + len(texts[other])
        if at > start and (tokens + more > CHUNK_TOKENS or at - start == CHUNK_PAIRS):
            yield start, at
            start, tokens = at, 0
        tokens += more
    if start < len(pairs):
        yield start, len(pairs)


def _stream(
    texts: Sequence[Ids], pairs: Sequence[Pair], padding: int
) -> tuple[Keys, Keys, Keys, int]:
    """The texts of all pairs one after the other.

    Returns:
        Ids from 1 up, with `padding` zeros behind each text, and zeros for what the other text does
        not hold; for each the number of its pair, and 0 in a pair's first text or 1 in its second;
        and how many bits an id takes.
    """
    zeros = np.zeros(padding, dtype=np.uint32)
    sizes = np.array([len(texts[text]) for pair in pairs for text in pair]) + padding
    parts = [part for pair in pairs for text in pair for part in (texts[text], zeros)]
    raw = np.concatenate(parts) if parts else zeros
    real = np.ones(len(raw), dtype=bool)
    ends = np.cumsum(sizes)
    for back in range(1, padding + 1):
        real[ends - back] = False
    if raw.max(initial=0) < 1 << 16:
        held = np.zeros(1 << 16, dtype=np.uint64)
        held[raw[real]] = 1
        numbers = np.cumsum(held, dtype=np.uint64)[raw]
        most = int(held.sum())
    else:
        distinct, places = np.unique(raw, return_inverse=True)
        numbers, most = places.astype(np.uint64) + 1, len(distinct)
    pair_of = np.repeat(np.arange(len(pairs), dtype=np.uint64), sizes[::2] + sizes[1::2])
    side = np.repeat(np.tile(np.array([0, 1], dtype=np.uint64), len(pairs)), sizes)
    # What only one text of a pair holds is in no common n-gram.
    cell = (pair_of * np.uint64(most + 1) + numbers).astype(np.int64)
    held_by = np.zeros((2, len(pairs) * (most + 1)), dtype=bool)
    held_by[side.astype(np.int64)[real], cell[real]] = True
    ids = np.where(real & (held_by[0] & held_by[1])[cell], numbers, np.uint64(0))
    return ids, pair_of, side, most.bit_length() or 1


def _seconds(keys: Keys) -> NDArray[np.int64]:
    """How many of the first i keys are of second texts, (keys + 1,)."""
    return np.concatenate(([0], np.cumsum(keys & np.uint64(1), dtype=np.int64)))


def _add_runs(
    keys: Keys,
    seconds: NDArray[np.int64],
    bits: int,
    found: NDArray[np.int64],
    whole: NDArray[np.bool_] | None,
) -> None:
    """Add up, for each pair, the smaller count of both texts in every run of equal keys.

    Args:
        keys: Sorted, without the side; above `bits` stands the pair.
        seconds: As of :func:`_seconds`.
        bits: Of the n-gram.
        found: (pairs,), filled here.
        whole: Which keys hold a whole n-gram; all if None.
    """
    if not len(keys):
        return
    starts = np.concatenate(([0], np.flatnonzero(keys[1:] != keys[:-1]) + 1))
    ends = np.append(starts[1:], len(keys))
    theirs = seconds[ends] - seconds[starts]
    common = np.minimum(ends - starts - theirs, theirs)
    if whole is not None:
        common *= whole[starts]
    pair = (keys[starts] >> bits).astype(np.int64)
    found += np.bincount(pair, weights=common, minlength=len(found)).astype(np.int64)
