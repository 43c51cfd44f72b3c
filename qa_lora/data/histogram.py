"""How long texts are in tokens: figures, bins with the limit among their edges, bars as text."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["TokenLengths", "bars", "token_lengths"]

BINS = 24
"""About as many bars as a terminal or a narrow card has room for."""
TAIL = 99.5
"""Percentile after which what is longer shares the last bin."""
_EIGHTHS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class TokenLengths:
    """Lengths of one kind of text in tokens, and the share that will be cut."""

    median: int
    p95: int
    longest: int
    limit: int
    cut: float
    """Share, 0 to 1, that is longer than the limit."""
    edges: tuple[int, ...] = ()
    """Bin i holds the lengths above edges[i], up to and with edges[i + 1]; the limit is an edge
    where anything is longer, and the last edge is the longest."""
    counts: tuple[int, ...] = ()
    """Texts in each bin."""

    @property
    def bins_within(self) -> int:
        """How many of the bins, the first ones, lie within the limit."""
        return sum(edge <= self.limit for edge in self.edges[1:])


def token_lengths(lengths: npt.NDArray[np.int32], limit: int) -> TokenLengths:
    """Figures and histogram of some lengths.

    Args:
        lengths: (N,) tokens of each text, N at least 1.
        limit: Longer texts are cut.
    """
    ordered = np.sort(lengths)
    longest = int(ordered[-1])
    edges = _edges(longest, int(np.percentile(ordered, TAIL)), limit)
    within = np.searchsorted(ordered, edges, side="right")
    return TokenLengths(
        median=int(ordered[(len(ordered) - 1) // 2]),
        p95=int(ordered[-(-len(ordered) * 95 // 100) - 1]),
        longest=longest,
        limit=limit,
        cut=float((ordered > limit).mean()),
        edges=tuple(edges),
        counts=tuple(int(count) for count in np.diff(within)),
    )


def _edges(longest: int, usual: int, limit: int) -> list[int]:
    """Whole numbers from 0 to the longest, evenly apart but for the first and the last bin."""
    longest = max(longest, 1)
    # A long tail must not press everything else into one bar, nor push the limit off the chart.
    top = usual if longest <= limit else max(usual, limit + limit // 8)
    top = min(longest, max(top, 1))
    width = math.ceil(top / BINS)
    anchor = limit if longest > limit else 0
    below = range(anchor, width // 2, -width)  # what is left over joins the bin above it
    above = range(anchor + width, top, width)
    return [*sorted({0, anchor, *below, *above} - {longest}), longest]


def bars(lengths: TokenLengths, height: int = 3) -> list[str]:
    """A histogram as lines of text, a line through it where the limit lies.

    Args:
        lengths: With its bins.
        height: Lines of bars; one more tells the ends and the limit.
    """
    most = max(lengths.counts, default=0)
    if not most:
        return []
    within = lengths.bins_within if lengths.longest > lengths.limit else None
    lines = []
    for level in range(height - 1, -1, -1):
        line = ""
        for number, count in enumerate(lengths.counts):
            if number == within:
                line += "┊"
            # A bin that is not empty shows at least an eighth.
            eighths = math.ceil(8 * height * count / most)
            line += _EIGHTHS[min(8, max(0, eighths - 8 * level))]
        lines.append(line.rstrip())
    ends = f"1 to {lengths.longest:,} tokens"
    mark = f", ┊ cut at {lengths.limit:,}" if within is not None else ""
    return [*lines, ends + mark]
