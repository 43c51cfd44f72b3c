"""BLEU and chrF from counts of n-grams, of one answer or of many taken as one text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["BLEU_ORDER", "CHRF_ORDER", "CorpusStats", "bleu_of", "chrf_of"]

BLEU_ORDER, CHRF_ORDER, _CHRF_BETA = 4, 6, 2


@dataclass(frozen=True)
class CorpusStats:
    """Counts of which BLEU and chrF of many answers taken as one text are made; they add up."""

    bleu: tuple[int, ...] = (0,) * (2 + 2 * BLEU_ORDER)
    """Words of the answers and of the references, n-grams right, n-grams given."""
    chrf: tuple[int, ...] = (0,) * (3 * CHRF_ORDER)
    """For each order the n-grams of the answers, of the references, and common ones."""

    def __add__(self, other: CorpusStats) -> CorpusStats:
        return CorpusStats.total([self, other])

    @classmethod
    def total(cls, parts: Sequence[CorpusStats]) -> CorpusStats:
        """All parts together."""
        if not parts:
            return cls()
        return cls(
            tuple(map(sum, zip(*(part.bleu for part in parts), strict=True))),
            tuple(map(sum, zip(*(part.chrf for part in parts), strict=True))),
        )

    def scores(self) -> dict[str, float]:
        """Sacrebleu's corpus BLEU and chrF with its default settings, from 0 to 1."""
        import numpy as np

        chrf = np.array(self.chrf).reshape(1, CHRF_ORDER, 3)
        return {"bleu": bleu_of(self.bleu, effective_order=False), "chrf": float(chrf_of(chrf)[0])}


def bleu_of(stats: Sequence[int], *, effective_order: bool) -> float:
    """Sacrebleu's BLEU of counts, smoothed its default way, from 0 to 1."""
    from sacrebleu.metrics import BLEU

    ours, theirs, *counts = stats
    found: Any = BLEU.compute_bleu(
        counts[:BLEU_ORDER],
        counts[BLEU_ORDER:],
        ours,
        theirs,
        smooth_method="exp",
        effective_order=effective_order,
    )
    return float(found.score) / 100


def chrf_of(stats: NDArray[np.int64]) -> NDArray[np.float64]:
    """chrF2 of counts: mean precision and recall over the orders that both texts have.

    Popović, "chrF: character n-gram F-score for automatic MT evaluation" (2015), as sacrebleu
    computes it: orders 1 to 6, beta 2, white space left out.

    Args:
        stats: n-grams of answer and reference, and common ones, (rows, orders, 3).
    """
    import numpy as np

    ours, theirs, common = np.moveaxis(stats, 2, 0)  # (rows, orders) each
    both = (ours > 0) & (theirs > 0)
    orders = np.maximum(both.sum(axis=1), 1)
    precision = (np.where(both, common, 0) / np.maximum(ours, 1)).sum(axis=1) / orders
    recall = (np.where(both, common, 0) / np.maximum(theirs, 1)).sum(axis=1) / orders
    factor = _CHRF_BETA**2
    below = factor * precision + recall
    scores: NDArray[np.float64] = np.divide(
        (1 + factor) * precision * recall, below, out=np.zeros_like(below), where=below > 0
    )
    return scores
