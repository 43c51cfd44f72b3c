"""Questions as arrays of weighed words, for the search for near-duplicates."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qa_lora.data.example import question_key
from qa_lora.data.wording import kind_of, slip, words_of

__all__ = ["Texts", "mixed", "read_texts"]

Ints = npt.NDArray[Any]
Hashes = npt.NDArray[np.uint64]

CHUNK = 50_000  # texts that are read at once
RARER = 50  # so many times as rare as a word is what may be a slip of it
ENOUGH = 200  # texts from which on it can be told that a word is rare
MAX_WORDS = 128  # of one text; what follows in a long passage is compared for equality only

_EMPTY, _LITTLE, _CONTENT, _ORDERED, _EXACT = range(5)
_ANCHOR = "\0"  # stands in no normalised text


@dataclass(frozen=True)
class Texts:
    """The weighed words of texts: those of text i are `words[starts[i] : starts[i + 1]]`."""

    words: Ints
    """Word numbers, each once a text; every text has at least one."""
    starts: Ints
    salts: Hashes
    """Equal where the words that must be on both sides, and the group, are equal."""
    vocabulary: list[str]
    hashes: Hashes
    """Of each word; the same in every process."""
    counts: Ints
    """In how many texts each word is."""
    corrected: Ints
    """For each word the one it is taken for a slip of, or itself."""
    slipped: npt.NDArray[np.bool_]
    """Whether a text has a word that is taken for a slip."""

    def __len__(self) -> int:
        return len(self.salts)

    def of(self, texts: Ints) -> tuple[Ints, Ints]:
        """The words of these texts in a row, and how many each has."""
        lengths = self.starts[texts + 1] - self.starts[texts]
        ends = np.cumsum(lengths)
        within = np.arange(int(lengths.sum())) - np.repeat(ends - lengths, lengths)
        return self.words[np.repeat(self.starts[texts], lengths) + within], lengths


class _Vocabulary(dict[str, int]):
    """Numbers words as they turn up."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds = array("b")
        self.hashes = array("Q")

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self)
        encoded = word.encode("utf-8", errors="surrogatepass")
        digest = hashlib.blake2b(encoded, digest_size=8).digest()
        self.hashes.append(int.from_bytes(digest, "big"))
        self.kinds.append(_kind(word))
        return number


def _kind(word: str) -> int:
    if word.startswith(_ANCHOR):
        return _CONTENT
    kind = kind_of(word)
    if kind == "exact":
        # 2 - 3 is not 3 - 2, but "who and when" is "when and who".
        return _EXACT if len(word) > 1 and word.isalpha() else _ORDERED
    return {"content": _CONTENT, "little": _LITTLE, "empty": _EMPTY}[kind]


def mixed(values: Ints) -> Hashes:
    """A well-spread 64-bit number for each (splitmix64's finalizer, Steele et al. 2014)."""
    out = values.astype(np.uint64)
    out = (out ^ (out >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    out = (out ^ (out >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return out ^ (out >> np.uint64(31))


def read_texts(texts: Sequence[str], groups: Hashes) -> Texts:
    """Read different questions, of which only those of one group can be near.

    Args:
        texts: Plain text; read once, in order.
        groups: A number for each text.
    """
    vocabulary = _Vocabulary()
    words, lengths, salts = [], [], []
    for at in range(0, len(texts), CHUNK):
        size = min(CHUNK, len(texts) - at)
        numbers, owners = _numbers(texts, range(at, at + size), vocabulary)
        kinds = np.array(vocabulary.kinds, np.int8)[numbers]
        weighed = (kinds == _CONTENT) | (kinds == _LITTLE)
        unique = np.unique((owners[weighed].astype(np.int64) << 32) | numbers[weighed])
        words.append((unique & 0xFFFFFFFF).astype(np.int32))
        lengths.append(np.bincount(unique >> 32, minlength=size))
        salt = mixed(groups[at : at + size])
        hashes = np.array(vocabulary.hashes, np.uint64)[numbers]
        for kind in (_ORDERED, _EXACT):
            mine = np.flatnonzero(kinds == kind)
            whose = owners[mine]
            place = np.arange(len(mine)) - np.searchsorted(whose, whose)
            turn = place if kind == _ORDERED else np.zeros_like(place)
            np.add.at(salt, whose, mixed(hashes[mine] ^ mixed(turn + kind)))
        salts.append(salt)
    if not words:
        raise ValueError("there are no texts")
    joined, sizes = np.concatenate(words), np.concatenate(lengths)
    counts = np.bincount(joined, minlength=len(vocabulary))
    # A little word that is rare among many questions is no little word here.
    common = counts >= (len(texts) / 100 if len(texts) >= ENOUGH else 0)
    keep = ~((np.array(vocabulary.kinds) == _LITTLE) & common)[joined]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    starts = np.concatenate([[0], np.cumsum(keep)])[starts]
    joined = joined[keep]
    hashes = np.array(vocabulary.hashes, np.uint64)
    spelled = list(vocabulary)
    corrected = _corrections(spelled, counts, hashes, max(2, len(texts) // 100_000))
    is_slip = corrected != np.arange(len(corrected))
    slipped = np.zeros(len(texts), np.bool_)
    if is_slip.any():
        slipped = np.add.reduceat(is_slip[joined], starts[:-1]) > 0
    return Texts(
        words=joined,
        starts=starts,
        salts=np.concatenate(salts),
        vocabulary=spelled,
        hashes=hashes,
        counts=counts,
        corrected=corrected,
        slipped=slipped,
    )


def _numbers(texts: Sequence[str], which: range, vocabulary: _Vocabulary) -> tuple[Ints, Ints]:
    """The word numbers of some texts in a row, and the place of the text of each."""
    flat, sizes = array("i"), array("i")
    lookup, kinds = vocabulary.__getitem__, vocabulary.kinds
    for index in which:
        found = words_of(question_key(texts[index]))[:MAX_WORDS]
        numbers = [lookup(word) for word in found]
        have = {kinds[number] for number in numbers}
        if _CONTENT not in have:
            # Numbers and signs stand for the whole question, or else its little words must.
            little = have <= {_EMPTY, _LITTLE}
            numbers += [lookup(_ANCHOR + word) for word in (found if little and found else [""])]
        flat.extend(numbers)
        sizes.append(len(numbers))
    return np.array(flat, np.int32), np.repeat(np.arange(len(sizes)), np.array(sizes))


def _corrections(words: list[str], counts: Ints, hashes: Hashes, rare: int) -> Ints:
    """For each rare word the commonest word that it may be a slip of.

    Rare is a word of at most `rare` texts, or one that is much rarer than the other.

    Words at most one letter apart are equal, or become so, when one letter is left out of each:
    the idea of SymSpell.
    """
    keys, owners = array("q"), array("i")
    for number, word in enumerate(words):
        if len(word) < 5 or not counts[number] or not word.isalpha():
            continue
        shortened = {hash(word[:i] + word[i + 1 :]) for i in range(1, len(word))}
        shortened.add(hash(word))
        keys.extend(shortened)
        owners.extend([number] * len(shortened))
    corrected = np.arange(len(words))
    if not keys:
        return corrected
    key, owner = np.array(keys), np.array(owners)
    # Commonest first, and where two are as common the hash decides, never the order of the rows.
    rank = np.empty(len(words), np.int64)
    by_count = np.lexsort((hashes, -counts))
    rank[by_count] = np.arange(len(words))
    order = np.lexsort((rank[owner], key))
    key, owner = key[order], owner[order]
    leader = np.flatnonzero(np.append(True, key[1:] != key[:-1]))
    heads = np.repeat(leader, np.diff(np.append(leader, len(key))))
    best = corrected.copy()
    limits = np.maximum(rare, counts[owner[heads]] // RARER)
    for at in np.flatnonzero((counts[owner] <= limits) & (heads != np.arange(len(key)))).tolist():
        mine = int(owner[at])
        for candidate in owner[heads[at] : at].tolist():
            if counts[mine] > max(rare, counts[candidate] // RARER):
                break
            if rank[candidate] < rank[best[mine]] and slip(words[mine], words[candidate]):
                best[mine] = candidate
                break
    for number in by_count.tolist():
        corrected[number] = corrected[best[number]]
    return corrected
