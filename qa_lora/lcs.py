"""Longest common subsequences of words, with the rows of the table as bits of one number each.

Hyyrö, "Bit-Parallel LCS-length Computation Revisited" (2004): a row of the table of two texts takes
a few operations on whole numbers instead of one step a cell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

__all__ = ["lcs_length", "union_hits"]

Words = Sequence[int]


def lcs_length(one: Words, other: Words) -> int:
    """Length of the longest common subsequence."""
    row = full = (1 << len(one)) - 1
    places = _places(one)
    for word in other:
        if at := places.get(word):
            both = row & at
            row = ((row + both) | (row - both)) & full
    return len(one) - row.bit_count()


def union_hits(reference: Sequence[Words], answer: Sequence[Words]) -> int:
    """Words of a reference that its sentences share with those of an answer, in order.

    For each sentence of the reference, those words count that lie on its longest common subsequence
    with any sentence of the answer, no word more often than both texts have it (Lin, "ROUGE",
    2004, section 3.2, as ROUGE 1.5.5 and rouge_score compute it).

    Args:
        reference: Its sentences.
        answer: Its sentences.
    """
    left = Counter(word for sentence in answer for word in sentence)
    left &= Counter(word for sentence in reference for word in sentence)
    hits = 0
    tables = [(sentence, _places(sentence)) for sentence in answer]
    for sentence in reference:
        union: set[int] = set()
        for other, places in tables:
            union.update(_lcs_places(sentence, other, places))
        for at in sorted(union):
            word = sentence[at]
            if left[word] > 0:
                left[word] -= 1
                hits += 1
    return hits


def _places(words: Words) -> dict[int, int]:
    """For each word, a number with a bit set where it stands."""
    places: dict[int, int] = {}
    bit = 1
    for word in words:
        places[word] = places.get(word, 0) | bit
        bit <<= 1
    return places


def _lcs_places(sentence: Words, other: Words, places: dict[int, int]) -> list[int]:
    """Where in a sentence the words of its longest common subsequence with another stand.

    Of several that are equally long it is the one that rouge_score finds: read out from the end, a
    step is taken back in `other` only if that alone keeps the length.
    """
    common = [i for i, word in enumerate(sentence) if word in places]
    row = full = (1 << len(other)) - 1
    rows = [row]  # a 0 in bit j: one more in common with j + 1 words of other than with j
    for i in common:
        both = row & places[sentence[i]]
        row = ((row + both) | (row - both)) & full
        rows.append(row)
    found: list[int] = []
    j = len(other)
    length = j - row.bit_count()
    at = len(common)  # words of the sentence that other does not have are stepped over
    while length and at and j:
        word = sentence[common[at - 1]]
        bit = 1 << (j - 1)
        if places[word] & bit:
            found.append(common[at - 1])
            at, j, length = at - 1, j - 1, length - 1
        elif rows[at] & bit and j - (rows[at - 1] & (2 * bit - 1)).bit_count() < length:
            j -= 1
        else:
            at -= 1
    return found
