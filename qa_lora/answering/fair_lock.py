"""A lock that goes to those who wait in the order in which they came."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType

__all__ = ["FairLock"]


class FairLock:
    """Like `threading.Lock`, but whoever releases it and wants it again waits behind the others.

    With a plain lock a thread that answers question after question has it again before one that
    waits has woken up.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._held = False
        self._gates: deque[threading.Lock] = deque()
        """One closed gate for each that waits; the lock is handed over by opening it."""

    def acquire(self, timeout: float = -1) -> bool:
        """Take the lock; False if that did not succeed within so many seconds (-1: forever)."""
        with self._mutex:
            if not self._held:
                self._held = True
                return True
            gate = threading.Lock()
            gate.acquire()
            self._gates.append(gate)
        try:
            if gate.acquire(timeout=timeout):
                return True
        except BaseException:  # the interrupt key
            if not self._gives_up(gate):
                self.release()
            raise
        return not self._gives_up(gate)

    def _gives_up(self, gate: threading.Lock) -> bool:
        """Stop waiting; False if the gate was opened meanwhile."""
        with self._mutex:
            if gate not in self._gates:
                return False
            self._gates.remove(gate)
            return True

    def release(self) -> None:
        """Hand the lock over to whoever waits longest, if anybody does."""
        with self._mutex:
            if not self._held:
                raise RuntimeError("The lock is not held.")
            if self._gates:
                self._gates.popleft().release()
            else:
                self._held = False

    def locked(self) -> bool:
        """Whether somebody has it."""
        return self._held

    def __enter__(self) -> FairLock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
