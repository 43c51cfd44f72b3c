"""What can be said of one answer besides its scores: facts, length, loops."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

__all__ = ["fact_recall", "is_repeating", "length_ratio", "reference_words"]

LOOP_TIMES, LOOP_WORDS, LOOP_LONGEST = 3, 8, 32
"""A stretch of at most so many words, so often in a row, over so many words, is a loop."""

_UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    r"\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Letters of scripts without spaces between words: Thai, Lao, Burmese, Khmer, kana, Han."""


def reference_words(answer: str, references: Sequence[str]) -> int:
    """Words of the reference nearest to an answer in length; at least 1.

    Words are what stands between spaces. Of two references equally near, the shorter one counts.
    """
    words = len(answer.split())
    lengths = (len(reference.split()) for reference in references)
    return max(1, min(lengths, key=lambda length: (abs(length - words), length)))


def length_ratio(answer: str, references: Sequence[str]) -> float:
    """Words of an answer over words of the reference nearest to it in length."""
    return len(answer.split()) / reference_words(answer, references)


def is_repeating(answer: str) -> bool:
    """Whether an answer is caught in a loop.

    It is if a stretch of 1 to 32 words stands at least three times in a row, in 8 words or more:
    one word eight times, two words four times, three or more words three times. Case counts not;
    what is repeated after other words in between is no loop.
    """
    words = answer.lower().split()
    # In a loop of n words, each word but the first n equals the one n before it.
    if len(words) - len(set(words)) < LOOP_WORDS - 2:
        return False
    for n in range(1, min(LOOP_LONGEST, len(words) // LOOP_TIMES) + 1):
        wanted = max(LOOP_TIMES * n, LOOP_WORDS) - n
        streak = 0
        for before, word in zip(words, words[n:], strict=False):
            streak = streak + 1 if before == word else 0
            if streak == wanted:
                return True
    return False


def fact_recall(prediction: str, facts: Sequence[str]) -> float:
    """1.0 if the answer contains every fact, else 0.0.

    Case and white space are ignored; a fact must stand as whole words, and a number must not be a
    part of another one ("5" is not in "15", "5.5", "1-5" or "-5"). Where a script puts no spaces
    between words, as Chinese, Japanese and Thai, no end of a word is asked for.

    Raises:
        ValueError: If there are no facts to look for.
    """
    wanted = [plain for plain in map(_plain, facts) if plain]
    if not wanted:
        raise ValueError("there are no facts to look for")
    answer = _plain(prediction)
    return float(all(_fact_pattern(fact).search(answer) for fact in wanted))


def _plain(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text).casefold().replace("\u2212", "-")  # a minus
    return " ".join(plain.split())


@lru_cache(maxsize=4096)
def _fact_pattern(fact: str) -> re.Pattern[str]:
    unspaced = re.compile(f"[{_UNSPACED}]")
    before = "" if unspaced.match(fact[0]) else rf"(?<![^\W{_UNSPACED}])"
    after = "" if unspaced.match(fact[-1]) else rf"(?![^\W{_UNSPACED}])"
    if fact[0].isdigit():  # no end of a longer number, and none below zero
        before += rf"(?<!\d)(?<!\d[.,\-\u2013])(?<!^-)(?<![\W{_UNSPACED}]-)"
    if fact[-1].isdigit():
        after += r"(?!\d|[.,\-\u2013]\d)"
    return re.compile(before + re.escape(fact) + after)
