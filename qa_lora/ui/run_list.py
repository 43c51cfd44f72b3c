"""All runs of the server, as they stood a moment ago: looked up once for however many pages ask."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from qa_lora import runs, turns
from qa_lora.errors import RunError
from qa_lora.labels import LABEL, read_label
from qa_lora.owners import OWNER, owner_of
from qa_lora.run_summaries import state_of

__all__ = ["Listed", "RunList"]

FRESH_SECONDS = 0.5


@dataclass(frozen=True)
class Listed:
    """A run, and how it stood a moment ago."""

    run: runs.Run
    status: runs.RunStatus
    alive: bool
    title: str = ""
    """What a person called it."""
    owner: str | None = None
    """The word of whose it is; None if it is the server's own."""

    @property
    def name(self) -> str:
        """What it is called on the page."""
        return f"{self.title} ({self.run.id})" if self.title else self.run.id


class RunList:
    """The runs in a folder, whoever may see them; for several threads.

    Args:
        runs_dir: Where runs lie.
    """

    def __init__(self, runs_dir: Path) -> None:
        self._runs_dir = runs_dir
        self._looked = 0.0
        self._all: dict[str, Listed] = {}
        self._known: dict[str, tuple[object, Listed]] = {}
        self._waiting: list[str] = []
        self._lock = threading.Lock()

    def all(self) -> Iterable[Listed]:
        """All of them, newest first."""
        return self._look().values()

    def get(self, run_id: str) -> Listed | None:
        """The one of an id."""
        return self._look().get(run_id)

    def waiting(self) -> list[str]:
        """The ids of those that wait for their turn, next first."""
        self._look()
        return self._waiting

    def forget(self) -> None:
        """Look at the disk again the next time: something was just changed there."""
        with self._lock:
            self._looked = 0.0

    def _look(self) -> dict[str, Listed]:
        with self._lock:
            now = time.monotonic()
            if now - self._looked > FRESH_SECONDS:
                found = {run.id: self._look_at(run) for run in runs.list_runs(self._runs_dir)}
                self._known = {k: v for k, v in self._known.items() if k in found}
                any_waits = any(item.status == "waiting" for item in found.values())
                line = turns.in_line(self._runs_dir) if any_waits else []
                self._waiting = [folder.name for folder in line]
                self._looked, self._all = now, found
            return self._all

    def _look_at(self, run: runs.Run) -> Listed:
        """Status and life of a run; the status of one that rests is read once."""
        alive = run.alive()
        state = state_of(run, runs.EVENTS, runs.CONFIG, LABEL, OWNER)
        known = self._known.get(run.id)
        if known is not None and known[0] == state and not (alive or known[1].alive):
            return known[1]
        try:
            title = read_label(run.path).title
        except RunError:  # a damaged one is said in the table of runs
            title = ""
        listed = Listed(run, run.status(), alive, title, owner_of(run.path))
        self._known[run.id] = state, listed
        return listed
