"""Questions that are the same but for their wording: near-duplicates.

Candidates come from MinHash and locality-sensitive hashing (Broder 1997; Leskovec, Rajaraman and
Ullman, Mining of Massive Datasets, chapter 3) over the words that say what is asked; each one is
then compared word by word. Everything is an array, since a million questions as objects would fill
the memory. No result depends on the order of the questions.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from qa_lora.data.example import question_key
from qa_lora.data.near_texts import Texts, mixed, read_texts
from qa_lora.data.wording import slip

__all__ = ["NearPairs", "Pair", "clusters", "find", "find_pairs"]

Ints = npt.NDArray[Any]

CHUNK = 50_000  # pairs that are compared at once
MOST_WAITING = 1_000_000  # candidates that are collected before they are compared
PERMUTATIONS = 64
SMALL_BUCKET = 32  # all pairs of a bucket up to this size are candidates
WINDOW = 8  # in a larger one each is compared with so many next to it
TEMPLATE = 4  # words that this many questions share may be a template's


class Pair(NamedTuple):
    """Two near questions, by index; `first` is the smaller one."""

    first: int
    second: int
    similarity: float
    """0 to 1; 1 only where the questions are equal but for case, punctuation and space."""


@dataclass(frozen=True)
class NearPairs:
    """Near pairs as three arrays of one length, sorted: what :class:`Pair` holds, in little room.

    Of a large group of near questions it holds enough pairs to connect them, not all.
    """

    first: Ints
    second: Ints
    similarity: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.first)

    def __iter__(self) -> Iterator[Pair]:
        for first, second, similarity in zip(self.first, self.second, self.similarity, strict=True):
            yield Pair(int(first), int(second), float(similarity))

    def and_(self, others: NearPairs) -> NearPairs:
        """These pairs and others."""
        return NearPairs(
            np.concatenate([self.first, others.first]),
            np.concatenate([self.second, others.second]),
            np.concatenate([self.similarity, others.similarity]),
        )

    def where(self, keep: npt.NDArray[np.bool_]) -> NearPairs:
        """The pairs that a mask keeps."""
        return NearPairs(self.first[keep], self.second[keep], self.similarity[keep])


def find_pairs(
    questions: Sequence[str], threshold: float, *, beside: Sequence[str] | None = None
) -> list[Pair]:
    """The pairs of questions that are near; see :func:`find`."""
    return list(find(questions, threshold, beside=beside))


def find(
    questions: Sequence[str], threshold: float, *, beside: Sequence[str] | None = None
) -> NearPairs:
    """The pairs of questions that ask the same, as far as their words tell.

    Little words ("please", "the", "can you tell me") and the order of words do not count. Numbers,
    signs, negations and question words such as "who" and "when" must be the same on both sides.
    The other words are weighed, rare ones more, and the similarity is the share of the weight that
    both sides have. A rare word with one wrong, missing or swapped letter counts as the word it is
    close to. Where all that two questions share is words of many questions, and what they do not
    share is rarer, they are two fillings of one template and not near.

    Args:
        questions: Plain text; read twice at most, by index.
        threshold: The least similarity, above 0 and up to 1.
        beside: What else belongs to each question, such as its passage: must be near, too.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1 (it is {threshold})")
    if not len(questions):
        return NearPairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    hashes, groups = _read_beside(beside, threshold, len(questions))
    texts, first_of = read_texts(questions, groups, hashes)
    near = _near(texts, threshold)
    indices = np.arange(len(questions))
    distinct = np.flatnonzero(first_of == indices)
    repeats = np.flatnonzero(first_of != indices)
    # An equal question hangs on the first of its kind.
    first = np.concatenate([distinct[near.first], first_of[repeats]])
    second = np.concatenate([distinct[near.second], repeats])
    similarity = np.concatenate([near.similarity, np.ones(len(repeats))])
    by_index = np.lexsort((second, first))
    return NearPairs(first[by_index], second[by_index], similarity[by_index])


def clusters(count: int, pairs: Iterable[Pair]) -> list[int]:
    """Who is connected with whom: for each index the smallest one of its cluster."""
    parent = list(range(count))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for pair in pairs:
        one, other = root(pair[0]), root(pair[1])
        if one != other:
            parent[max(one, other)] = min(one, other)
    return [root(index) for index in range(count)]


def _read_beside(
    beside: Sequence[str] | None, threshold: float, count: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """For each question a hash of what stands beside it, and of the first text near to that."""
    if beside is None:
        none = np.zeros(count, np.uint64)
        return none, none
    hashes = np.fromiter((_stable_hash(question_key(text)) for text in beside), np.uint64, count)
    _, firsts, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    if len(firsts) == 1:
        return hashes, hashes
    near = clusters(len(firsts), find(_Picked(beside, firsts), threshold))
    # The smallest hash of a cluster names it, whatever the order.
    names = np.full(len(firsts), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(names, near, hashes[firsts])
    return hashes, names[near][inverse]


class _Picked(Sequence[str]):
    """Some texts of a sequence, read when they are asked for."""

    def __init__(self, texts: Sequence[str], indices: Ints) -> None:
        self.texts = texts
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, at: Any) -> Any:
        return self.texts[int(self.indices[at])]


def _stable_hash(text: str) -> int:
    encoded = text.encode("utf-8", errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "big")


def _near(texts: Texts, threshold: float) -> NearPairs:
    """The near pairs of different texts."""
    count = len(texts)
    weights = _weights(texts)
    found = np.zeros(0, np.int64)  # first * count + second, sorted
    similarities = np.zeros(0)
    for first, second in _candidates(texts, threshold):
        codes = np.unique(np.minimum(first, second) * count + np.maximum(first, second))
        codes = np.setdiff1d(codes, found, assume_unique=True)
        for at in range(0, len(codes), CHUNK):
            part = codes[at : at + CHUNK]
            similarity = _compare(texts, weights, part // count, part % count, threshold)
            near = similarity > 0
            found = np.concatenate([found, part[near]])
            similarities = np.concatenate([similarities, similarity[near]])
        order = np.argsort(found)
        found, similarities = found[order], similarities[order]
    return NearPairs(found // count, found % count, similarities)


def _candidates(texts: Texts, threshold: float) -> Iterator[tuple[Ints, Ints]]:
    """Pairs whose words agree in a band of their MinHash signatures, band by band."""
    if len(texts) < 2:
        return
    from datasketch import MinHash, MinHashLSH

    # The weighed similarity can be above the plain one, which is what the bands go by.
    lsh = MinHashLSH(max(0.1, threshold - 0.2), num_perm=PERMUTATIONS, weights=(0.2, 0.8))
    multipliers, addends = MinHash(num_perm=PERMUTATIONS, seed=1).permutations
    words = texts.corrected[texts.words]
    starts = texts.starts[:-1]
    lengths = np.diff(texts.starts)
    # Texts with other salts share no word, so no band.
    hashes = mixed(texts.hashes[words] ^ np.repeat(texts.salts, lengths))
    bags = np.add.reduceat(hashes, starts)
    raw = np.add.reduceat(mixed(texts.hashes[texts.words]), starts)
    short = (hashes >> np.uint64(32)).astype(np.uint32)
    counts = np.minimum(texts.counts[words], 2**20).astype(np.uint64)
    rarest = np.minimum.reduceat((counts << np.uint64(40)) | (hashes >> np.uint64(24)), starts)
    del hashes, counts, words
    for band in range(lsh.b):
        keys = np.zeros(len(texts), np.uint64)
        for row in range(band * lsh.r, (band + 1) * lsh.r):
            permuted = short * multipliers[row] + addends[row]
            keys = mixed(keys ^ np.minimum.reduceat(permuted, starts).astype(np.uint64))
        yield from _bucket_pairs(keys, rarest, bags, raw)


def _bucket_pairs(keys: Ints, rarest: Ints, bags: Ints, raw: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Pairs of equal keys: all of a small bucket, neighbours of a large one."""
    order = np.argsort(keys)
    same = keys[order[1:]] == keys[order[:-1]]
    members = order[np.append(same, False) | np.insert(same, 0, False)]
    # Neighbours are alike: first by their rarest word, which the fillings of a template differ in.
    members = members[np.lexsort((raw[members], bags[members], rarest[members], keys[members]))]
    sizes = _run_lengths(keys[members])
    groups = mixed(keys[members] ^ np.where(sizes > SMALL_BUCKET, rarest[members], 0))
    sizes = _run_lengths(groups)
    left = np.arange(len(members))
    firsts, seconds = [], []
    waiting = 0
    for distance in range(1, SMALL_BUCKET):
        left = left[left + distance < len(members)]
        left = left[groups[left] == groups[left + distance]]
        if distance == WINDOW + 1:
            left = left[sizes[left] <= SMALL_BUCKET]
        if not len(left):
            break
        firsts.append(members[left])
        seconds.append(members[left + distance])
        waiting += len(left)
        if waiting > MOST_WAITING:
            yield np.concatenate(firsts), np.concatenate(seconds)
            firsts, seconds, waiting = [], [], 0
    if firsts:
        yield np.concatenate(firsts), np.concatenate(seconds)


def _run_lengths(values: Ints) -> Ints:
    """For each element, how many equal ones stand around it."""
    if not len(values):
        return np.zeros(0, np.int64)
    starts = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
    lengths = np.diff(np.append(starts, len(values)))
    return np.repeat(lengths, lengths)


def _compare(
    texts: Texts, weights: tuple[Ints, Ints], first: Ints, second: Ints, threshold: float
) -> Ints:
    """The similarity of each pair, 0 where it is not near."""
    flat, steep = weights
    pairs = np.arange(len(first))
    sides = []
    for side, which in enumerate((first, second)):
        words, lengths = texts.of(which)
        own = np.repeat(pairs, lengths) * len(flat) + texts.corrected[words]
        sides.append(own * 2 + side)
    held = np.unique(np.concatenate(sides)) // 2  # a word of both sides comes twice in a row
    new = np.append(True, held[1:] != held[:-1])
    both = np.append(~new[1:], False)[new]
    pair, word = np.divmod(held[new], len(flat))
    count = texts.counts[word]
    similarity = np.ones(len(first))
    for weight in (flat[word], steep[word]):
        shared = np.bincount(pair[both], weight[both], len(first))
        share = shared / np.bincount(pair, weight, len(first))
        similarity = np.minimum(similarity, share)
    rarest_shared = np.full(len(first), np.iinfo(np.int64).max)
    np.minimum.at(rarest_shared, pair[both], count[both])
    rarest_other = np.full(len(first), np.iinfo(np.int64).max // 2)
    np.minimum.at(rarest_other, pair[~both], count[~both])
    template = (rarest_shared >= TEMPLATE) & (2 * rarest_other <= rarest_shared)
    near = (similarity >= threshold) & ~template & (texts.salts[first] == texts.salts[second])
    similarity = np.where(near, np.minimum(similarity, 0.999), 0.0)
    for at in np.flatnonzero(near & (texts.slipped[first] | texts.slipped[second])):
        similarity[at] = _with_slips(texts, int(first[at]), int(second[at]), similarity[at])
    return np.where(similarity >= threshold, similarity, 0.0)


def _weights(texts: Texts) -> tuple[Ints, Ints]:
    """Two weights of each word by how rare it is, in whole numbers, so that sums are exact.

    By the first all but frequent words weigh the same: "the capital of the Republic of the Congo"
    and "the currency of the Republic of the Congo" are far apart. By the second, the square of the
    inverse document frequency, rare words weigh most: in a long template two persons with one
    first name are far apart.
    """
    # As if there were a hundred more questions, since in a few all words are frequent.
    rarity = -np.log(np.maximum(texts.counts, 1) / (len(texts) + 100))
    return np.rint(1000 * np.clip(rarity / math.log(20), 0.1, 1.0)), np.rint(1000 * rarity**2) + 1


def _with_slips(texts: Texts, first: int, second: int, similarity: float) -> float:
    """The similarity of two texts if all words taken for slips are slips, else 0."""
    one, other = (
        {int(texts.corrected[word]): int(word) for word in texts.words[start:end]}
        for start, end in (texts.starts[i : i + 2] for i in (first, second))
    )
    spelled = texts.vocabulary
    for word in one.keys() & other.keys():
        left, right = spelled[one[word]], spelled[other[word]]
        if left == right:
            continue
        kind = slip(left, right)
        if not kind and not (slip(left, spelled[word]) and slip(right, spelled[word])):
            return 0.0
        # Iceland and Ireland: in the slot of a template a wrong letter makes another word.
        rest = [int(texts.counts[w]) for w in one.keys() & other.keys() if w != word]
        if kind == "wrong" and rest and min(rest) >= max(TEMPLATE, 2 * texts.counts[word]):
            return 0.0
        similarity = min(similarity, 0.99)
    return similarity
