"""The rows to train on, as token ids: made at once when few, shortly before use when many.

:class:`TrainingRows` are all here; :class:`ComingRows` are still on their way in the first epoch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from threading import Thread

from qa_lora import distributed
from qa_lora.batching import BUCKET_BATCHES, EncodedExample, epoch_batches
from qa_lora.data.example import QAExample
from qa_lora.data.grouping import content_of
from qa_lora.data.store import IN_MEMORY, Collection, read_many, text_lengths
from qa_lora.errors import QALoRAError

__all__ = ["ComingBatch", "ComingRows", "StoppedWaitingError", "TrainingRows"]

BATCHES_AHEAD = 32
"""So many effective batches are read and tokenised together, by a thread, while others are trained
on: with few rows at a time, each chunk of a large file is opened for one or two of them."""

LOOK_SECONDS = 1.0
"""Who waits for rows looks so often whether the training is to stop."""


class StoppedWaitingError(QALoRAError):
    """The training is to stop, and its next rows are not here yet."""


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


@dataclass(frozen=True)
class ComingBatch:
    """One effective batch of the first epoch."""

    rows: list[EncodedExample]
    """Empty in a window that nobody trains on any more."""
    digest: str
    """Of all rows that were read for it and before it."""
    epoch_rows: int | None
    """How many rows the epoch has, if it ends with this batch."""


class ComingRows:
    """Rows that come one after the other; in the first epoch they are trained on as they come.

    They are mixed within windows, each of as many rows as are sorted by length together, while a
    thread reads the next window. What was read is kept for the epochs that follow.
    """

    def __init__(
        self,
        examples: Iterable[QAExample],
        encode: Callable[[Sequence[QAExample]], list[EncodedExample]],
        fits: Callable[[Sequence[QAExample]], Sequence[QAExample]] | None = None,
    ) -> None:
        """Rows to train on.

        Args:
            examples: Read by another thread.
            encode: Makes token ids of some of them; called by another thread.
            fits: Leaves out those that are not to be trained on, if there can be such; called by
                another thread.
        """
        self._examples = iter(examples)
        self._encode = encode
        self._fits = fits
        self._collection = Collection()
        self._digest = hashlib.sha256()
        self._closing = False

    def first_epoch(
        self,
        batch_size: int,
        *,
        seed: int,
        skip: int = 0,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[ComingBatch]:
        """The batches of the first epoch; to be asked for once.

        Args:
            batch_size: Rows of an effective batch.
            seed: The run's seed.
            skip: So many batches were trained on before: windows of such alone are only read.
            should_stop: Asked while rows are waited for.

        Raises:
            DataError: If the rows cannot be read any further, on all processes.
            StoppedWaitingError: If it is to stop, on all processes.
        """

        def following(number: int) -> Future[_Window]:
            encoded = (number + 1) * BUCKET_BATCHES > skip
            return _in_thread(lambda: self._window(batch_size, encoded=encoded))

        def here(window: Future[_Window]) -> _Window:
            while not wait([window], LOOK_SECONDS).done:
                if should_stop():
                    raise StoppedWaitingError("The training was stopped while it waited for rows.")
            return window.result()

        try:
            number = count = 0
            coming = following(number)
            window = distributed.together(partial(here, coming))
            while window.lengths:
                number += 1
                count += len(window.lengths)
                coming = following(number)
                *batches, last = (
                    [window.encoded[i] for i in batch] if window.encoded else []
                    for batch in epoch_batches(
                        window.lengths, batch_size, seed=seed, epoch=0, window=number
                    )
                )
                for rows in batches:
                    yield ComingBatch(rows, window.digest, None)
                digest = window.digest
                # Whoever trains must know that a batch is the last one before it is done.
                window = distributed.together(partial(here, coming))
                yield ComingBatch(last, digest, None if window.lengths else count)
        finally:
            self._closing = True

    def whole(self) -> TrainingRows:
        """All rows, once the first epoch is through."""
        return TrainingRows(self._collection.close(), self._encode)

    def _window(self, batch_size: int, *, encoded: bool) -> _Window:
        """Read the next rows; none are left at the end."""
        examples: list[QAExample] = []
        wanted = batch_size * BUCKET_BATCHES
        while len(examples) < wanted and not self._closing:
            some = list(islice(self._examples, wanted - len(examples)))
            if not some:
                break
            examples += self._fits(some) if self._fits else some
        for example in examples:
            self._collection.add(example)
            self._digest.update(content_of(example).encode())
        rows = self._encode(examples) if encoded and examples else []
        lengths = [row.tokens for row in rows] or [0] * len(examples)
        return _Window(rows, lengths, self._digest.hexdigest()[:16])


@dataclass(frozen=True)
class _Window:
    """Rows that are mixed with each other."""

    encoded: list[EncodedExample]
    """Empty if nobody trains on them any more."""
    lengths: list[int]
    """Tokens of each row."""
    digest: str


def _in_thread(work: Callable[[], _Window]) -> Future[_Window]:
    """Let a thread do something; one that waits for the network does not keep the process."""
    future: Future[_Window] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # whoever waits is told
            future.set_exception(error)

    Thread(target=run, name="read", daemon=True).start()
    return future
