"""Run directories: create, list, follow, start, stop, resume. Loads no torch.

A run is a folder; everything about it is read from there, by any process, at any time:

    config.yaml        everything needed to start it again
    environment.json   versions, hardware, data fingerprint, split sizes
    events.jsonl       append-only, one event a line
    process.json       which process trains, by pid and birth, so that a reused pid fools nobody
    worker.log         what that process printed
    checkpoint/        latest full state, replaced in one step
    adapter/           the adapter that is kept
    evaluations/       scored held-out rows
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias

from qa_lora.config import TrainConfig
from qa_lora.errors import ConfigError, RunError
from qa_lora.event_log import EventReader, last_word, truncate
from qa_lora.events import Event, Failed, Finished
from qa_lora.files import recover_folder, replaced_file

__all__ = [
    "Run",
    "RunStatus",
    "active_run",
    "create",
    "default_runs_dir",
    "find",
    "list_runs",
    "resume",
    "rewind",
    "start",
    "stop",
]

RunStatus: TypeAlias = Literal[
    "starting", "running", "finished", "stopped", "failed", "interrupted", "damaged"
]

CONFIG, EVENTS, PROCESS, STOP = "config.yaml", "events.jsonl", "process.json", "stop-requested"
CHECKPOINT_STATE = "state.json"
"""File of a checkpoint that names its step; see checkpoint.py."""


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
        try:
            return TrainConfig.from_yaml(self.path / CONFIG)
        except ConfigError as error:
            raise RunError(f"The run {self.id} is damaged: {error}") from None

    def events(self) -> list[Event]:
        """All events so far; damaged lines are left out."""
        return EventReader(self.events_path).new()

    def status(self) -> RunStatus:
        """Derived from the last word of the log and from whether the process lives."""
        if not (self.path / CONFIG).is_file():
            return "damaged"
        last = last_word(self.events_path)
        if self.alive() and not isinstance(last, (Finished, Failed)):
            return "running" if last is not None else "starting"
        if isinstance(last, Finished):
            return "stopped" if last.reason == "stopped" else "finished"
        return "failed" if isinstance(last, Failed) else "interrupted"

    def alive(self) -> bool:
        """Whether the process that trains, or scores after training, lives."""
        import psutil

        try:
            values = json.loads((self.path / PROCESS).read_text("utf-8"))
            process = psutil.Process(int(values["pid"]))
            same = abs(process.create_time() - float(values["created"])) < 1.0
            return bool(same and process.status() != psutil.STATUS_ZOMBIE)
        except (OSError, ValueError, KeyError, TypeError, psutil.Error):
            return False

    def has_adapter(self) -> bool:
        """Whether an adapter was kept."""
        recover_folder(self.adapter)
        return (self.adapter / "adapter_config.json").is_file()

    def can_resume(self) -> bool:
        """Whether there is a checkpoint of an unfinished training that nobody is working on."""
        recover_folder(self.checkpoint)
        unfinished = self.status() in ("stopped", "failed", "interrupted")
        return unfinished and self.checkpoint.is_dir() and not self.alive()

    def evaluations(self) -> list[int]:
        """Numbers of the finished evaluations, ascending."""
        from qa_lora.report import list_reports

        return list_reports(self.evaluations_dir)

    def stop_requested(self) -> bool:
        """Whether somebody asked the training to stop."""
        return (self.path / STOP).exists()

    def claim(self) -> None:
        """Say that this process works on the run now.

        Raises:
            RunError: If another process does already, or the folder cannot be written.
        """
        if self.alive() and not self._is_mine():
            raise RunError(f"The run {self.id} is already being worked on.", "Stop it first.")
        _write_process(self, os.getpid())
        (self.path / STOP).unlink(missing_ok=True)

    def _is_mine(self) -> bool:
        try:
            return bool(json.loads((self.path / PROCESS).read_text("utf-8"))["pid"] == os.getpid())
        except (OSError, ValueError, KeyError):
            return False


def default_runs_dir() -> Path:
    """Where runs lie: QA_LORA_RUNS_DIR, or the folder "runs"."""
    return Path(os.environ.get("QA_LORA_RUNS_DIR") or "runs")


def create(config: TrainConfig, runs_dir: str | Path) -> Run:
    """Make the folder of a new run.

    Raises:
        RunError: If it cannot be written.
    """
    name = config.name or f"{Path(config.data).stem}-{config.model.rsplit('/', 1)[-1]}"
    safe = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40] or "run"
    if Path(config.data).is_file():
        # A run goes on from any folder; whoever moves the file is told when it is missing.
        config = config.model_copy(update={"data": str(Path(config.data).resolve())})
    stamp = datetime.now().strftime("%Y-%m-%d-%H%M%S")
    runs_dir = Path(runs_dir)
    for attempt in range(1, 1000):
        path = runs_dir / (f"{stamp}-{safe}" if attempt == 1 else f"{stamp}-{safe}-{attempt}")
        try:
            path.mkdir(parents=True)
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


def find(name: str | Path, runs_dir: str | Path) -> Run:
    """The run of an id in `runs_dir`, or of a folder.

    Raises:
        RunError: If there is none.
    """
    inside = Path(runs_dir) / name
    candidates = [inside] if Path(name).name == str(name) else []
    for path in [*candidates, Path(name)]:
        if (path / CONFIG).is_file():
            return Run(path)
    newest = list_runs(runs_dir)
    known = f"The newest is {newest[0].id}." if newest else "There are no runs there yet."
    raise RunError(f"There is no run {name} in {runs_dir}.", known)


def list_runs(runs_dir: str | Path) -> list[Run]:
    """All runs in a folder, newest first."""
    try:
        paths = [path.parent for path in Path(runs_dir).glob(f"*/{CONFIG}")]
    except OSError:
        return []
    return [Run(path) for path in sorted(paths, key=lambda path: path.name, reverse=True)]


def active_run(runs_dir: str | Path) -> Run | None:
    """The run in a folder that somebody is working on, if there is one."""
    return next((run for run in list_runs(runs_dir) if run.alive()), None)


def start(config: TrainConfig, runs_dir: str | Path) -> Run:
    """Create a run and train it in a process of its own.

    Raises:
        RunError: If another run in the folder is being worked on, or nothing can be written.
    """
    with _one_at_a_time(runs_dir):
        run = create(config, runs_dir)
        _spawn(run)
    return run


def resume(run: Run) -> None:
    """Go on with a run from its checkpoint, in a process of its own.

    Raises:
        RunError: If there is nothing to resume, or another run is being worked on.
    """
    with _one_at_a_time(run.path.parent):
        if not run.can_resume():
            raise RunError(
                f"The run {run.id} has nothing to resume: it is {run.status()}.",
                "A run that was stopped or interrupted after its first checkpoint can go on.",
            )
        rewind(run)
        _spawn(run)


def rewind(run: Run) -> int:
    """Take the event log back to the checkpoint, so that the run is one story again.

    Returns:
        The checkpoint's step.

    Raises:
        RunError: If there is no checkpoint, or it is damaged.
    """
    try:
        state = json.loads((run.checkpoint / CHECKPOINT_STATE).read_text("utf-8"))
        step = int(state["step"])
        truncate(run.events_path, step)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"The checkpoint of the run {run.id} cannot be used: {error}.") from None
    return step


def stop(run: Run) -> None:
    """Ask a training to finish its step, save and stop.

    Raises:
        RunError: If it is not running.
    """
    if run.status() not in ("starting", "running"):
        raise RunError(f"The run {run.id} is not running: it is {run.status()}.")
    try:
        (run.path / STOP).touch()
    except OSError as error:
        raise RunError(f"The run {run.id} cannot be asked to stop: {error.strerror}.") from None


def _spawn(run: Run) -> None:
    (run.path / STOP).unlink(missing_ok=True)
    with (run.path / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "qa_lora.worker", str(run.path.resolve())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": _with_this_package()},
            # A session of its own: closing the terminal or the app does not end the training.
            start_new_session=True,
        )
    _write_process(run, process.pid)


def _with_this_package() -> str:
    """PYTHONPATH with which the worker imports this package from any folder, installed or not."""
    here = str(Path(__file__).resolve().parent.parent)
    return os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))


def _write_process(run: Run, pid: int) -> None:
    import psutil

    try:
        created = psutil.Process(pid).create_time()
        with replaced_file(run.path / PROCESS) as file:
            file.write_text(json.dumps({"pid": pid, "created": created}), "utf-8")
    except psutil.Error:
        return
    except OSError as error:
        raise RunError(f"The run {run.id} cannot be written: {error.strerror}.") from None


@contextmanager
def _one_at_a_time(runs_dir: str | Path) -> Iterator[None]:
    """Hold off other starts; refuse if a run in the folder is being worked on."""
    from filelock import FileLock

    folder = Path(runs_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".start.lock")
        lock.acquire(timeout=30)
    except OSError as error:  # filelock's Timeout is one, too
        raise RunError(
            f"The runs folder {runs_dir} cannot be written: {error.strerror or error}.",
            "Choose another one with --runs-dir or QA_LORA_RUNS_DIR.",
        ) from None
    try:
        busy = active_run(folder)
        if busy is not None:
            raise RunError(
                f"The run {busy.id} is still being worked on.", "Wait for its end or stop it first."
            )
        yield
    finally:
        lock.release()
