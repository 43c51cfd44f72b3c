"""Predictions and references to numbers: ROUGE, exact match, F1, facts, and how sure they are.

Plain numpy and rouge_score; no torch, no network.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "METRICS",
    "Difference",
    "exact_match",
    "fact_recall",
    "paired_bootstrap",
    "paired_bootstraps",
    "rouge_su4",
    "score",
    "token_f1",
]

METRICS = ("rouge1", "rouge2", "rougeL", "rougeLsum", "rougeSU4", "exact_match", "f1")
"""What :func:`score` gives, each between 0 and 1."""

_ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
_SKIP_GAP = 4
_CHUNK_CELLS = 2_000_000


@dataclass(frozen=True)
class Difference:
    """A mean difference, tuned minus base, and how sure it is."""

    mean: float
    low: float
    high: float
    p_value: float


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


def paired_bootstrap(
    base: Sequence[float],
    tuned: Sequence[float],
    *,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Difference:
    """How sure the mean difference between two systems is, from scores on the same questions.

    Questions are drawn with replacement, as many as there are, `resamples` times; both systems'
    scores go along, so the noise they share cancels (Koehn, "Statistical Significance Tests for
    Machine Translation Evaluation", 2004). The interval runs between the percentiles of the drawn
    mean differences. The p-value is two-sided, for the null hypothesis of no difference: with the
    drawn means d* shifted to a mean of zero, b is how many are at least as far out as the mean d
    that was seen, |d* - d| >= |d|, and p = (b + 1) / (resamples + 1), never zero (Efron and
    Tibshirani, "An Introduction to the Bootstrap", 1993, section 16.4; Davison and Hinkley,
    "Bootstrap Methods and their Application", 1997, section 4.2). Few questions make a bootstrap
    too sure of itself, so p is also never below 2 ** (1 - n), the least that exchanging the two
    systems' names question by question can give.

    Args:
        base: A score a question.
        tuned: The other system's score on the same questions, in the same order.
        resamples: How many times the questions are drawn.
        seed: Seed of the draws; the same seed gives the same numbers.
        level: Share of the draws that the interval covers.

    Raises:
        ValueError: If the lengths differ, nothing is given, or a score is not finite.
    """
    only = paired_bootstraps({"": base}, {"": tuned}, resamples=resamples, seed=seed, level=level)
    return only[""]


def paired_bootstraps(
    base: Mapping[str, Sequence[float]],
    tuned: Mapping[str, Sequence[float]],
    *,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Difference]:
    """:func:`paired_bootstrap` for several metrics of the same questions, from the same draws.

    Args:
        base: For each metric, a score a question.
        tuned: The other system's scores: the same metrics, the same questions.
        resamples: How many times the questions are drawn.
        seed: Seed of the draws.
        level: Share of the draws that each interval covers.

    Raises:
        ValueError: If metrics or lengths differ, nothing is given, or a score is not finite.
    """
    import numpy as np

    if not base or set(base) != set(tuned):
        raise ValueError("both systems need the same metrics, at least one")
    lengths = {len(scores) for scores in (*base.values(), *tuned.values())}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError("both systems need a score for the same questions, at least one")
    gains = np.array(
        [np.subtract(tuned[name], base[name], dtype=np.float64) for name in base]
    ).T  # (questions, metrics)
    if not np.isfinite(gains).all():
        raise ValueError("scores must be finite numbers")

    means = gains.mean(axis=0)  # (metrics,)
    drawn = _drawn_means(gains, resamples, seed)  # (resamples, metrics)
    tail = (1 - level) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    # The tolerance keeps ties, which are frequent in 0-or-1 scores, from hanging on rounding.
    further = (np.abs(drawn - means) >= np.abs(means) - 1e-12).sum(axis=0)
    p_values = np.maximum((further + 1) / (resamples + 1), 2.0 ** (1 - len(gains)))
    return {
        name: Difference(float(means[i]), float(low[i]), float(high[i]), float(p_values[i]))
        for i, name in enumerate(base)
    }


def _drawn_means(gains: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Mean gains of `resamples` draws of the questions, in chunks so that memory stays bounded."""
    import numpy as np

    questions, metrics = gains.shape
    rng = np.random.default_rng(seed)
    drawn = np.empty((resamples, metrics))
    chunk = max(1, _CHUNK_CELLS // questions)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        picks = rng.integers(0, questions, size=(rows, questions))
        picks += np.arange(rows)[:, None] * questions
        times = np.bincount(picks.ravel(), minlength=rows * questions)
        drawn[start : start + rows] = times.reshape(rows, questions) @ gains / questions
    return drawn


@lru_cache(maxsize=1)
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(_ROUGE), use_stemmer=True)


@lru_cache(maxsize=2)
def _tokenizer(stem: bool) -> Callable[[str], list[str]]:
    from rouge_score.tokenizers import DefaultTokenizer

    tokenize: Callable[[str], list[str]] = DefaultTokenizer(stem).tokenize
    return tokenize
