"""What the server process holds for all pages: one model in memory, its line, running scorings.

Nothing here imports torch before it is needed; :meth:`Engine.warm_up` does so in the background
once the first page is out.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qa_lora import runs, turns, zero_gpu
from qa_lora.config import TrainConfig
from qa_lora.errors import QALoRAError, RunError
from qa_lora.fetching import base_commit, download_of
from qa_lora.hub_downloads import Download
from qa_lora.locate import same_base
from qa_lora.ui.jobs import Job, Order, work
from qa_lora.ui.line import Line, Ticket
from qa_lora.ui.resident import Resident
from qa_lora.ui.series import Followers

if TYPE_CHECKING:
    from qa_lora.answering import Answerer
    from qa_lora.data import DataSplit

__all__ = ["Engine", "Job", "Listed", "Order"]

SECOND_CLICK_SECONDS = 2.0


@dataclass(frozen=True)
class Listed:
    """A run, and how it stood a moment ago."""

    run: runs.Run
    status: runs.RunStatus
    alive: bool


class Engine:
    """Heavy things and shared views, made once and handed to the tabs.

    Args:
        runs_dir: Where runs lie.
    """

    def __init__(self, runs_dir: Path) -> None:
        self.runs_dir = runs_dir
        self.followers = Followers()
        self.device = f"{os.cpu_count() or 1} CPU cores"
        self.warm = False
        """Whether the heavy libraries are imported."""
        self.jobs: dict[str, Job] = {}
        self._importing = threading.Lock()
        self._line = Line()
        self._beside = Line()
        """Those who ask a run while it is being scored; they take turns with the scoring."""
        self._resident = Resident(runs_dir)
        self._splits: dict[str, DataSplit] = {}
        self._listed: tuple[float, list[Listed]] = (0.0, [])
        self._statuses: dict[str, tuple[tuple[int, int], runs.RunStatus]] = {}
        self._waiting: list[str] = []
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        self._started: tuple[float, TrainConfig, runs.Run] | None = None

    def warm_up(self) -> None:
        """Import what training, answering and scoring need, once; later calls wait for the first.

        All heavy imports go through here: two threads that import transformers at the same time
        get in each other's way.
        """
        with self._importing:
            if self.warm:
                return
            from qa_lora.devices import device_summary

            summary = device_summary()
            self.device = f"{summary.name}, {summary.precision}".replace("1 cores", "1 core")
            if not summary.name.startswith("CPU"):
                self.device += f", {summary.memory_bytes / 1e9:.0f} GB"
            if zero_gpu.active():
                self.device = f"ZeroGPU to train on; to answer: {self.device}"
            import qa_lora.answering
            import qa_lora.evaluation  # noqa: F401

            self.warm = True

    def listed(self) -> list[Listed]:
        """All runs, newest first; looked up at most twice a second, however many pages ask."""
        now = time.monotonic()
        with self._lock:
            if now - self._listed[0] > 0.5:
                found = [self._look(run) for run in runs.list_runs(self.runs_dir)]
                self._listed = (now, found)
                waiting = any(item.status == "waiting" for item in found)
                line = turns.in_line(self.runs_dir) if waiting else []
                self._waiting = [folder.name for folder in line]
            return self._listed[1]

    def _look(self, run: runs.Run) -> Listed:
        """Status and life of a run; the status of one that rests is read once."""
        alive = run.alive()
        try:
            stat = run.events_path.stat()
            key = (stat.st_mtime_ns, stat.st_size)
        except OSError:
            key = (0, 0)
        known = self._statuses.get(run.id)
        if alive or known is None or known[0] != key:
            status = run.status()
            if alive:
                self._statuses.pop(run.id, None)
            else:
                self._statuses[run.id] = (key, status)
            return Listed(run, status, alive)
        return Listed(run, known[1], False)

    def forget_list(self) -> None:
        """Look at the disk again the next time: a run was just made."""
        with self._lock:
            self._listed = (0.0, [])

    def find(self, run_id: str | None) -> runs.Run | None:
        """The run of that id in the runs folder; None for anything else a browser may send."""
        return next((item.run for item in self.listed() if item.run.id == run_id), None)

    def other_runs(self, run: runs.Run) -> list[str]:
        """The ids of other runs whose adapters stand on the same base, newest first.

        Raises:
            QALoRAError: If the settings of the run itself cannot be read.
        """
        model = run.config().model
        found = []
        for item in self.listed():
            if item.run.id == run.id or not item.run.has_adapter():
                continue
            with suppress(QALoRAError):  # a run whose settings cannot be read
                if same_base(item.run.config().model, model):
                    found.append(item.run.id)
        return found

    def active(self) -> runs.Run | None:
        """The run that somebody is working on; none that waits."""
        working = (i.run for i in self.listed() if i.alive and i.status != "waiting")
        return next(working, None)

    def waiting(self) -> list[str]:
        """The ids of the runs that wait, next first."""
        return list(self._waiting)

    def place(self, run: runs.Run) -> int | None:
        """Place in line of a run that waits, 1 for the next."""
        waiting = self.waiting()
        return waiting.index(run.id) + 1 if run.id in waiting else None

    def start(self, config: TrainConfig) -> runs.Run:
        """Start a run, or the one that the same click just started: people click twice.

        Raises:
            QALoRAError: If it cannot be started.
        """
        with self._starting:
            now = time.monotonic()
            if self._started is not None:
                before, same, run = self._started
                if same == config and now - before < SECOND_CLICK_SECONDS:
                    return run
            run = runs.start(config, self.runs_dir)
            self._started = (time.monotonic(), config, run)
        self.forget_list()
        return run

    def scored_now(self) -> str | None:
        """The id of the run that is being scored by this server."""
        return next((job.run_id for job in list(self.jobs.values()) if job.busy), None)

    def enter_line(self, run: runs.Run) -> Ticket:
        """Get in line for the one model in memory; leave the ticket in any case.

        A run that is being scored can be asked meanwhile: its answerer takes turns by itself, so
        those who ask it wait only for each other.
        """
        with self._lock:  # so that nobody gets in beside a scoring that has just ended
            job = self.jobs.get(run.id)
            if job is not None and job.state == "answering" and self.holds(run):
                return self._beside.enter()
            return self._line.enter()

    def enter_scoring(self) -> Ticket:
        """Get in line to score; leave the ticket in any case."""
        return self._line.enter()

    def end_scoring(self, job: Job, state: str) -> None:
        """End a scoring whose turn it is, and wait until those who asked its run beside it have.

        They hold the model as it did; the next in line may want another one in its place.
        """
        with self._lock:
            job.state = state
        self._beside.wait_empty()

    def model_line(self) -> int:
        """How many wait for the model."""
        return self._line.waiting + self._beside.waiting

    @contextmanager
    def model_turn(self, run: runs.Run) -> Iterator[None]:
        """Hold the one model in memory; waits for those who came before."""
        with self.enter_line(run) as ticket:
            ticket.ready(None)
            yield

    def holds(self, run: runs.Run) -> bool:
        """Whether this run's model is in memory."""
        return self._resident.holds(run)

    @contextmanager
    def fetching(self, run: runs.Run) -> Iterator[Download | None]:
        """The download of the run's base model, if it is not on this machine; ends with the block.

        Yields:
            What to wait for, or None.

        Raises:
            QALoRAError: After the block, if the Hub does not give the model.
        """
        download = (
            None if self.holds(run) else download_of(run.config().model, base_commit(run.path))
        )
        if download is None:
            yield None
            return
        download.start()
        try:
            yield download
            ended = download.ended
        finally:
            download.stop()
        if ended:
            download.result()

    def answerer(self, run: runs.Run, others: Sequence[str] = ()) -> Answerer:
        """The run's base and adapter, and further adapters under their names.

        The base stays in memory as long as the runs that are asked for stand on it; only adapters
        come and go. Hold the model's turn.

        Args:
            run: The run whose adapter is "tuned".
            others: Ids of further runs, or folders and Hub ids of adapters; each is a system under
                this name.

        Raises:
            QALoRAError: If there is no adapter yet, one cannot be loaded or is of another base.
        """
        if not run.has_adapter():
            raise RunError(f"The run {run.id} has no adapter yet.")
        self.warm_up()
        job = self.jobs.get(run.id)
        return self._resident.answerer(
            run,
            {name: self.find(name) or name for name in others},
            replace=job is None or job.state != "answering",
        )

    def split(self, run: runs.Run) -> DataSplit:
        """The run's questions, split as they were for its training.

        Raises:
            QALoRAError: If the data cannot be read any more.
        """
        split = self._splits.get(run.id)
        if split is None:
            from qa_lora.data import load_split

            split = load_split(run.config())
            if len(self._splits) >= 4:
                self._splits.clear()
            self._splits[run.id] = split  # which another page may clear at once
        return split

    def score(self, run: runs.Run, order: Order) -> Job:
        """Score questions in a thread of its own, in line for the model.

        Raises:
            RunError: If the run is being scored already.
        """
        with self._lock:
            job = self.jobs.get(run.id)
            if job is not None and job.busy:
                raise RunError(f"The run {run.id} is being scored already.")
            job = self.jobs[run.id] = Job(run.id)
        threading.Thread(target=work, args=(self, job, run, order), daemon=True).start()
        return job
