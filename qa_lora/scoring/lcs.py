"""Longest common subsequences of words, with the rows of the table as bits of one number each.

Hyyrö, "Bit-Parallel LCS-length Computation Revisited" (2004): a row of the table of two texts takes
a few operations on whole numbers instead of one step a cell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

__all__ = ["lcs_length", "places_of", "union_hits"]

Words: TypeAlias = Sequence[int]
Places: TypeAlias = dict[int, int]


def places_of(words: Words) -> Places:
    """For each word, a number with a bit set where it stands."""
    places: Places = {}
    bit = 1
    for word in words:
        places[word] = places.get(word, 0) | bit
        bit <<= 1
    return places


def lcs_length(words: Words, other: Places, length: int) -> int:
    """Length of the longest common subsequence.

    Args:
        words: A text.
        other: Where the words of the other one stand; worth keeping for several comparisons.
        length: How many those are.
    """
    row = full = (1 << length) - 1
    for word in words:
        if at := other.get(word):
            both = row & at
            row = ((row + both) | (row - both)) & full
    return length - row.bit_count()


def union_hits(reference: Sequence[Words], answer: Sequence[Words]) -> int:
    """Words of a reference that its sentences share with those of an answer, in order.

    For each sentence of the reference, those words count that lie on its longest common subsequence
    with any sentence of the answer, no word more often than both texts have it (Lin, "ROUGE",
    2004, section 3.2, as ROUGE 1.5.5 and rouge_score compute it).

    Args:
        reference: Its sentences.
        answer: Its sentences.
    """
    tables = [(sentence, places_of(sentence)) for sentence in answer]
    found: Counter[int] = Counter()
    for sentence in reference:
        union: set[int] = set()
        for other, places in tables:
            union.update(_lcs_places(sentence, other, places))
        found.update(sentence[at] for at in union)
    # No word is found more often than the reference has it, for each of its places counts once.
    return sum(
        min(times, sum(places.get(word, 0).bit_count() for _, places in tables))
        for word, times in found.items()
    )


def _lcs_places(sentence: Words, other: Words, places: Places) -> list[int]:
    """Where in a sentence the words of its longest common subsequence with another stand.

    Of several that are equally long it is the one that rouge_score finds. It reads the table from
    its end: a word that stands at the present place of both is taken; otherwise it goes a word back
    in `sentence` if that keeps the length, and else back in `other`, to where that word stands.
    """
    common = [i for i, word in enumerate(sentence) if word in places]
    row = full = (1 << len(other)) - 1
    rows = [row]  # a 0 in bit j: one more in common with j + 1 words of other than with j
    for i in common:
        both = row & places[sentence[i]]
        row = ((row + both) | (row - both)) & full
        rows.append(row)
    found: list[int] = []
    before = full  # the words of other that are not behind us
    length = len(other) - row.bit_count()
    for at in range(len(common) - 1, -1, -1):
        if not length:
            break
        here = places[sentence[common[at]]] & before
        size = before.bit_length()
        taken = here.bit_length() == size
        if taken or size - (rows[at] & before).bit_count() < length:
            found.append(common[at])
            before = (1 << (here.bit_length() - 1)) - 1
            length -= 1
    return found
