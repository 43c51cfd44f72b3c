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
from qa_lora.data.wording import form_of, kind_of, slip, words_of

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
    """Word -> number of its form; numbers forms as they turn up."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: dict[str, int] = {}
        self.kinds = array("b")
        self.hashes = array("Q")

    def __missing__(self, word: str) -> int:
        form = form_of(word)
        number = self[word] = self.forms.setdefault(form, len(self.kinds))
        if number == len(self.kinds):
            encoded = form.encode("utf-8", errors="surrogatepass")
            digest = hashlib.blake2b(encoded, digest_size=8).digest()
            self.hashes.append(int.from_bytes(digest, "big"))
            self.kinds.append(_kind(form))
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


def read_texts(texts: Sequence[str], groups: Hashes, beside: Hashes) -> tuple[Texts, Ints]:
    """Read questions; equal ones are read as one.

    Args:
        texts: Plain text; read once, in order.
        groups: For each text the group inside which others can be near to it.
        beside: For each text a hash of what must be equal for two to be equal, beside the text.

    Returns:
        The different texts in the order of their first occurrence, and for each text given the
        index of the first one that is equal to it.
    """
    vocabulary = _Vocabulary()
    words, lengths, salts, exact = [], [], [], []
    for at in range(0, len(texts), CHUNK):
        size = min(CHUNK, len(texts) - at)
        numbers, owners, hashes = _numbers(texts, range(at, at + size), vocabulary)
        exact.append(mixed(hashes) ^ beside[at : at + size])
        kinds = np.array(vocabulary.kinds)[numbers]
        weighed = (kinds == _CONTENT) | (kinds == _LITTLE)
        unique = np.unique((owners[weighed] << 32) | numbers[weighed])
        words.append((unique & 0xFFFFFFFF).astype(np.int32))
        lengths.append(np.bincount(unique >> 32, minlength=size).astype(np.int32))
        salts.append(_salts(numbers, owners, kinds, vocabulary, groups[at : at + size]))
    joined, sizes = np.concatenate(words), np.concatenate(lengths)
    del words
    _, firsts, inverse = np.unique(np.concatenate(exact), return_index=True, return_inverse=True)
    first_of = firsts[inverse]
    new = first_of == np.arange(len(texts))
    joined, sizes = joined[np.repeat(new, sizes)], sizes[new]

    counts = np.bincount(joined, minlength=len(vocabulary.kinds))
    # A little word that is rare among many questions is no little word here.
    common = counts >= (len(sizes) / 100 if len(sizes) >= ENOUGH else 0)
    keep = ~((np.array(vocabulary.kinds) == _LITTLE) & common)[joined]
    starts = np.append(0, np.cumsum(keep))[np.append(0, np.cumsum(sizes))]
    joined = joined[keep]
    spelled = list(vocabulary.forms)
    hashes = np.array(vocabulary.hashes)
    del vocabulary
    corrected = _corrections(spelled, counts, hashes, max(2, len(sizes) // 100_000))
    is_slip = corrected != np.arange(len(corrected))
    found = Texts(
        words=joined,
        starts=starts,
        salts=np.concatenate(salts)[new],
        vocabulary=spelled,
        hashes=hashes,
        counts=counts,
        corrected=corrected,
        slipped=np.logical_or.reduceat(is_slip[joined], starts[:-1]),
    )
    return found, first_of


def _numbers(
    texts: Sequence[str], which: range, vocabulary: _Vocabulary
) -> tuple[Ints, Ints, Hashes]:
    """The word numbers of some texts in a row, the place of the text of each, and a hash a text.

    The hashes are good in this process only.
    """
    flat, sizes, hashes = array("i"), array("i"), array("q")
    lookup = vocabulary.__getitem__
    for index in which:
        key = question_key(texts[index])
        hashes.append(hash(key))
        found = words_of(key)[:MAX_WORDS]
        flat.extend(map(lookup, found))
        sizes.append(len(found))
    numbers, lengths = np.array(flat, np.int64), np.array(sizes)
    owners = np.repeat(np.arange(len(sizes)), lengths)
    kinds = np.array(vocabulary.kinds)[numbers]
    most = np.zeros(len(sizes), np.int8)
    np.maximum.at(most, owners, kinds)
    has_content = np.zeros(len(sizes), np.bool_)
    has_content[owners[kinds == _CONTENT]] = True
    more, whose = array("q"), array("q")
    for place in np.flatnonzero(~has_content).tolist():
        # Numbers and signs stand for the whole question, or else its little words must.
        key = question_key(texts[which[place]])
        little = words_of(key)[:MAX_WORDS] if most[place] <= _LITTLE else []
        for word in little or [""]:
            more.append(lookup(_ANCHOR + word))
            whose.append(place)
    return (
        np.concatenate([numbers, np.array(more, np.int64)]),
        np.concatenate([owners, np.array(whose, np.int64)]),
        np.array(hashes).astype(np.uint64),
    )


def _salts(
    numbers: Ints, owners: Ints, kinds: Ints, vocabulary: _Vocabulary, groups: Hashes
) -> Hashes:
    """A hash of each text's group and of its words that must be on both sides."""
    salts = mixed(groups)
    hashes = np.array(vocabulary.hashes)
    for kind in (_ORDERED, _EXACT):
        mine = np.flatnonzero(kinds == kind)
        whose = owners[mine]
        turn = np.zeros(len(mine), np.int64)
        if kind == _ORDERED:
            turn = np.arange(len(mine)) - np.searchsorted(whose, whose)
        np.add.at(salts, whose, mixed(hashes[numbers[mine]] ^ mixed(turn + kind)))
    return salts


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
