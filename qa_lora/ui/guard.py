"""What a public server looks after by itself: runs that take too much, uploads that are left."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path

from qa_lora import processes, runs
from qa_lora.errors import QALoRAError
from qa_lora.owners import owner_of
from qa_lora.ui.engine import Engine

__all__ = ["Guard"]

LOOK_SECONDS = 15.0
SCORING_MINUTES = 15
"""After its minutes of training a run has so many more to load, save and score."""
UPLOAD_SECONDS = 24 * 3600.0
"""So long an upload lies in the web framework's folder; what is used was copied elsewhere."""


class Guard:
    """Looks again and again, in a thread of its own.

    Args:
        engine: What the server holds.
        temporary: The web framework's folder of uploads and downloads, swept if given.
    """

    def __init__(self, engine: Engine, temporary: Path | None = None) -> None:
        self.engine = engine
        self.temporary = temporary
        self._since: dict[str, float] = {}

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._go_on, daemon=True).start()

    def _go_on(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            with suppress(OSError, QALoRAError):  # the runs' folder, or one of them, has just gone
                self.look(time.monotonic())

    def look(self, now: float) -> None:
        """Stop what takes too much disk, end what takes too long, sweep what is old.

        Args:
            now: Seconds on a clock that only goes on.
        """
        settings = self.engine.serving
        working = self.engine.working()
        self._since = {run.id: self._since.get(run.id, now) for run in working}
        most = settings.max_disk_mb * 1_000_000
        for run in working:
            with suppress(OSError, QALoRAError):  # one that has just ended or gone
                minutes = (now - self._since[run.id]) / 60
                if settings.max_minutes and minutes > settings.max_minutes + SCORING_MINUTES:
                    _end(run)
                owner = owner_of(run.path)
                if not owner or not most or run.stop_requested():
                    continue
                if self.engine.access.disk_of(owner) > most:
                    runs.stop(run)
        if self.temporary is not None:
            _sweep(self.temporary)


def _end(run: runs.Run) -> None:
    """End a run that does not end by itself; on ZeroGPU it is a thread of this very process."""
    if not processes.is_mine(run.path):
        processes.end(run.path)
    elif not run.stop_requested():
        runs.stop(run)


def _sweep(folder: Path) -> None:
    oldest = time.time() - UPLOAD_SECONDS
    for path in folder.rglob("*"):
        with suppress(OSError):  # somebody else was faster
            if path.is_file() and path.lstat().st_mtime < oldest:
                path.unlink()
