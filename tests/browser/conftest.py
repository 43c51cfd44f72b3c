"""The app as a real process, and a real Chromium that looks at it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from qa_lora import runs

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class App:
    """A running app."""

    url: str
    runs_dir: Path

    def runs(self) -> list[runs.Run]:
        return runs.list_runs(self.runs_dir)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """``python app.py`` on a free port, over an empty runs folder."""
    runs_dir = tmp_path_factory.mktemp("browser-runs")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "QA_LORA_RUNS_DIR": str(runs_dir),
        "GRADIO_SERVER_PORT": str(port),
        "HF_HUB_OFFLINE": "1",
    }
    environment.pop("GRADIO_SERVER_NAME", None)
    log = runs_dir.with_suffix(".log")
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=file, stderr=file
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while not _answers(url):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield App(url, runs_dir)
    finally:
        for run in runs.list_runs(runs_dir):
            if run.alive():
                runs.stop(run)
        process.terminate()
        process.wait(20)
        said = log.read_text()
    assert "Traceback" not in said, said


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium; missing, it fails a CI and skips a laptop."""
    found = shutil.which("chromium")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("There is no chromium: the browser tests cannot run.")
        pytest.skip("There is no chromium here.")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=60_000)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def new_page(browser: Any, app: App) -> Iterator[Callable[..., Any]]:
    """Opens a page of a visitor of their own."""
    contexts = []

    def open_page(**options: Any) -> Any:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.goto(app.url)
        page.locator("#data-card .card").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def page(new_page: Callable[..., Any]) -> Any:
    """One page of one visitor."""
    return new_page()
