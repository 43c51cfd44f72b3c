"""What a card is written from: settings, log, environment and newest scores of a run."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qa_lora.checksums import digest_of
from qa_lora.config import SOURCES, TrainConfig
from qa_lora.errors import DataError, RunError
from qa_lora.events import Evaluated, Finished, Started, Step, StreamEnded

if TYPE_CHECKING:
    from qa_lora.report import Report
    from qa_lora.runs import Run

__all__ = ["CardFacts", "DataSource", "gather", "sources_of"]

WHOLE_FILE = "file"
"""The split of a report on all questions of a file that was given for that."""
SLACK_SECONDS = 60
"""A file system's clock may be coarse, and a copy of a run writes its files in any order."""


@dataclass(frozen=True)
class DataSource:
    """One source of questions and answers."""

    name: str
    """Without the folder it lies in."""
    use: str
    """What it gave rows for: "training", "validation" or "test"; training includes both others
    where these have no source of their own."""
    repo: str | None = None
    """Its id, if it is a data set of the Hub."""
    licence: str | None = None
    """As its own card names it; None if that is unknown."""
    here: bool = False
    """Whether it is a file of this machine, which nobody else may have seen."""


@dataclass(frozen=True)
class CardFacts:
    """All that a card may tell. What is missing is left out, or said to be missing."""

    config: TrainConfig
    sources: tuple[DataSource, ...] = ()
    run: str = ""
    started: Started | None = None
    finished: Finished | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    losses: tuple[tuple[int, float], ...] = ()
    """(step, train loss)."""
    validation: tuple[tuple[int, float], ...] = ()
    """(step, validation loss)."""
    report: Report | None = None
    stale: bool = False
    """Whether there are scores, but of an earlier state of the adapter."""

    @property
    def scored_on(self) -> tuple[DataSource, ...]:
        """The sources that the questions of the report are from; none if there is no report."""
        if self.report is None:
            return ()
        data = str(self.report.settings.get("data", self.config.data))
        if self.report.split == WHOLE_FILE:
            return (DataSource(data, "test", here=True),)
        if data != self.config.data:
            return _sources(data, "test")
        apart = tuple(source for source in self.sources if source.use == self.report.split)
        return apart or tuple(source for source in self.sources if source.use == "training")


def gather(run: Run) -> CardFacts:
    """Read a run.

    Raises:
        RunError: If its settings are missing or damaged.
    """
    config = run.config()
    started: Started | None = None
    finished: Finished | None = None
    losses: list[tuple[int, float]] = []
    validation: list[tuple[int, float]] = []
    for event in run.events():
        if isinstance(event, Started):
            started, finished = event, None
        elif isinstance(event, StreamEnded) and started is not None:
            started = event.corrected(started)
        elif isinstance(event, Finished):
            finished = event
        elif isinstance(event, Step):
            losses.append((event.step, event.loss))
        elif isinstance(event, Evaluated):
            validation.append((event.step, event.loss))
    report, stale = _report(run, config)
    return CardFacts(
        config=config,
        sources=sources_of(config),
        run=run.id,
        started=started,
        finished=finished,
        environment=_environment(run),
        losses=tuple(losses),
        validation=tuple(validation),
        report=report,
        stale=stale,
    )


def sources_of(config: TrainConfig) -> tuple[DataSource, ...]:
    """The sources that a training read, and their licences as far as they are known here."""
    uses = zip(SOURCES, ("training", "validation", "test"), strict=True)
    return tuple(
        source for setting, use in uses for source in _sources(getattr(config, setting) or "", use)
    )


def _sources(text: str, use: str) -> tuple[DataSource, ...]:
    from qa_lora.data.opened import licence_of
    from qa_lora.data.sources import parse, without_folders

    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        try:
            (source,) = parse(line)
        except DataError:  # its file is gone
            found.append(DataSource(without_folders(line), use, here=True))
            continue
        name = source.label if source.repo is None or source.file else without_folders(line)
        here = source.path is not None
        found.append(DataSource(name, use, source.repo, licence_of(source), here))
    return tuple(found)


def _environment(run: Run) -> dict[str, Any]:
    try:
        values = json.loads((run.path / "environment.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _report(run: Run, config: TrainConfig) -> tuple[Report | None, bool]:
    """The scores that say most about the adapter as it is, and whether all scores are older."""
    from qa_lora.report import TUNED, read_report

    weights = run.adapter / "adapter_model.safetensors"
    try:
        trained, digest = weights.stat().st_mtime, digest_of(weights)
    except OSError:
        trained, digest = 0.0, ""
    found: list[Report] = []
    stale = False
    for number in run.evaluations():
        try:
            report = read_report(run.evaluations_dir, number)
            written = (run.evaluations_dir / f"{number}.json").stat().st_mtime
        except (OSError, RunError):  # damaged; others may be whole
            continue
        current = report.is_of(TUNED, digest)
        if current is None:  # an older report does not say
            current = written >= trained - SLACK_SECONDS
        if current:
            found.append(report)
        else:
            stale = True

    def weight(report: Report) -> tuple[bool, bool, bool, int, int]:
        """Held-out rows of its own data before others, whole before cut short, many before few."""
        own = report.settings.get("data", config.data) == config.data
        return report.split == "test", own, report.complete, report.rows, report.number or 0

    return max(found, key=weight, default=None), stale and not found
