"""The words of a question: which of them say what is asked, and which are slips of the pen."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

__all__ = ["Kind", "form_of", "kind_of", "slip", "words_of"]

Kind = Literal["empty", "little", "exact", "content"]

# Courtesies and ways to ask: they come and go without another thing being asked. These lists are
# English; what is common in the questions at hand weighs little in any language.
_EMPTY = frozenset(
    """
    please kindly pls plz thanks thank hello hi hey dear sorry tell give say let explain describe
    define know wonder wondering like want need ask question answer help what which whats
    """.split()
)
# Articles, pronouns, auxiliaries and the like: they say nothing, unless they are rare where they
# stand, as in "Which country uses .it?" or "He is the symbol of which element?"
_LITTLE = frozenset(
    """
    a an the this that these those there here some any of in on at to for from by with about as into
    and is are was were be been being am do does did done have has had can could will would shall
    should may might i me my we us our you your he him his she her it its they them their s re ve ll
    just so then also
    """.split()
)
# Words whose presence alone makes another question, whatever else is the same.
_EXACT = frozenset(
    """
    not no never without neither nor none except who whose whom when where why how
    zero one two three four five six seven eight nine ten eleven twelve hundred thousand million
    billion first second third fourth fifth
    """.split()
)
_SAME = {
    **dict.fromkeys("cannot cant dont doesnt didnt isnt arent wasnt werent wont".split(), "not"),
    "whos": "who",
    "hows": "how",
    "wheres": "where",
    "whens": "when",
    "whys": "why",
}
_NEGATED = re.compile(
    r"\b(?:ca|do|does|did|is|are|was|were|wo|would|could|should|has|have|had|must|need)n t\b"
)
_SHORTENED = re.compile(r"\b(i|you|we|they|he|she|it|that|there|who|what|how) (?:m|d)\b")
# Scripts that write no spaces: Thai to Lao, Burmese, Khmer, kana, Han.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)
_ACCENT = re.compile("[\u0300-\u036f]")
_SHORTEST_SLIP = 5


def words_of(normalised: str) -> list[str]:
    """The words of a normalised question, in order.

    Accents are taken off, "don't" is "not", and a character of a script without spaces is a word.
    """
    text = normalised
    if not text.isascii():
        text = _ACCENT.sub("", unicodedata.normalize("NFD", text))
        text = _UNSPACED.sub(r" \g<0> ", unicodedata.normalize("NFC", text))
    if "n t" in text:
        text = _NEGATED.sub("not", text)
    if " m " in text or " d " in text:
        text = _SHORTENED.sub(r"\1", text)
    return text.split()


def form_of(word: str) -> str:
    """The form in which a word is compared: without the English plural's s, "cannot" as "not"."""
    if word in _SAME:
        return _SAME[word]
    if word in _LITTLE or word in _EXACT:
        return word
    if len(word) > 3 and word[-1] == "s" and word[-2] not in "sui" and word.isascii():
        return word[:-1]
    return word


def kind_of(word: str) -> Kind:
    """How a word counts: not at all, not if common, as one that must be on both sides, by weight.

    Numbers, signs, emoji, single letters, question words other than "what" and words such as "not"
    must be on both sides.
    """
    if word in _EMPTY:
        return "empty"
    if word in _LITTLE:
        return "little"
    if word in _EXACT or (len(word) == 1 and word.isascii()):
        return "exact"
    if any(char.isnumeric() for char in word):
        return "exact"
    return "content" if any(unicodedata.category(char)[0] in "LM" for char in word) else "exact"


def slip(one: str, other: str) -> Literal["", "missing", "swapped", "wrong"]:
    """What would make one word of the other: a letter too few, two swapped, or a wrong one.

    Words of fewer than five letters and those that begin differently are never slips of each other:
    too many of them are words of their own.
    """
    if min(len(one), len(other)) < _SHORTEST_SLIP or abs(len(one) - len(other)) > 1:
        return ""
    if one[0] != other[0] or one == other:
        return ""
    start = 0
    while start < min(len(one), len(other)) and one[start] == other[start]:
        start += 1
    end = 0
    while end < min(len(one), len(other)) - start and one[-1 - end] == other[-1 - end]:
        end += 1
    left, right = one[start : len(one) - end], other[start : len(other) - end]
    if len(left) + len(right) == 1:
        return "missing"
    if len(left) == len(right) == 1:
        return "wrong"
    return "swapped" if len(left) == 2 and left == right[::-1] else ""
