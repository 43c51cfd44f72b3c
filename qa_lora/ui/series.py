"""What a run has told so far, kept ready for drawing: read once, however many pages look."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qa_lora import events as ev
from qa_lora.event_log import EventReader

if TYPE_CHECKING:
    from qa_lora.runs import Run

__all__ = ["Followers", "Progress", "downsample", "smooth"]

Floats = NDArray[np.float64]


def downsample(x: Floats, y: Floats, limit: int = 400) -> tuple[Floats, Floats]:
    """Keep at most `limit` points: the lowest and highest of each bucket, in order.

    Peaks and dips survive, which a stride would lose. The first and the last point are kept.
    """
    if len(x) <= limit:
        return x, y
    buckets = max(1, (limit - 2) // 2)
    edges = np.linspace(0, len(x), buckets + 1).astype(int)
    keep = {0, len(x) - 1}
    for start, end in pairwise(edges):
        part = y[start:end]
        keep.update((start + int(part.argmin()), start + int(part.argmax())))
    index = np.array(sorted(keep))
    return x[index], y[index]


def smooth(y: Floats, amount: float) -> Floats:
    """Mean over neighbouring points; the window grows with `amount` from 1 point to a quarter.

    The mean is centred and shorter at both ends, so the line lags behind nothing.
    """
    half = round(amount**2 * len(y) / 8) if amount > 0 else 0
    if half < 1 or len(y) < 3:
        return y
    half = max(half, min(2, len(y) // 2))
    total = np.concatenate(([0.0], np.cumsum(y)))
    at = np.arange(len(y))
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, len(y))
    result: Floats = (total[high] - total[low]) / (high - low)
    return result


@dataclass
class Progress:
    """All events of one run, folded into what the page shows."""

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    downloading: ev.Downloading | None = None
    """How far the base model is, while the training waits for it."""
    started: ev.Started | None = None
    last_step: ev.Step | None = None
    first_probes: ev.Probed | None = None
    last_probes: ev.Probed | None = None
    finished: ev.Finished | None = None
    failed: ev.Failed | None = None
    scoring: ev.Scoring | None = None
    scored: ev.Scored | None = None
    incident: ev.Recovered | ev.RolledBack | ev.MemoryRanOut | None = None
    """The last time that something went wrong and was put right."""
    backup: ev.BackedUp | None = None
    """What became of the last backup."""
    version: int = 0
    """Grows with every event: a page that has seen it need not draw again."""

    def add(self, event: ev.Event) -> None:
        """Fold one event in."""
        self.version += 1
        if isinstance(event, ev.Step):
            self.last_step = event
            if math.isfinite(event.loss):
                self.steps.append(event.step)
                self.losses.append(event.loss)
        elif isinstance(event, ev.Evaluated):
            if math.isfinite(event.loss):
                self.validation.append((event.step, event.loss))
        elif isinstance(event, ev.Downloading):
            self.downloading, self.finished, self.failed = event, None, None
        elif isinstance(event, ev.Started):
            self._go_on_from(event)
        elif isinstance(event, ev.StreamEnded):
            if self.started is not None:
                self.started = event.corrected(self.started)
        elif isinstance(event, ev.Probed):
            self.first_probes = self.first_probes or event
            self.last_probes = event
        elif isinstance(event, ev.Finished):
            self.finished, self.failed, self.downloading = event, None, None
        elif isinstance(event, ev.Failed):
            self.failed, self.downloading = event, None
        elif isinstance(event, (ev.Recovered, ev.RolledBack, ev.MemoryRanOut)):
            self.incident = event
        elif isinstance(event, ev.BackedUp):
            self.backup = event
        elif isinstance(event, ev.Scoring):
            self.scoring = event
        elif isinstance(event, ev.Scored):
            self.scored, self.scoring = event, None

    def _go_on_from(self, event: ev.Started) -> None:
        """A resumed run repeats the steps since its last checkpoint: forget the first telling."""
        self.started, self.downloading = event, None
        self.finished = self.failed = self.scoring = self.scored = None
        while self.steps and self.steps[-1] > event.step:
            self.steps.pop()
            self.losses.pop()
        while self.validation and self.validation[-1][0] > event.step:
            self.validation.pop()

    def fraction(self) -> float:
        """Share of the steps that are done, 0 to 1."""
        if self.started is None or self.started.total_steps <= 0:
            return 0.0
        done = self.last_step.step if self.last_step else self.started.step
        return min(1.0, done / self.started.total_steps)


class Followers:
    """One incremental reader a run, shared by all pages of this server.

    Args:
        limit: Runs kept in memory; the one that was looked at longest ago is forgotten.
    """

    def __init__(self, limit: int = 8) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[EventReader, Progress]] = OrderedDict()

    def progress(self, run: Run) -> Progress:
        """What the run has told up to now; reads only what is new in its log."""
        with self._lock:
            known = self._known.pop(run.id, None)
            reader, progress = known or (EventReader(run.events_path), Progress())
            try:
                new = reader.new()
            except OSError:  # a damaged run: a folder in place of its log, or a file of others
                new = []
            if reader.restarted:
                progress = Progress(version=progress.version + 1)
            for event in new:
                progress.add(event)
            self._known[run.id] = (reader, progress)
            while len(self._known) > self._limit:
                self._known.popitem(last=False)
            # A copy: another page's visit may add to the lists while this one draws them.
            return replace(
                progress,
                steps=progress.steps.copy(),
                losses=progress.losses.copy(),
                validation=progress.validation.copy(),
            )
