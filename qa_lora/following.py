"""Work in a thread of its own, followed step by step by someone who may leave at any time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeAlias, TypeVar

__all__ = ["Work", "follow"]

T = TypeVar("T")

Work: TypeAlias = Callable[[Callable[[T], None], Callable[[], bool]], None]
"""Gets a function that tells one item, and one that says whether the follower has left."""


@dataclass(frozen=True)
class _Failed:
    error: BaseException


@dataclass(frozen=True)
class _Told(Generic[T]):
    item: T


def follow(work: Work[T], *, name: str) -> Iterator[T]:
    """Run `work` in a thread and yield what it tells.

    The thread starts at the first step. However the iteration ends (drained, closed, or by an error
    on either side), the thread has ended, too, when it does; so `work` should look now and then
    whether the follower has left.

    Args:
        work: What to do.
        name: Of the thread.

    Raises:
        BaseException: What `work` raised.
    """
    queue: SimpleQueue[_Told[T] | _Failed | None] = SimpleQueue()
    left = threading.Event()

    def run() -> None:
        try:
            work(lambda item: queue.put(_Told(item)), left.is_set)
        except BaseException as error:
            queue.put(_Failed(error))
        finally:
            queue.put(None)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        while (update := queue.get()) is not None:
            if isinstance(update, _Failed):
                raise update.error
            yield update.item
    finally:
        left.set()
        thread.join()
