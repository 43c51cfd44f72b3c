"""Predictions and references to numbers: ROUGE, exact match, F1, facts.

Plain numpy and rouge_score; no torch, no network.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import Any

__all__ = [
    "METRICS",
    "exact_match",
    "fact_recall",
    "is_repeating",
    "length_ratio",
    "reference_words",
    "rouge_su4",
    "score",
    "token_f1",
]

METRICS = ("rouge1", "rouge2", "rougeL", "rougeLsum", "rougeSU4", "exact_match", "f1")
"""What :func:`score` gives, each between 0 and 1."""

_ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
_SKIP_GAP = 4

LOOP_TIMES, LOOP_WORDS, LOOP_LONGEST = 3, 8, 32
"""A stretch of at most so many words, so often in a row, over so many words, is a loop."""


def score(prediction: str, references: Sequence[str]) -> dict[str, float]:
    """Score one answer against all right answers to its question.

    ROUGE is rouge_score's F1 with Porter stemming; for ROUGE-Lsum a line is a sentence. With
    several references each metric takes its own best one.

    Args:
        prediction: The answer given; may be empty.
        references: The right answers, at least one.

    Returns:
        A value from 0 to 1 for each of :data:`METRICS`.

    Raises:
        ValueError: If there is no reference.
    """
    if not references:
        raise ValueError("an answer can only be scored against at least one reference")
    per_reference = [_score_one(prediction, reference) for reference in references]
    return {metric: max(scores[metric] for scores in per_reference) for metric in METRICS}


def _score_one(prediction: str, reference: str) -> dict[str, float]:
    rouge = _scorer().score(reference, prediction)
    return {
        **{name: float(rouge[name].fmeasure) for name in _ROUGE},
        "rougeSU4": rouge_su4(prediction, reference),
        "exact_match": exact_match(prediction, reference),
        "f1": token_f1(prediction, reference),
    }


def rouge_su4(prediction: str, reference: str, *, stem: bool = True) -> float:
    """ROUGE-SU4: F1 over skip-bigrams at most four words apart, and single words.

    Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004), section 6, equations 22 to
    24 with beta = 1: P and R are the skip-bigrams in both texts over those in the prediction and in
    the reference, each counted as often as both have it. A skip-bigram is two words in their order
    with at most d_skip = 4 words between them, so that d_skip = 0 gives plain bigrams. The U adds
    every word once, which the paper describes as skip-bigrams with a marker at the beginning; the
    marker is taken to reach all words, not just the first five ("adding unigram as counting unit").
    Words are those of rouge_score's tokenizer; the text counts as one sentence, as in ROUGE-L.

    Args:
        prediction: The answer given.
        reference: A right answer.
        stem: Compare Porter stems, as the other ROUGE scores here do.
    """
    tokenize = _tokenizer(stem)
    return _f1(_skip_units(tokenize(prediction)), _skip_units(tokenize(reference)))


def _skip_units(words: list[str]) -> Counter[Hashable]:
    units: Counter[Hashable] = Counter(words)
    for i, first in enumerate(words):
        units.update((first, second) for second in words[i + 1 : i + 2 + _SKIP_GAP])
    return units


def _f1(ours: Counter[Hashable], theirs: Counter[Hashable]) -> float:
    """F1 of two bags: their overlap, clipped to the smaller count, over the mean of their sizes."""
    size = ours.total() + theirs.total()
    return 2 * (ours & theirs).total() / size if size else 0.0


def exact_match(prediction: str, reference: str) -> float:
    """1.0 if both are the same after SQuAD's normalisation, else 0.0."""
    return float(_squad_words(prediction) == _squad_words(reference))


def token_f1(prediction: str, reference: str) -> float:
    """SQuAD's F1 over words; where one side has no words, 1.0 if the other has none either.

    Rajpurkar et al., "SQuAD" (2016), and the rule for empty answers of the SQuAD 2.0 script.
    """
    ours, theirs = _squad_words(prediction), _squad_words(reference)
    if not ours or not theirs:
        return float(ours == theirs)
    return _f1(Counter(ours), Counter(theirs))


_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def _squad_words(text: str) -> list[str]:
    """SQuAD's normalisation: lower case, no punctuation, no articles, single spaces."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


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


@lru_cache(maxsize=1)
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(_ROUGE), use_stemmer=True)


@lru_cache(maxsize=2)
def _tokenizer(stem: bool) -> Callable[[str], list[str]]:
    from rouge_score.tokenizers import DefaultTokenizer

    tokenize: Callable[[str], list[str]] = DefaultTokenizer(stem).tokenize
    return tokenize
