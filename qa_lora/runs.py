"""Run directories: create, list, follow, start, stop, resume. Loads no torch.

A run is a folder; everything about it is read from there, by any process, at any time:

    config.yaml        everything needed to start it again
    environment.json   versions, hardware, data fingerprint, split sizes
    events.jsonl       append-only, one event a line
    process.json       which process trains, by pid and birth, so that a reused pid fools nobody
    waiting            when the run got in line, while another one has its turn
    worker.log         what that process printed
    checkpoint/        latest full state, replaced in one step
    checkpoint.previous/  the one before
    adapter/           the adapter that is kept
    evaluations/       scored held-out rows
    label.json         the name and the note that a person gave it
"""

from __future__ import annotations

import json
import os
import re
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias

from qa_lora import distributed, processes, turns, zero_gpu
from qa_lora.backup.places import is_repo
from qa_lora.config import SOURCES, TrainConfig, read_settings
from qa_lora.data.sources import absolute, short_name
from qa_lora.errors import ConfigError, DataError, RunError
from qa_lora.event_log import EventReader, last_word
from qa_lora.events import Event, Failed, Finished
from qa_lora.files import recover_folder, replaced_file
from qa_lora.imported import imported_folder
from qa_lora.owners import write_owner
from qa_lora.recovery import check_processes, read_checkpoint_state, rewind
from qa_lora.secrets import holds_token

__all__ = [
    "Run",
    "RunStatus",
    "active_run",
    "check_can_resume",
    "create",
    "default_runs_dir",
    "find",
    "list_runs",
    "place",
    "queue_up",
    "resume",
    "start",
    "stop",
]

RunStatus: TypeAlias = Literal[
    "waiting", "starting", "running", "finished", "stopped", "failed", "interrupted", "damaged"
]

CONFIG, EVENTS, STOP = "config.yaml", "events.jsonl", "stop-requested"
TRACES = (CONFIG, EVENTS, "checkpoint", "checkpoint.previous", "adapter")
"""A folder that holds one of these is or was a run."""


OWN = frozenset((*TRACES, STOP, turns.TICKET, "worker.log", "environment.json", "evaluations"))
"""What a run reads and writes; a link in its place would lead both elsewhere."""


class Run:
    """One run, read from its folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def id(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def adapter(self) -> Path:
        """Folder of the adapter that is kept; it exists once one was saved."""
        return self.path / "adapter"

    @property
    def checkpoint(self) -> Path:
        """Folder of the state to resume from; it exists once one was saved."""
        return self.path / "checkpoint"

    @property
    def previous_checkpoint(self) -> Path:
        """Folder of the state before that, for the case that the latest is damaged."""
        return self.path / "checkpoint.previous"

    @property
    def evaluations_dir(self) -> Path:
        """Folder of the scored held-out rows."""
        return self.path / "evaluations"

    @property
    def events_path(self) -> Path:
        """The event log."""
        return self.path / EVENTS

    def config(self) -> TrainConfig:
        """The settings of the run.

        Raises:
            RunError: If they are missing or damaged.
        """
        if link := self._link():
            raise RunError(
                f"The run {self.id} is damaged: {link} is a link to another place.",
                "Put what it leads to in its place.",
            )
        try:
            settings = read_settings(self.path / CONFIG)
            # A run from before this setting was divided by equal questions alone; were it divided
            # in another way now, questions it was trained on would count as held out.
            settings.setdefault("near_duplicates", None)
            return TrainConfig.build(**settings)
        except ConfigError as error:
            # Where it lies is nothing to visitors of a server.
            wrong = str(error).replace(f"{self.path}{os.sep}", "")
            raise RunError(f"The run {self.id} is damaged: {wrong}") from None

    def events(self) -> list[Event]:
        """All events so far; damaged lines are left out, and a log that cannot be read is none."""
        try:
            return EventReader(self.events_path).new()
        except OSError:
            return []

    def damage(self) -> str:
        """Why this folder cannot be used as a run, in a sentence; empty if it can.

        Files of which only their kind is looked at may be damaged inside; who reads them says so.
        """
        if self.path.is_symlink():
            return "The run's folder is a link to another place."
        if link := self._link():
            return f"{link} is a link to another place."
        for name, needed in ((CONFIG, True), (EVENTS, False)):
            path = self.path / name
            if not path.is_file() and (needed or path.exists()):
                return f"{name} is {'no file' if path.exists() else 'missing'}."
        return ""

    def _link(self) -> str:
        """Which of its own parts is a link, if one is."""
        try:
            with os.scandir(self.path) as entries:
                return next((e.name for e in entries if e.is_symlink() and e.name in OWN), "")
        except OSError:
            return ""

    def status(self) -> RunStatus:
        """Derived from the last word of the log and from whether the process lives."""
        if self.damage():
            return "damaged"
        try:
            last, alive = last_word(self.events_path), self.alive()
        except OSError:  # a log that may not be read
            return "damaged"
        if alive and turns.has_ticket(self.path):
            return "waiting"
        if alive and not isinstance(last, (Finished, Failed)):
            return "running" if last is not None else "starting"
        if isinstance(last, Finished):
            return "stopped" if last.reason == "stopped" else "finished"
        return "failed" if isinstance(last, Failed) else "interrupted"

    def alive(self) -> bool:
        """Whether its process lives: it waits, trains, or scores after training."""
        return processes.alive(self.path)

    def has_adapter(self) -> bool:
        """Whether an adapter was kept."""
        if self.adapter.is_symlink():
            return False
        recover_folder(self.adapter)
        return (self.adapter / "adapter_config.json").is_file()

    def check_held_out(self, fingerprint: str) -> None:
        """Refuse to go on, or to score, with other held-out questions than the run began with.

        Args:
            fingerprint: Of the test side as it is now.

        Raises:
            DataError: If another one was written down when the run began.
        """
        try:
            values = json.loads((self.path / "environment.json").read_text("utf-8"))
            recorded = values.get("test_fingerprint")
        except (OSError, ValueError, AttributeError):
            return  # nothing to compare with
        if recorded not in (None, fingerprint):
            raise DataError(
                f"The data of {self.id} has changed since that run began: it would hold out other "
                "questions, and what was trained on could be among them.",
                "Put the data back as it was, or train anew.",
            )

    def has_checkpoint(self) -> bool:
        """Whether a state was saved to go on from."""
        return self.checkpoint.is_dir() or self.previous_checkpoint.is_dir()

    def can_resume(self, status: RunStatus | None = None) -> bool:
        """Whether this is an unfinished training that nobody is working on.

        One that was interrupted or cancelled before its first checkpoint begins anew. One that
        failed before it would only fail again.

        Args:
            status: Its status if that is known already.
        """
        status = status or self.status()
        unfinished = status in ("stopped", "interrupted") or (
            status == "failed" and self.has_checkpoint()
        )
        return unfinished and not self.alive()

    def evaluations(self) -> list[int]:
        """Numbers of the finished evaluations, ascending."""
        from qa_lora.report import list_reports

        return list_reports(self.evaluations_dir)

    def stop_requested(self) -> bool:
        """Whether somebody asked the training to stop."""
        return (self.path / STOP).exists()

    def forget_stop(self) -> None:
        """Take the mark of :func:`stop` away: it was heeded, or meant for an earlier process."""
        (self.path / STOP).unlink(missing_ok=True)

    def release(self) -> None:
        """Say that this process works on the run no longer, though it may live on."""
        self.forget_stop()
        processes.forget(self.path)

    def claim(self) -> None:
        """Say that this process works on the run now.

        Raises:
            RunError: If another process does already, or the folder cannot be written.
        """
        if processes.is_mine(self.path):
            return  # its starter noted it; a stop may have been asked for since
        if self.alive():
            raise RunError(f"The run {self.id} is already being worked on.", "Stop it first.")
        try:
            processes.note(self.path, os.getpid())
            self.forget_stop()
        except OSError as error:
            raise RunError(f"The run {self.id} cannot be written: {error.strerror}.") from None


def default_runs_dir() -> Path:
    """Where runs lie: QA_LORA_RUNS_DIR, or the folder "runs"."""
    return Path(os.environ.get("QA_LORA_RUNS_DIR") or "runs")


def create(config: TrainConfig, runs_dir: str | Path, owner: str = "") -> Run:
    """Make the folder of a new run.

    Args:
        config: The settings.
        runs_dir: Where it is made.
        owner: Whose it is, see :mod:`qa_lora.owners`; the server's own when empty.

    Raises:
        ConfigError: If a token or a password stands in a setting; nothing is written.
        RunError: If it cannot be written.
    """
    for setting, value in config.changed().items():
        if isinstance(value, str) and holds_token(value):
            raise ConfigError(
                f"There is a token or a password in {setting}; it would be saved with the run.",
                "Log in with hf auth login, or set HF_TOKEN, and leave it out.",
            )
    name = config.name or f"{short_name(config.data)}-{config.model.rsplit('/', 1)[-1]}"
    safe = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40] or "run"
    # A run goes on from any folder; whoever moves a file is told when it is missing.
    named = {name: getattr(config, name) for name in SOURCES}
    config = config.model_copy(
        update={name: absolute(text) for name, text in named.items() if text}
    )
    if config.backup and not is_repo(config.backup):
        folder = str(Path(config.backup).expanduser().absolute())
        config = config.model_copy(update={"backup": folder})
    if config.init_adapter:
        start = _adapter_path(config.init_adapter, Path(runs_dir))
        config = config.model_copy(update={"init_adapter": start})
    stamp = datetime.now().strftime("%Y-%m-%d-%H%M%S")
    runs_dir = Path(runs_dir)
    for attempt in range(1, 1000):
        path = runs_dir / (f"{stamp}-{safe}" if attempt == 1 else f"{stamp}-{safe}-{attempt}")
        try:
            path.mkdir(parents=True)
            if owner:  # before the folder is a run that others might see
                write_owner(path, owner)
            with replaced_file(path / CONFIG) as file:
                file.write_text(config.to_yaml(), "utf-8")
        except FileExistsError:
            if not runs_dir.is_dir():
                raise RunError(
                    f"The runs folder {runs_dir} is a file.", "Choose a folder with --runs-dir."
                ) from None
            continue
        except OSError as error:
            raise RunError(
                f"The runs folder {runs_dir} cannot be written: {error.strerror}.",
                "Choose another one with --runs-dir or QA_LORA_RUNS_DIR.",
            ) from None
        return Run(path)
    raise RunError(f"There are too many runs named {stamp}-{safe} in {runs_dir}.")


def _adapter_path(name: str, runs_dir: Path) -> str:
    """Where an adapter to go on from lies, whatever the current folder is later; or its Hub id."""
    kept = imported_folder(name, runs_dir)
    for folder in (runs_dir / name, *([kept] if kept else []), Path(name).expanduser()):
        if (folder / CONFIG).is_file() or (folder / "adapter_config.json").is_file():
            return str(folder.resolve())
    return name


def find(name: str | Path, runs_dir: str | Path) -> Run:
    """The run of an id in `runs_dir`, or of a folder.

    Raises:
        RunError: If there is none.
    """
    inside = Path(runs_dir) / name
    candidates = [inside] if Path(name).name == str(name) else []
    for path in [*candidates, Path(name)]:
        if (path / CONFIG).is_file():
            # "." and ".." are no names.
            return Run(path if path.name not in ("", "..") else path.resolve())
    newest = list_runs(runs_dir)
    known = f"The newest is {newest[0].id}." if newest else "There are no runs there yet."
    raise RunError(f"There is no run {name} in {runs_dir}.", known)


def list_runs(runs_dir: str | Path) -> list[Run]:
    """All runs in a folder, newest first; damaged ones, too."""
    try:
        with os.scandir(runs_dir) as entries:
            # What is hidden is no run, but the trash, for example. A name that is not UTF-8, or has
            # line breaks in it, can be neither shown nor said.
            names = [
                each.name
                for each in entries
                if each.name[0] != "." and each.name.isprintable() and each.is_dir()
            ]
    except OSError:
        return []
    runs_dir = Path(runs_dir)
    return [Run(runs_dir / name) for name in sorted(names, reverse=True) if _is_run(runs_dir, name)]


def _is_run(runs_dir: Path, name: str) -> bool:
    """Whether a folder is a run, or was one before it was damaged."""
    folder = os.path.join(runs_dir, name)  # noqa: PTH118 - a list of 1,000 is made twice a second
    return any(os.path.lexists(f"{folder}{os.sep}{each}") for each in TRACES)


def active_run(runs_dir: str | Path) -> Run | None:
    """The run in a folder that somebody is working on, if there is one; no run that waits."""
    return next(map(Run, turns.at_work(Path(runs_dir))), None)


def place(run: Run) -> int | None:
    """Place in line of a run that waits, 1 for the next; None if it does not wait."""
    waiting = turns.in_line(run.path.parent) if turns.has_ticket(run.path) else []
    return waiting.index(run.path) + 1 if run.path in waiting else None


def start(config: TrainConfig, runs_dir: str | Path, owner: str = "") -> Run:
    """Create a run and train it in a process of its own, as soon as no other in the folder works.

    Args:
        config: The settings.
        runs_dir: Where it is made.
        owner: Whose it is, as in :func:`create`.

    Raises:
        RunError: If nothing can be written, or very many runs wait already.
    """
    with turns.look(Path(runs_dir)):
        turns.check_room(Path(runs_dir))
        run = create(config, runs_dir, owner)
        _launch(run)
    return run


def resume(run: Run) -> None:
    """Go on with a run from its checkpoint, in a process of its own, as soon as no other works.

    A run that has no checkpoint begins anew.

    Raises:
        RunError: If there is nothing to resume, or its checkpoints are damaged.
    """
    with turns.look(run.path.parent):
        turns.check_room(run.path.parent)
        check_can_resume(run)
        _launch(run)


def queue_up(run: Run) -> None:
    """Note this process as the one that works on a run, last in line if another works or waits.

    Raises:
        RunError: If another process works on it, very many wait, or nothing can be written.
    """
    with turns.look(run.path.parent):
        turns.check_room(run.path.parent)
        run.claim()
        turns.draw_ticket(run.path)


def check_can_resume(run: Run) -> None:
    """Say why a run cannot be resumed.

    Raises:
        RunError: If it cannot.
    """
    if not run.can_resume():
        raise RunError(
            f"The run {run.id} has nothing to resume: it is {run.status()}.",
            "A run that was stopped or interrupted can go on.",
        )
    try:
        state = read_checkpoint_state(run.checkpoint)
    except RunError:
        return  # there is none, or it is damaged, which is said when it is read
    check_processes(state, distributed.count())


def _launch(run: Run) -> None:
    """Start the run's process; with a ticket if it has to wait. Hold `turns.look` meanwhile."""
    # The log of a run that waits stays as it is: cancelled, it is what it was.
    waits = turns.draw_ticket(run.path)
    if not waits and (run.events_path.exists() or run.has_checkpoint()):
        rewind(run)
    try:
        run.forget_stop()
        if zero_gpu.active():
            processes.note(run.path, os.getpid())
            zero_gpu.launch(run.path)
        else:
            processes.spawn(run.path)
    except OSError as error:
        turns.leave(run.path)
        raise RunError(f"The run {run.id} cannot be started: {error.strerror}.") from None


def stop(run: Run) -> None:
    """Ask a training to finish its step, save and stop; a run that waits gives up its place.

    Raises:
        RunError: If nobody works on it.
    """
    if not run.alive():
        raise RunError(f"The run {run.id} is not running: it is {run.status()}.")
    try:
        (run.path / STOP).touch()
    except OSError as error:
        raise RunError(f"The run {run.id} cannot be asked to stop: {error.strerror}.") from None
