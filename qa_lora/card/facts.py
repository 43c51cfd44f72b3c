"""What a card is written from: settings, log, environment and newest scores of a run."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qa_lora.config import SOURCES, TrainConfig
from qa_lora.errors import DataError, RunError
from qa_lora.events import Evaluated, Finished, Started, Step

if TYPE_CHECKING:
    from qa_lora.report import Report
    from qa_lora.runs import Run

__all__ = ["CardFacts", "DataSource", "gather", "sources_of"]

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
        elif isinstance(event, Finished):
            finished = event
        elif isinstance(event, Step):
            losses.append((event.step, event.loss))
        elif isinstance(event, Evaluated):
            validation.append((event.step, event.loss))
    report, stale = _newest_report(run)
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
    from qa_lora.data.rows import licence_of
    from qa_lora.data.sources import parse, without_folders

    found = []
    for setting, use in zip(SOURCES, ("training", "validation", "test"), strict=True):
        text = getattr(config, setting)
        for line in filter(None, map(str.strip, (text or "").splitlines())):
            try:
                (source,) = parse(line)
            except DataError:  # its file is gone
                found.append(DataSource(without_folders(line), use))
                continue
            name = source.label if source.repo is None or source.file else without_folders(line)
            found.append(DataSource(name, use, source.repo, licence_of(source)))
    return tuple(found)


def _environment(run: Run) -> dict[str, Any]:
    try:
        values = json.loads((run.path / "environment.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _newest_report(run: Run) -> tuple[Report | None, bool]:
    """The newest scores of the adapter as it is now, and whether there are only older ones."""
    from qa_lora.report import read_report

    try:
        trained = (run.adapter / "adapter_model.safetensors").stat().st_mtime
    except OSError:
        trained = 0.0
    found: list[Report] = []
    stale = False
    for number in run.evaluations():
        path = run.evaluations_dir / f"{number}.json"
        try:
            if path.stat().st_mtime < trained - SLACK_SECONDS:
                stale = True
                continue
            found.append(read_report(run.evaluations_dir, number))
        except (OSError, RunError):  # damaged; others may be whole
            continue
    held_out = [report for report in found if report.split == "test"]
    usable = held_out or found
    return usable[-1] if usable else None, stale and not found
