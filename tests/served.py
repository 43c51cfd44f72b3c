"""The app as a real process: ``python app.py`` on a free port, in an environment of its own."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from qa_lora import runs

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
def serving_app(runs_dir: Path, environment: Mapping[str, str] = os.environ) -> Iterator[App]:
    """The app over a folder of runs; its log must show no traceback in the end."""
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
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=variables, stdout=file, stderr=file
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while not _answers(url):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield App(url, runs_dir, log)
    finally:
        for run in runs.list_runs(runs_dir):
            if run.alive():
                runs.stop(run)
        process.terminate()
        process.wait(20)
        # Where SYSTEM is spaces, gradio may leave an event loop to the garbage collector.
        said = re.sub(r"Exception ignored in: .*BaseEventLoop.*\nTraceback", "", log.read_text())
    assert "Traceback" not in said, said


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False
