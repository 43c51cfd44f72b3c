"""Signals that ask a training to end: noted, so that it ends after its step. Loads no torch."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

from qa_lora import distributed

__all__ = ["Signals"]


class Signals:
    """Notes SIGTERM, Ctrl-C and a closed terminal instead of dying, while the block lasts."""

    def __init__(self) -> None:
        self.received = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGTERM", "SIGINT", "SIGHUP"):
                number = getattr(signal, name, None)  # Windows has no SIGHUP
                # Whoever ignores one, as nohup does, has a reason.
                if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        # A launcher of many processes passes Ctrl-C on to those that had it from the terminal.
        again = self.received and distributed.count() == 1
        if again and number == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C does not wait for the step
        self.received = True
        if number == signal.SIGINT and distributed.is_first():
            with suppress(OSError):  # not sys.stderr, which may be in the middle of a line
                os.write(2, b"\nStopping after this step; Ctrl-C again does not wait.\n")
