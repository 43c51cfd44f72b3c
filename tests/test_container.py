"""The Dockerfile, as far as it can be tested without a container engine."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from qa_lora.serving import ServerSettings
from qa_lora.spaces.config import SpaceConfig

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")


def lines(word: str) -> list[str]:
    """What follows an instruction, each time it is given."""
    return re.findall(rf"^{word}\s+(.+)$", TEXT, re.MULTILINE)


def copied() -> list[str]:
    return [name for line in lines("COPY") for name in line.split()[:-1]]


def test_what_it_copies_is_there_and_is_not_ignored() -> None:
    rules = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert "*" in rules, "only what is listed goes to the build"
    kept = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    assert kept == set(copied())
    for name in copied():
        assert (ROOT / name).exists(), name
    dropped = [rule for rule in rules if not rule.startswith(("!", "#")) and rule != "*"]
    assert any(fnmatch.fnmatch("qa_lora/__pycache__", rule) for rule in dropped)


def test_pins_are_installed_before_the_code_is_copied() -> None:
    assert TEXT.index("COPY requirements.txt") < TEXT.index("pip install")
    assert TEXT.index("pip install") < TEXT.index("COPY qa_lora")
    assert "-r requirements.txt" in TEXT


def test_it_does_not_run_as_root_and_keeps_runs_in_its_volume() -> None:
    user = lines("USER")[-1]
    assert user.split(":")[0].isdecimal() and user.split(":")[0] != "0"
    assert TEXT.rindex("USER") > TEXT.rindex("RUN"), "what is installed belongs to root"
    (volume,) = lines("VOLUME")
    for name in ("QA_LORA_RUNS_DIR", "HF_HOME"):
        (value,) = re.findall(rf"{name}=(\S+)", TEXT)
        assert value.startswith(f"{volume}/")


def test_its_python_is_that_of_the_space() -> None:
    config = SpaceConfig.from_yaml(ROOT / "spaces_config.yaml")
    assert lines("ARG")[0] == f"PYTHON={config.python_version}"


def test_compose_files_are_of_this_image() -> None:
    service = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]["qa-lora"]
    assert service["init"] is True
    assert [v.split(":")[1] for v in service["volumes"]] == lines("VOLUME")
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    # Who is alone on this machine is limited by nothing; anybody else is.
    (address,) = re.findall(r"GRADIO_SERVER_NAME=(\S+)", TEXT)
    alone = ServerSettings.from_environment(service["environment"], address)
    assert not alone.public and not alone.max_steps and not alone.models
    assert ServerSettings.from_environment({}, address).public
    cuda = yaml.safe_load((ROOT / "compose.cuda.yaml").read_text("utf-8"))["services"]["qa-lora"]
    assert cuda["build"]["args"]["DEVICE"] == "cuda"
    assert "cuda)" in TEXT


@pytest.mark.slow
def test_the_health_check_tells_a_running_app_from_none(tmp_path: Path) -> None:
    (check,) = (json.loads(line.split("CMD", 1)[1]) for line in lines("HEALTHCHECK"))
    (start,) = (json.loads(line) for line in lines("CMD"))
    (stop,) = lines("STOPSIGNAL")
    assert stop == "SIGINT"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {
        **os.environ,
        "GRADIO_SERVER_NAME": "0.0.0.0",
        "GRADIO_SERVER_PORT": port,
        "QA_LORA_RUNS_DIR": str(tmp_path / "runs"),
    }

    def healthy() -> bool:
        command = [sys.executable, *check[1:]]
        return not subprocess.run(command, env=environment, capture_output=True).returncode

    assert not healthy()
    app = subprocess.Popen([sys.executable, *start[1:]], cwd=ROOT, env=environment)
    try:
        while not healthy():
            assert app.poll() is None
            time.sleep(0.5)
    finally:
        app.send_signal(2)
        code = app.wait()
    assert code == 0, "it ends on STOPSIGNAL"
