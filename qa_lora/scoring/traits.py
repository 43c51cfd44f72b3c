"""What can be said of one answer besides its scores: facts, length, loops."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

__all__ = ["fact_recall", "is_repeating", "length_ratio", "reference_words"]

LOOP_TIMES, LOOP_WORDS, LOOP_LONGEST = 3, 8, 32
"""A stretch of at most so many words, so often in a row, over so many words, is a loop."""


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
    part of a longer one ("5" is not in "15", "5.5" or "1-5").

    Raises:
        ValueError: If there are no facts to look for.
    """
    wanted = [plain for plain in map(_plain, facts) if plain]
    if not wanted:
        raise ValueError("there are no facts to look for")
    answer = _plain(prediction)
    return float(all(_fact_pattern(fact).search(answer) for fact in wanted))


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


@lru_cache(maxsize=4096)
def _fact_pattern(fact: str) -> re.Pattern[str]:
    before = r"(?<!\w)(?<!\d[.,\-])" if fact[0].isdigit() else r"(?<!\w)"
    after = r"(?!\w|[.,\-]\d)" if fact[-1].isdigit() else r"(?!\w)"
    return re.compile(before + re.escape(fact) + after)
