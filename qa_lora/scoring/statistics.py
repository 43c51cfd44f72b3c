"""How sure a difference is: bootstrap intervals, p-values and their correction, votes.

Plain numpy; scipy.stats, which takes a second to import, only where votes are counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Difference", "WinRate", "holm", "paired_bootstrap", "paired_bootstraps", "win_rate"]

_CHUNK_CELLS = 250_000
"""Draws of questions at once: their counts stay in a processor's cache."""


@dataclass(frozen=True)
class Difference:
    """A mean difference, tuned minus base, and how sure it is."""

    mean: float
    low: float
    high: float
    p_value: float
    detectable: float | None = None
    """The smallest true difference that so many questions would show to this test alone, without
    a correction for others; None for a single question.

    In four of five such samples a two-sided test at 5 % would find it: (z(0.975) + z(0.8)) times
    the standard error of the mean difference, about 2.8 of them, from the questions' differences
    themselves (Bloom, "Minimum Detectable Effects", Evaluation Review 19, 1995).
    """


@dataclass(frozen=True)
class WinRate:
    """How often one of two was preferred, ties left out."""

    share: float
    """Wins among the decided votes; one half if there are none."""
    low: float
    high: float
    p_value: float
    decided: int
    """Votes for either."""


def win_rate(wins: int, losses: int, ties: int = 0) -> WinRate:
    """The share of wins with its 95 % interval, and a two-sided sign test against one half.

    Ties say nothing about who is better and are left out of all three, as the sign test has it
    (Dixon and Mood, "The Statistical Sign Test", 1946). The interval is Wilson's score interval
    (Wilson, "Probable Inference", 1927), which stays within 0 and 1.

    Args:
        wins: Votes for it.
        losses: Votes for the other.
        ties: Votes for neither.

    Raises:
        ValueError: If a count is negative.
    """
    if min(wins, losses, ties) < 0:
        raise ValueError("votes cannot be negative")
    decided = wins + losses
    if not decided:
        return WinRate(share=0.5, low=0.0, high=1.0, p_value=1.0, decided=0)
    from scipy.stats import binomtest

    found = binomtest(wins, decided, 0.5)
    low, high = found.proportion_ci(0.95, method="wilson")
    return WinRate(wins / decided, float(low), float(high), float(found.pvalue), decided)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values that stay honest although several questions were asked at once.

    Of m p-values the smallest is multiplied by m, the next by m - 1 and so on, none below one
    before it and none above 1. Below 5 % after that, the chance of even one false alarm among all
    stays below 5 % (Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979); it
    asks for no independence, which the metrics of one answer do not have.

    Args:
        p_values: By any names.
    """
    adjusted: dict[str, float] = {}
    highest = 0.0
    for place, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[name]))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p_values}


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
    detectable = _detectable(gains)
    return {
        name: Difference(
            float(means[i]),
            float(low[i]),
            float(high[i]),
            float(p_values[i]),
            None if detectable is None else float(detectable[i]),
        )
        for i, name in enumerate(base)
    }


def _detectable(gains: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """For each metric the difference found with a power of 80 % at a two-sided level of 5 %."""
    if len(gains) < 2:
        return None
    normal = NormalDist()
    errors: NDArray[np.float64] = gains.std(axis=0, ddof=1) / len(gains) ** 0.5
    return (normal.inv_cdf(0.975) + normal.inv_cdf(0.8)) * errors


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
