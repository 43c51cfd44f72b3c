"""Rows of streams that come while a training goes on: which it may see, and in which order.

The held-out questions are chosen from the first rows of a stream, before the training begins: who
waited for the last row would not need a stream. Whatever comes later is trained on, unless its
question, or one that is near to it, is held out.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

from qa_lora.data.example import QAExample
from qa_lora.data.grouping import Questions, start_key
from qa_lora.data.split import SMALL_CLUSTER, DataSplit, cut

__all__ = ["FIRST_ROWS", "FROM_FIRST_ROWS", "ROWS_AT_ONCE", "Coming", "Queue", "Screen"]

FIRST_ROWS = 2000
"""So many rows of a stream are read and divided before a training begins."""

ROWS_AT_ONCE = 1000
"""So many later rows of a stream are compared with the held-out questions at once."""

FROM_FIRST_ROWS = f"The held-out questions are among the first {FIRST_ROWS:,} rows of each stream."

_HELD_OUT = "question that is held out, or near to one that is"
_TOO_LATE = f"{{}} row that comes after the first {FIRST_ROWS:,} rows of a stream"


class Screen:
    """Tells which rows may not be trained on, once the held-out questions are chosen."""

    def __init__(self, split: DataSplit, near_duplicates: float | None) -> None:
        """Know the held-out questions.

        Args:
            split: The division of the first rows.
            near_duplicates: Questions at least this much alike are near; None lets only equal
                ones count.
        """
        self._near_duplicates = near_duplicates
        self._starts: set[str] = set()
        self._held_out: list[QAExample] = []
        for example in (*split.validation, *split.test):
            start = start_key(example)
            # The turns of a chat have one start, and each is a question.
            if start not in self._starts or example.history:
                self._held_out.append(example)
            self._starts.add(start)

    def refusals(self, examples: Sequence[QAExample], sides: Sequence[str | None]) -> list[str]:
        """For each example why it is not trained on, or nothing where it is.

        Args:
            examples: Some that come one after the other; how rare their words are is counted among
                them.
            sides: The side that their source names for each.
        """
        found = [
            _TOO_LATE.format(side)
            if side not in (None, "train")
            else _HELD_OUT * (start_key(example) in self._starts)
            for example, side in zip(examples, sides, strict=True)
        ]
        if self._near_duplicates is not None and examples and self._held_out:
            for at in self._near(examples, self._near_duplicates):
                found[at] = found[at] or _HELD_OUT
        return found

    def _near(self, examples: Sequence[QAExample], threshold: float) -> list[int]:
        """Which of the examples hang together with a held-out question."""
        import numpy as np

        known = len(self._held_out)
        together = [*self._held_out, *examples]
        questions = Questions.of(together, 0)
        pairs = questions.near(together, np.arange(len(together)), threshold)
        limit = max(SMALL_CLUSTER, len(examples) // 10)
        clusters, _ = cut(len(together), pairs, threshold, limit)
        near = clusters < known  # each is named after its first one
        near[pairs.second[pairs.first < known]] = True
        found: list[int] = np.flatnonzero(near[known:]).tolist()
        return found


@dataclass(frozen=True)
class Queue:
    """The training rows of one source, in the order in which they come."""

    examples: Iterable[QAExample]
    expected: float
    """About how many there will be."""


@dataclass(frozen=True)
class Coming:
    """All training rows of a training that begins before the last of them is here."""

    queues: Sequence[Queue]

    @property
    def expected(self) -> int:
        """About how many there will be."""
        return max(1, round(sum(queue.expected for queue in self.queues)))

    def __iter__(self) -> Iterator[QAExample]:
        """Every row once, those of each source spread evenly over the whole."""
        for _, example in heapq.merge(*map(_placed, self.queues), key=itemgetter(0)):
            yield example


def _placed(queue: Queue) -> Iterator[tuple[float, QAExample]]:
    """The rows, each with its place between 0, the begin, and about 1, the end."""
    for number, example in enumerate(queue.examples):
        yield (number + 0.5) / max(queue.expected, 1.0), example
