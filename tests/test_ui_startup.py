"""What the first page waits for: no heavy library, and nothing from a network."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ["torch", "transformers", "peft", "accelerate", "datasets", "evaluate"]


def loaded_after(code: str, **environment: str) -> list[str]:
    """The heavy libraries that a new process has loaded after running `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys, json\nprint(json.dumps(list(sys.modules)))"],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    return [name for name in [*HEAVY, "gradio"] if name in modules]


def test_importing_the_app_loads_neither_gradio_nor_torch() -> None:
    assert loaded_after("import app") == []


def test_building_the_page_loads_no_torch(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\nfrom qa_lora.ui.build import build_app, launch_options\n"
        f"build_app(Path({str(tmp_path)!r})); launch_options()"
    )
    assert loaded_after(code, GRADIO_ANALYTICS_ENABLED="False") == ["gradio"]


@pytest.mark.parametrize("port", ["nonsense", "0", "70000", "-1", "²"])
def test_a_bad_port_is_refused_in_one_sentence(
    port: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import app

    monkeypatch.setenv("GRADIO_SERVER_PORT", port)
    assert app.main() == 2
    said = capsys.readouterr().err
    assert port in said and said.count("\n") == 1


def test_a_taken_port_is_refused_in_one_sentence(
    tmp_path: Path,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "app.py"], cwd=ROOT, capture_output=True, text=True, check=False,
            env={**os.environ, "GRADIO_SERVER_PORT": port, "QA_LORA_RUNS_DIR": str(tmp_path)},
        )  # fmt: skip
    assert done.returncode == 2
    assert "port is taken" in done.stderr and done.stderr.count("\n") == 1
