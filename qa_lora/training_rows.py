"""The rows to train on, as token ids: made at once when few, shortly before use when many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice

from qa_lora.batching import EncodedExample
from qa_lora.data.example import QAExample
from qa_lora.data.store import IN_MEMORY, read_many, text_lengths

__all__ = ["TrainingRows"]

BATCHES_AHEAD = 8
"""So many effective batches are tokenised together, by a thread, while others are trained on."""


class TrainingRows:
    """Examples and their token ids.

    A few are tokenised when they are given. Of many, the ids would fill the memory and the first
    step would wait for the last row, so theirs are made when their turn is near, in each epoch
    anew: docs/performance.md says what that costs.
    """

    def __init__(
        self,
        examples: Sequence[QAExample],
        encode: Callable[[Sequence[QAExample]], list[EncodedExample]],
        *,
        in_memory: int = IN_MEMORY,
    ) -> None:
        """Rows to train on.

        Args:
            examples: What they are made from.
            encode: Makes token ids of some of them; may be called by another thread.
            in_memory: Up to so many are tokenised now.
        """
        self._examples = examples
        self._encode = encode
        self._encoded = encode(examples) if len(examples) <= in_memory else None

    def __len__(self) -> int:
        return len(self._examples)

    @property
    def lengths(self) -> list[int]:
        """How long each row is, to put rows of like length together: tokens, else characters."""
        if self._encoded is None:
            lengths: list[int] = text_lengths(self._examples).tolist()
            return lengths
        return [row.tokens for row in self._encoded]

    def many(self, indices: Sequence[int]) -> list[EncodedExample]:
        """The rows with these indices, in that order."""
        if self._encoded is None:
            return self._encode(read_many(self._examples, indices))
        return [self._encoded[i] for i in indices]

    def batches(self, indices: Iterable[list[int]]) -> Iterator[list[EncodedExample]]:
        """The rows of batch after batch; those that are not tokenised yet a little ahead of use.

        Args:
            indices: Of each batch.
        """
        if self._encoded is not None:
            yield from map(self.many, indices)
            return
        stream = iter(indices)
        with ThreadPoolExecutor(1, thread_name_prefix="tokenise") as thread:
            ready: Future[list[list[EncodedExample]]] | None = None
            while chunk := list(islice(stream, BATCHES_AHEAD)):
                following = thread.submit(self._chunk, chunk)
                if ready is not None:
                    yield from ready.result()
                ready = following
            if ready is not None:
                yield from ready.result()

    def _chunk(self, batches: Sequence[Sequence[int]]) -> list[list[EncodedExample]]:
        rows = iter(self.many(list(chain.from_iterable(batches))))
        return [list(islice(rows, len(batch))) for batch in batches]
