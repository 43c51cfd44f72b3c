"""Which languages a sample of the data is written in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["LONG_ENOUGH", "Language", "languages_of"]

LONG_ENOUGH = 60
"""Characters from which on a guess is worth something; names and numbers mislead below."""
LONGEST = 1000
NO_LANGUAGE = "zxx"  # ISO 639's code for what is no language, such as numbers and program code


@dataclass(frozen=True)
class Language:
    """A language and its share of the texts that were looked at."""

    code: str
    """ISO 639-1."""
    share: float


def languages_of(texts: Sequence[str]) -> tuple[Language, ...]:
    """The languages of some texts, the commonest first.

    Args:
        texts: Each of at least `LONG_ENOUGH` characters; the first `LONGEST` of each are read.
    """
    if not texts:
        return ()
    from py3langid import classify

    found = Counter(str(classify(text[:LONGEST])[0]) for text in texts)
    found.pop(NO_LANGUAGE, None)
    return tuple(Language(code, count / len(texts)) for code, count in found.most_common())
