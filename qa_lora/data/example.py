"""One question with its answer: the form everything else works on."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

__all__ = ["QAExample", "normalise_question", "question_key"]


@dataclass(frozen=True)
class QAExample:
    """One row of question-answer data."""

    id: str
    """Stable name of the row in its source: its own id, or "row-<number>" (1-based data row)."""
    question: str
    answer: str
    context: str = ""
    history: tuple[tuple[str, str], ...] = ()
    """Earlier turns of a chat, oldest first, as (question, answer)."""
    facts: tuple[str, ...] = ()
    """Short strings that a right answer contains; empty when the source names none."""


class _Kept(dict[int, str]):
    """What `str.translate` puts for each character; filled as characters turn up."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        kind = unicodedata.category(char)
        if kind == "Cf" or 0xFE00 <= code <= 0xFE0F:  # joiners, soft hyphens, emoji variants
            kept = ""
        elif kind[0] in "LNM":
            kept = char
        elif (kind[0] == "S" and kind != "Sk") or char in "^%#/":
            kept = f" {char} "  # C++ is not C, 2 + 3 is not 2 < 3, and emoji can be a question
        else:
            kept = " "
        self[code] = kept
        return kept


_KEPT = _Kept()
_MINUS = re.compile(r"(?<![^\W\d])[-–−](?=\s*\d)")


def normalise_question(question: str) -> str:
    """The form in which two questions count as the same: case, punctuation and space ignored.

    Letters, digits and symbols (``+``, ``%``, a minus sign before a number, emoji) stay, so that
    "2 + 3?" and "2 - 3?" or "C#" and "C++" are different questions. A question of nothing but
    punctuation becomes the empty string; see :func:`question_key`.
    """
    text = unicodedata.normalize("NFC", question).casefold()
    text = _MINUS.sub(" \u2212 ", text).translate(_KEPT)
    return " ".join(unicodedata.normalize("NFC", text).split())


def question_key(
    question: str, context: str = "", history: tuple[tuple[str, str], ...] = ()
) -> str:
    """What makes a question the same question: itself, its passage and the turns before it.

    Examples of one key stand on one side of a split, and count as one question in a score.
    """
    parts = [
        question,
        *([context] if context else []),
        *(turn for pair in history for turn in pair),
    ]
    return "\n".join(normalise_question(part) or " ".join(part.split()) for part in parts)
