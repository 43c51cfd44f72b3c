"""Backs a run up while it trains, in a thread beside it."""

from __future__ import annotations

import os
import queue
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

from qa_lora.backup.places import store_in
from qa_lora.errors import QALoRAError, first_line
from qa_lora.events import BackedUp, Checkpointed, Event
from qa_lora.runs import Run

__all__ = ["Keeper"]

FILES = ("config.yaml", "environment.json", "events.jsonl", "label.json", "owner.json")
FOLDERS = ("checkpoint", "adapter", "evaluations")
SNAPSHOT = ".backup"
LAST_SECONDS = 600.0
"""At its end a training waits at most so long for the last backup."""


class Keeper:
    """Copies a run to a place after its checkpoints; never holds the training up, never ends it.

    What is copied is taken at the moment of the checkpoint, by links where the disk knows them, so
    that the copy is of one state though the training goes on.

    Args:
        run: The run; this process works on it.
        place: A folder, or the id of a private repository on the Hub.
        pause_seconds: From one backup to the next.
    """

    def __init__(self, run: Run, place: str, pause_seconds: float) -> None:
        self._run = run
        self._store = store_in(place)
        self._pause = pause_seconds
        self._last = float("-inf")
        self._step = 0
        self._told: queue.SimpleQueue[BackedUp] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    @classmethod
    def of(cls, run: Run) -> Keeper | None:
        """The keeper that a run's settings, or QA_LORA_BACKUP, ask for; None if neither does."""
        config = run.config()
        place = config.backup or os.environ.get("QA_LORA_BACKUP", "")
        return cls(run, place, 60 * config.backup_minutes) if place else None

    def after(self, event: Event) -> list[BackedUp]:
        """Start a backup if the event is a checkpoint and one is due.

        Returns:
            What has become of backups since the last call.
        """
        if isinstance(event, Checkpointed):
            self._step = event.step
            if not self._busy() and time.monotonic() - self._last >= self._pause:
                self._begin()
        return self._news()

    def finish(self) -> list[BackedUp]:
        """Back the run up as it is now, and wait for that; what has become of it."""
        deadline = time.monotonic() + LAST_SECONDS
        self._wait(deadline)
        if not self._busy():
            self._begin()
            self._wait(deadline)
        if self._busy():
            self._told.put(BackedUp(self._step, 0.0, "The last backup takes too long."))
        return self._news()

    def _busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _wait(self, deadline: float) -> None:
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))

    def _begin(self) -> None:
        self._last = time.monotonic()
        try:
            snapshot = _snapshot(self._run.path)
        except OSError as error:
            reason = f"The run cannot be copied: {error.strerror or first_line(error)}."
            self._told.put(BackedUp(self._step, 0.0, reason))
            return
        self._thread = threading.Thread(
            target=self._copy, args=(snapshot, self._step), name="backup", daemon=True
        )
        self._thread.start()

    def _copy(self, snapshot: Path, step: int) -> None:
        begin = time.monotonic()
        error = ""
        try:
            self._store(snapshot, self._run.id)
        except QALoRAError as problem:
            error = str(problem)
        except Exception as problem:  # a backup never ends a training
            error = f"The backup failed: {type(problem).__name__}: {first_line(problem)}."
        shutil.rmtree(snapshot, ignore_errors=True)
        self._told.put(BackedUp(step, time.monotonic() - begin, error))

    def _news(self) -> list[BackedUp]:
        found = []
        with suppress(queue.Empty):
            while True:
                found.append(self._told.get_nowait())
        return found


def _snapshot(run: Path) -> Path:
    """The run as it is now, in a folder within it.

    Checkpoints and adapters are replaced as whole folders, so a link to one of their files keeps
    what it is. The log grows, so it is copied.
    """
    target = run / SNAPSHOT
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for name in FILES:
        if (run / name).is_file() and not (run / name).is_symlink():
            shutil.copy2(run / name, target / name)
    for name in FOLDERS:
        if (run / name).is_dir() and not (run / name).is_symlink():
            shutil.copytree(run / name, target / name, copy_function=_link, ignore=_unfinished)
    return target


def _unfinished(folder: str, names: list[str]) -> list[str]:
    """What is not copied: halves, and links, for what they lead to may be nobody's to take."""
    return [n for n in names if n.startswith(".") or (Path(folder) / n).is_symlink()]


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another kind of disk
        shutil.copy2(source, target)
