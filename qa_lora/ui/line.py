"""Those who want the one model in memory, first come, first served."""

from __future__ import annotations

import threading
import time
from types import TracebackType

__all__ = ["Line", "Ticket"]


class Line:
    """A line of tickets; the first one has its turn until it leaves."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._tickets: list[Ticket] = []

    def enter(self) -> Ticket:
        """Join at the end."""
        ticket = Ticket(self)
        with self._changed:
            self._tickets.append(ticket)
        return ticket

    def place_of(self, ticket: Ticket) -> int:
        """How many are before a ticket; 0 if it has its turn.

        Raises:
            RuntimeError: If it left the line.
        """
        with self._changed:
            if ticket not in self._tickets:
                raise RuntimeError("This ticket left the line.")
            return self._tickets.index(ticket)

    def wait_for(self, ticket: Ticket, timeout: float | None) -> bool:
        """Wait until a ticket has its turn, or a number of seconds; says whether it has.

        Raises:
            RuntimeError: If it left the line.
        """
        ends = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while True:
                if ticket not in self._tickets:
                    raise RuntimeError("This ticket left the line.")
                if self._tickets[0] is ticket:
                    return True
                left = None if ends is None else ends - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._changed.wait(left)

    def wait_empty(self) -> None:
        """Wait until nobody is in the line."""
        with self._changed:
            while self._tickets:
                self._changed.wait()

    def drop(self, ticket: Ticket) -> None:
        """Take a ticket out of the line, wherever it stands; nothing if it is not there."""
        with self._changed:
            if ticket in self._tickets:
                self._tickets.remove(ticket)
                self._changed.notify_all()


class Ticket:
    """A place in a line; leave it in any case, for those behind wait for that.

    A handler that shows its place polls :meth:`ready`, and leaves when its page is closed::

        with engine.enter_line(run) as ticket:
            while not ticket.ready(0.5):
                yield f"{ticket.place} before you"
            ...
    """

    def __init__(self, line: Line) -> None:
        self._line = line

    @property
    def place(self) -> int:
        """How many are before this one; 0 when it has its turn."""
        return self._line.place_of(self)

    def ready(self, timeout: float | None = 0.0) -> bool:
        """Whether it has its turn, within so many seconds; None waits as long as it takes."""
        return self._line.wait_for(self, timeout)

    def leave(self) -> None:
        """Leave the line, with or without having had the turn; once more does no harm."""
        self._line.drop(self)

    def __enter__(self) -> Ticket:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()
