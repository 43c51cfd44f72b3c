"""Run folders without a training: settings and a log, as one leaves them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import psutil

from qa_lora import event_log, runs
from qa_lora.config import TrainConfig
from qa_lora.events import Evaluated, Event, Finished, Probed, Scored, Started, Step


def step(number: int, loss: float = 1.0) -> Step:
    return Step(number, 0.1, loss, 1e-3, 1.0, 10.0, 1.0 * number, 1.0, 1)


def started(total: int = 4, at: int = 0, fingerprint: str = "x") -> Started:
    return Started(at, total, 1, 2, 3, 1, 1, fingerprint, "CPU", "fp32", 0.0)


def story(
    losses: tuple[float, ...] = (3.0, 1.0, 2.0), *, rouge: tuple[float, float] | None = (0.2, 0.5)
) -> list[Event]:
    """A training that ended as asked, with a validation before each step."""
    told: list[Event] = [started(len(losses))]
    for place, loss in enumerate(losses):
        told += [
            Evaluated(place, loss, 1.0),
            Probed(place, ()),
            step(place + 1, loss + 0.5),
        ]
    told.append(Finished(len(losses), "completed", 1.0, losses[-1], 12.0, 100.0))
    if rouge is not None:
        base, tuned = rouge
        gain = {"mean": tuned - base, "low": tuned - base, "high": tuned - base}
        told.append(Scored(1, 4, {"rougeL": base}, {"rougeL": tuned}, {"rougeL": gain}))
    return told


def made_run(runs_dir: Path, name: str, *events: Event, **settings: Any) -> runs.Run:
    """A run called ``name``, which is its id."""
    run = runs.create(TrainConfig.build(**settings), runs_dir)
    run = runs.Run(run.path.rename(runs_dir / name))
    for event in events:
        event_log.append(run.events_path, event)
    return run


def with_adapter(run: runs.Run) -> runs.Run:
    """As far as lists look."""
    run.adapter.mkdir()
    (run.adapter / "adapter_config.json").write_text("{}")
    return run


def pretend_alive(run: runs.Run) -> None:
    """As if this process worked on it."""
    created = psutil.Process().create_time()
    text = json.dumps({"pid": os.getpid(), "created": created})
    (run.path / "process.json").write_text(text)
