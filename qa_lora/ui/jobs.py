"""Scoring in the background: what was ordered, how far it is, and the thread that does it."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from qa_lora.errors import QALoRAError

if TYPE_CHECKING:
    from qa_lora.runs import Run
    from qa_lora.ui.engine import Engine

__all__ = ["Job", "Order", "work"]

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Order:
    """What is to be scored."""

    split: str = "test"
    """test, validation or train."""
    limit: int | None = None
    """At most so many questions; all if None."""
    seed: int = 0
    """Of the draw of questions."""
    file: Path | None = None
    """All questions of this file, in place of a split."""
    adapters: tuple[str, ...] = ()
    """Further runs and imported adapters that answer, too."""


@dataclass
class Job:
    """One scoring; it runs in a thread, so no closed page ends it."""

    run_id: str
    state: str = "waiting"
    """waiting | loading | answering | done | failed"""
    done: int = 0
    total: int = 0
    eta_seconds: float | None = None
    """Until the last question is answered; None before the first one is."""
    place: int = 0
    """How many are before it in line for the model."""
    number: int | None = None
    """Of its evaluation, once that is written; None if it was stopped too early for one."""
    error: str = ""
    adapters: tuple[str, ...] = ()
    """Ids of further runs whose adapters are scored, too."""
    stop: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set when somebody cancels it."""
    key: str = field(default_factory=lambda: secrets.token_hex(8), repr=False)
    """Tells it from all others; the number of an evaluation is given again if that is deleted."""

    @property
    def busy(self) -> bool:
        """Whether it has not ended yet."""
        return self.state not in ("done", "failed")

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked it to stop."""
        return self.stop.is_set()


def work(engine: Engine, job: Job, run: Run, order: Order) -> None:
    """Do what was ordered, and say in the job how it stands."""
    with engine.enter_scoring() as ticket:
        while not ticket.ready(POLL_SECONDS):
            job.place = ticket.place
            if job.cancelled:
                job.state = "done"
                return
        job.place = 0
        state = "failed"
        try:
            _score(engine, job, run, order)
            state = "done"
        except QALoRAError as error:
            job.error = str(error)
        except Exception as error:
            job.error = f"Scoring failed: {type(error).__name__}: {error}"
            raise
        finally:
            engine.end_scoring(job, state)


def _score(engine: Engine, job: Job, run: Run, order: Order) -> None:
    job.state = "loading"
    engine.warm_up()
    from qa_lora.evaluation import evaluate_stream
    from qa_lora.report import Report

    with engine.fetching(run) as download:
        while download is not None and not download.wait(POLL_SECONDS):
            if job.cancelled:
                return
    answerer = engine.answerer(run, order.adapters)
    for item in evaluate_stream(
        run,
        split=order.split,
        limit=order.limit,
        seed=order.seed,
        file=order.file,
        adapters=order.adapters,
        runs_dir=engine.runs_dir,
        answerer=answerer,
        should_stop=job.stop.is_set,
    ):
        if isinstance(item, Report):
            job.number = item.number
        else:
            job.state = "answering"
            job.done, job.total, job.eta_seconds = item.done, item.total, item.eta_seconds
