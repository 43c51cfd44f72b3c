"""The app as a real process, on a free port, in an environment of its own."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from qa_lora import runs
from tests.forked import Child

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class App:
    """A running app."""

    url: str
    runs_dir: Path
    log: Path

    def runs(self) -> list[runs.Run]:
        return runs.list_runs(self.runs_dir)


@contextmanager
def serving_app(
    runs_dir: Path, environment: Mapping[str, str] = os.environ, *, fork: bool = False
) -> Iterator[App]:
    """The app over a folder of runs; its log must show no traceback in the end.

    Args:
        runs_dir: The folder.
        environment: All its variables, but those that say where it listens.
        fork: Let it be a fork of a process that has imported everything, instead of
            ``python app.py``; variables that libraries read when they are imported must be those
            of the tests.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {
        "HF_HUB_OFFLINE": "1",
        **environment,
        "QA_LORA_RUNS_DIR": str(runs_dir),
        "GRADIO_SERVER_PORT": str(port),
    }
    variables.pop("GRADIO_SERVER_NAME", None)
    log = runs_dir.with_suffix(".log")
    process: Any
    with log.open("wb") as file:
        if fork:
            process = Child(_serve, cwd=ROOT, environment=variables, output=file.fileno()).process
        else:
            process = _Command([sys.executable, "app.py"], variables, file)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while not _answers(url):
            assert process.is_alive(), log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield App(url, runs_dir, log)
    finally:
        for run in runs.list_runs(runs_dir):
            if run.alive():
                runs.stop(run)
        process.terminate()
        process.join(20)
        assert not process.is_alive()
        # Where SYSTEM is spaces, gradio may leave an event loop to the garbage collector.
        said = re.sub(r"Exception ignored in: .*BaseEventLoop.*\nTraceback", "", log.read_text())
    assert "Traceback" not in said, said


class _Command:
    """A command, asked as a forked process is."""

    def __init__(self, command: list[str], variables: Mapping[str, str], output: IO[bytes]) -> None:
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=variables, stdout=output, stderr=output
        )
        self.terminate = self._process.terminate

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def join(self, seconds: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)


def _serve() -> int:
    import app

    return app.main()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False
