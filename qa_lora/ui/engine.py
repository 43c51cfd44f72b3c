"""What the server process holds for all pages: one model in memory, its line, running scorings.

Nothing here imports torch before it is needed; :meth:`Engine.warm_up` does so in the background
once the first page is out.
"""

from __future__ import annotations

import contextvars
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from qa_lora import runs, zero_gpu
from qa_lora.base_names import same_base, same_state
from qa_lora.config import TrainConfig
from qa_lora.errors import RunError
from qa_lora.fetching import base_commit, download_of
from qa_lora.hub_downloads import Download
from qa_lora.run_summaries import RunSummary, Summaries
from qa_lora.serving import ServerSettings
from qa_lora.ui.access import Access
from qa_lora.ui.deleted import Deleted
from qa_lora.ui.jobs import Job, Order, work
from qa_lora.ui.kept_adapters import KeptAdapters
from qa_lora.ui.line import Line, Ticket
from qa_lora.ui.resident import Resident
from qa_lora.ui.run_list import Listed, RunList
from qa_lora.ui.series import Followers

if TYPE_CHECKING:
    from qa_lora.answering import Answerer
    from qa_lora.data import DataSplit

__all__ = ["Engine", "Job", "Listed", "Order"]

SECOND_CLICK_SECONDS = 2.0


class Engine:
    """Heavy things and shared views, made once and handed to the tabs.

    Args:
        runs_dir: Where runs lie.
        serving: How the app is served; without limits if None.
    """

    def __init__(self, runs_dir: Path, serving: ServerSettings | None = None) -> None:
        self.runs_dir = runs_dir
        self.serving = serving or ServerSettings()
        self.access = Access(self.serving, runs_dir)
        self.deleted = Deleted(self)
        self.adapters = KeptAdapters(self)
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
        self._runs = RunList(runs_dir)
        self._summaries = Summaries()
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        self._started: tuple[float, TrainConfig, str, runs.Run] | None = None

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
        self.rows()  # many runs are read before their table is asked for

    def listed(self) -> list[Listed]:
        """The runs that the visitor may see, newest first."""
        sees = self.access.seen_owners()
        return [item for item in self._runs.all() if sees(item.owner)]

    def rows(self) -> list[RunSummary]:
        """A row a run, newest first."""
        return self._summaries.rows((item.run, item.status) for item in self.listed())

    def name(self, run_id: str) -> str:
        """What a run is called on the page."""
        item = self._runs.get(run_id)
        return item.name if item is not None and self.access.sees(item.run.path) else run_id

    def forget_list(self) -> None:
        """Look at the disk again the next time: a run was just made, deleted or renamed."""
        self._runs.forget()

    def find(self, run_id: str | None) -> runs.Run | None:
        """A run that the visitor may see; None for anything else a browser may send."""
        item = self._runs.get(run_id) if isinstance(run_id, str) else None
        return item.run if item is not None and self.access.sees(item.run.path) else None

    def own(self, run_id: str | None) -> runs.Run:
        """A run that the visitor may change: stop, resume, score, rename, delete, publish.

        Raises:
            RunError: If there is none of that id, or it is not theirs.
        """
        run = self.find(run_id)
        if run is None:
            raise RunError("There is no such run here.", "Choose one on top of the page.")
        self.access.check_owns(run.path)
        return run

    def job(self, run_id: str | None) -> Job | None:
        """The latest scoring of a run that the visitor may see."""
        run = self.find(run_id)
        return self.jobs.get(run.id) if run is not None else None

    def other_runs(self, run: runs.Run) -> dict[str, str]:
        """Other runs whose adapters stand on the same state of the same base, newest first.

        Returns:
            What they are called on the page, by id.

        Raises:
            QALoRAError: If the settings of the run itself cannot be read.
        """
        model, commit = run.config().model, base_commit(run.path)
        names = {item.run.id: item.name for item in self.listed()}
        return {
            row.id: names.get(row.id, row.id)
            for row in self.rows()
            if row.id != run.id
            and row.has_adapter
            and same_state(row.base_commit, commit)
            and same_base(row.base, model)
        }

    def active(self) -> runs.Run | None:
        """The run at work, if the visitor may see it; none that waits."""
        run = self.at_work()
        return run if run is not None and self.access.sees(run.path) else None

    def at_work(self) -> runs.Run | None:
        """The run that somebody is working on, whoever may see it."""
        return next(iter(self.working()), None)

    def working(self) -> list[runs.Run]:
        """All runs that somebody works on, whoever may see them."""
        return [i.run for i in self._runs.all() if i.alive and i.status != "waiting"]

    def waiting(self) -> int:
        """How many runs wait, whoever may see them."""
        return len(self._runs.waiting())

    def place(self, run: runs.Run) -> int | None:
        """Place in line of a run that waits, 1 for the next."""
        waiting = self._runs.waiting()
        return waiting.index(run.id) + 1 if run.id in waiting else None

    def start(self, config: TrainConfig) -> runs.Run:
        """Start a run, or the one that the same click just started: people click twice.

        Raises:
            QALoRAError: If it cannot be started.
        """
        owner = self.access.new_owner()
        config = self.admit(config)
        with self._starting:
            now = time.monotonic()
            if self._started is not None:
                before, same, whose, run = self._started
                if (same, whose) == (config, owner) and now - before < SECOND_CLICK_SECONDS:
                    return run
            self.access.check_room(scoring=self._scoring())
            run = runs.start(config, self.runs_dir, owner)
            self._started = (time.monotonic(), config, owner, run)
        self.forget_list()
        return run

    def admit(self, config: TrainConfig) -> TrainConfig:
        """A training as this server would do it for this visitor: what is empty is the limit.

        Raises:
            QALoRAError: If it asks for more, or for what is not the visitor's.
        """
        return self.access.admit(config, lambda name: self.find(name) is not None)

    def resume(self, run_id: str | None) -> None:
        """Go on with a run of the visitor's.

        Raises:
            QALoRAError: If it is not theirs or cannot be resumed, or they have too much at work.
        """
        run = self.own(run_id)
        with self._starting:
            self.access.check_room(scoring=self._scoring(), new=False)
            runs.resume(run)
        self.forget_list()

    def scored_now(self) -> str | None:
        """The id of the run that is being scored by this server, if the visitor may see it."""
        return next((run_id for run_id in self._scoring() if self.find(run_id)), None)

    def _scoring(self) -> list[str]:
        return [job.run_id for job in list(self.jobs.values()) if job.busy]

    def busy_job(self) -> Job | None:
        """The scoring that goes on, whoever may see it."""
        return next((job for job in list(self.jobs.values()) if job.busy), None)

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
        self.warm_up()  # the download looks at the model's config.json by transformers
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
            others: Ids of further runs, names of imported adapters, or folders and Hub ids; each is
                a system under this name.

        Raises:
            QALoRAError: If there is no adapter yet, one cannot be loaded or is of another base.
        """
        if not run.has_adapter():
            raise RunError(f"The run {run.id} has no adapter yet.")
        for name in others:
            self.access.check_name(name)
        self.warm_up()
        job = self.jobs.get(run.id)
        return self._resident.answerer(
            run,
            {name: self.find(name) or str(self.adapters.folder(name) or name) for name in others},
            replace=job is None or job.state != "answering",
        )

    def split(self, run: runs.Run) -> DataSplit:
        """The run's questions, split as they were for its training; of a stream, the first ones.

        Raises:
            QALoRAError: If the data cannot be read any more.
        """
        split = self._splits.get(run.id)
        if split is None:
            from qa_lora.data import load_split

            split = load_split(run.config(), whole=False)
            if len(self._splits) >= 4:
                self._splits.clear()
            self._splits[run.id] = split  # which another page may clear at once
        return split

    def score(self, run: runs.Run, order: Order) -> Job:
        """Score questions in a thread of its own, in line for the model.

        Raises:
            RunError: If the run is not the visitor's, is being scored already, or there is no room.
        """
        self.access.check_owns(run.path)
        self.access.check_room(scoring=self._scoring(), new=False)
        with self._lock:
            job = self.jobs.get(run.id)
            if job is not None and job.busy:
                raise RunError(f"The run {run.id} is being scored already.")
            job = self.jobs[run.id] = Job(run.id, adapters=order.adapters)
        # In a copy of the context, so that it acts for the visitor who ordered it.
        context = contextvars.copy_context()
        threading.Thread(
            target=context.run, args=(work, self, job, run, order), daemon=True
        ).start()
        return job
