"""Which process works on a run: by pid and time of birth, for pids are used again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from qa_lora.files import replaced_file

__all__ = ["PROCESS", "alive", "end", "forget", "is_mine", "note", "spawn"]

PROCESS = "process.json"


def alive(folder: Path) -> bool:
    """Whether the process that is noted in a run's folder lives."""
    return _pid(folder) is not None


def is_mine(folder: Path) -> bool:
    """Whether it is this one."""
    return _pid(folder) == os.getpid()


def end(folder: Path) -> None:
    """Kill the process that works on a run; what it saved stays, and the run can be resumed."""
    import psutil

    pid = _pid(folder)
    if pid is not None:
        try:
            psutil.Process(pid).kill()
        except psutil.Error:
            return  # it has just ended


def note(folder: Path, pid: int) -> None:
    """Write down which process works on a run; nothing if that has ended already.

    Raises:
        OSError: If the disk is full or the folder cannot be written.
    """
    import psutil

    try:
        created = psutil.Process(pid).create_time()
    except psutil.Error:
        return
    with replaced_file(folder / PROCESS) as file:
        file.write_text(json.dumps({"pid": pid, "created": created}), "utf-8")


def forget(folder: Path) -> None:
    """Take back that this process works on a run."""
    if is_mine(folder):
        (folder / PROCESS).unlink(missing_ok=True)


def spawn(folder: Path) -> None:
    """Start the process that trains the run in a folder, and note it there.

    Raises:
        OSError: If it cannot be started or noted.
    """
    with (folder / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "qa_lora.worker", str(folder.resolve())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": _with_this_package()},
            # A session of its own: closing the terminal or the app does not end the training.
            start_new_session=True,
        )
    note(folder, process.pid)


def _pid(folder: Path) -> int | None:
    """The pid of the process that is noted, if it lives."""
    import psutil

    try:
        values = json.loads((folder / PROCESS).read_text("utf-8"))
        process = psutil.Process(int(values["pid"]))
        same = abs(process.create_time() - float(values["created"])) < 1.0
        return process.pid if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None


def _with_this_package() -> str:
    """PYTHONPATH with which the worker imports this package from any folder, installed or not."""
    here = str(Path(__file__).resolve().parent.parent)
    return os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
