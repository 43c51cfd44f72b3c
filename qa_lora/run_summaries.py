"""A run in one row: what lists, tables and selectors show of it. Loads no torch.

1,000 runs are no matter: a row is made anew only when the run's files or its status have changed.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from qa_lora.config import TrainConfig
from qa_lora.data.sources import short_name
from qa_lora.errors import QALoRAError, RunError
from qa_lora.events import Scored
from qa_lora.fetching import ENVIRONMENT, base_commit
from qa_lora.labels import LABEL, Label, read_label
from qa_lora.log_summary import read_log
from qa_lora.report import headline, list_reports, read_report
from qa_lora.runs import CONFIG, EVENTS, Run, RunStatus, place

__all__ = ["RunSummary", "Summaries", "setting_text", "state_of", "summarize"]

State = tuple[object, ...]
"""What changes whenever a row may."""

_STAMP = re.compile(r"(\d{4}-\d\d-\d\d-\d{6})(?:-|$)")
MOST_SETTINGS = 6
MOST_KEPT = 20_000


@dataclass(frozen=True)
class RunSummary:
    """A run in one row; None is what is not known, or not yet."""

    id: str
    path: Path
    status: RunStatus
    """As its folder says; "damaged" if anything in it is."""
    title: str = ""
    """The name that a person gave it."""
    note: str = ""
    damage: str = ""
    """What is damaged, in a sentence."""
    model: str = ""
    """The base model's name, short."""
    base: str = ""
    """The base model as the settings name it: "pocket", a folder or a Hub id."""
    base_commit: str | None = None
    """The state of a base of the Hub that it was trained on, if that was written down."""
    data: str = ""
    """The data's name, short."""
    settings: str = ""
    """Those that differ from the defaults, in words."""
    step: int | None = None
    total_steps: int | None = None
    finished: bool = False
    """Whether the training ended as asked; what comes after it, such as scoring, may fail."""
    validation_loss: float | None = None
    """Of the adapter that was kept, once the training has ended."""
    best_validation_loss: float | None = None
    rouge_base: float | None = None
    """ROUGE-L of the base on the held-out questions."""
    rouge_tuned: float | None = None
    headline: str = ""
    """What the scoring after the training found, in a sentence."""
    seconds: float | None = None
    """Of training."""
    created: float = 0.0
    """Seconds since the epoch."""
    has_adapter: bool = False
    can_resume: bool = False
    place: int | None = None
    """In line, 1 for the next, if it waits."""

    @property
    def name(self) -> str:
        """What it is called: its title, else its id."""
        return self.title or self.id

    @property
    def gain(self) -> float | None:
        """ROUGE-L of tuned minus base."""
        if self.rouge_base is None or self.rouge_tuned is None:
            return None
        return self.rouge_tuned - self.rouge_base

    def to_dict(self) -> dict[str, Any]:
        """The row as `qa-lora runs --json` gives it."""
        values: dict[str, Any] = {"run": self.id, "status": self.status, "path": str(self.path)}
        if self.status == "waiting":
            values["place"] = self.place
        if self.total_steps is not None:
            values["total_steps"] = self.total_steps
        if self.step is not None:
            values["step"] = self.step
        if self.finished:
            values["validation_loss"] = self.validation_loss
        if self.headline:
            values["headline"] = self.headline
        names = (
            "title", "note", "damage", "model", "data", "settings", "best_validation_loss",
            "seconds", "created", "has_adapter", "can_resume",
        )  # fmt: skip
        values |= {name: getattr(self, name) for name in names}
        return values | {"rougeL_base": self.rouge_base, "rougeL_tuned": self.rouge_tuned}


class Summaries:
    """Rows, each kept as long as its run stays as it is; for several threads."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[State, RunSummary]] = {}
        self._lock = threading.Lock()

    def rows(self, runs: Iterable[tuple[Run, RunStatus]]) -> list[RunSummary]:
        """A row a run, in the order of the runs.

        Args:
            runs: Runs with their statuses.
        """
        with self._lock:
            if len(self._known) > MOST_KEPT:
                self._known.clear()
            found = []
            for run, status in runs:
                state = _state(run, status)
                before = self._known.get(run.path)
                row = before[1] if before and before[0] == state else summarize(run, status)
                self._known[run.path] = state, row
                # The line moves on without a change in the folders of those who wait.
                found.append(replace(row, place=place(run)) if status == "waiting" else row)
            return found


def _state(run: Run, status: RunStatus) -> State:
    more = ("evaluations", "adapter/adapter_config.json", ENVIRONMENT)
    return (status, *state_of(run, EVENTS, CONFIG, LABEL, *more))


def state_of(run: Run, *names: str) -> State:
    """What tells whether files of a run have changed: when they were written, and their sizes."""
    folder, found = str(run.path), []
    for name in names:
        try:
            stat = os.lstat(f"{folder}{os.sep}{name}")
        except OSError:
            found.append((0, 0))
        else:
            found.append((stat.st_mtime_ns, stat.st_size))
    return tuple(found)


def summarize(run: Run, status: RunStatus | None = None) -> RunSummary:
    """Make the row of a run from its files.

    Args:
        run: The run, which may be damaged in any way.
        status: Its status if that is known already.
    """
    status = status or run.status()
    row = RunSummary(run.id, run.path, status, created=_created(run))
    damage = run.damage()
    if damage and run.path.is_symlink():
        return replace(row, status="damaged", damage=damage)
    try:
        label = read_label(run.path)
    except RunError as error:
        label, damage = Label(), damage or error.message
    row = replace(row, title=label.title, note=label.note)
    try:
        config = run.config() if not damage or (run.path / CONFIG).is_file() else None
    except RunError as error:
        config, damage = None, damage or error.message
    if config is not None:
        row = replace(
            row, model=_clean(config.model.rstrip("/").rsplit("/", 1)[-1]), base=config.model,
            base_commit=base_commit(run.path),
            data=_clean(short_name(config.data)), settings=_settings(config),
        )  # fmt: skip
    told, wrong = read_log(run)
    damage = damage or wrong
    return replace(
        row,
        status="damaged" if damage else status,
        damage=_clean(damage),
        has_adapter=(run.adapter / "adapter_config.json").is_file(),
        can_resume=run.can_resume(status),
        place=place(run) if status == "waiting" else None,
        **_scores(run, told.pop("scored", None)),
        **told,
    )


def _scores(run: Run, scored: Scored | None) -> dict[str, Any]:
    """ROUGE-L of the scoring after the training, else of the newest whole evaluation."""
    found: Any = scored
    if found is None:
        for number in reversed(list_reports(run.evaluations_dir)):
            try:
                report = read_report(run.evaluations_dir, number, examples=False)
            except QALoRAError:
                continue
            if report.complete and report.split == "test":
                found = report
                break
    if found is None:
        return {}
    try:
        base, tuned = (float(side["rougeL"]) for side in (found.base, found.tuned))
        words = headline(found)
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}  # the line of a log that another hand wrote
    return {
        "rouge_base": base,
        "rouge_tuned": tuned,
        # What `qa-lora runs` has always called so is of the scoring that belongs to the training.
        "headline": words if scored is not None else "",
    }


def _created(run: Run) -> float:
    """When the run was made: by its id, else by its settings' file."""
    stamp = _STAMP.match(run.id)
    if stamp:
        try:
            return datetime.strptime(stamp[1], "%Y-%m-%d-%H%M%S").timestamp()
        except (ValueError, OverflowError, OSError):
            pass
    for path in (run.path / CONFIG, run.path):
        try:
            return path.lstat().st_mtime
        except OSError:
            continue
    return 0.0


def _settings(config: TrainConfig) -> str:
    """What is not as by default, in words."""
    changed = config.changed()
    words = [
        f"{name.replace('_', ' ')} {setting_text(value)}"
        for name, value in changed.items()
        if name not in ("name", "model", "data") and not name.endswith("_prompt")
    ]
    more = len(words) - MOST_SETTINGS
    shown = words[:MOST_SETTINGS] + ([f"{more} more"] if more > 0 else [])
    return _clean(", ".join(shown))


def setting_text(value: Any) -> str:
    """A setting's value as a person reads it, in at most 60 characters."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return text if len(text) <= 60 else f"{text[:58]}…"


def _clean(text: str) -> str:
    """Text that can be sent: a file's name that is not UTF-8 holds halves of characters."""
    return text.encode("utf-8", "replace").decode("utf-8")
