"""What a Space installs can be installed: resolved against the package index, nothing downloaded."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from qa_lora.spaces.config import ZERO_GPU_PYTHON, ZERO_GPU_TORCH, SpaceConfig
from qa_lora.spaces.requirements import ZERO_GPU_TORCH_PIN, space_requirements

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent

# What a Space of the gradio SDK installs beside requirements.txt.
BESIDE = ["gradio[oauth,mcp]=={sdk_version}", "uvicorn>=0.14.0", "spaces"]

AWAY = re.compile(r"error sending request|failed to fetch|dns error|connect|timed out", re.I)


class Resolving:
    """A search for releases that fit together, for a Python on Linux; it goes on by itself."""

    def __init__(self, lines: list[str], python: str, folder: Path) -> None:
        folder.mkdir()
        source = folder / "requirements.in"
        source.write_text("\n".join(lines) + "\n")
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "uv", "pip", "compile", str(source), "--quiet",
                "--no-header", "--no-annotate", "--python-version", python,
                "--python-platform", "x86_64-manylinux_2_28",
            ],
            cwd=folder,
            env={**os.environ, "UV_PYTHON_DOWNLOADS": "never"},  # none is needed to resolve
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def found(self) -> dict[str, Version]:
        """The releases; the test fails if none fit together."""
        out, said = self._process.communicate()
        if self._process.returncode and AWAY.search(said) and "No solution" not in said:
            pytest.skip("the package index cannot be reached")
        assert self._process.returncode == 0, said
        pins = (line.split("==") for line in out.splitlines() if "==" in line)
        return {name.split("[")[0]: Version(rest.split(";")[0].strip()) for name, rest in pins}


def space(hardware: str, python: str) -> tuple[list[str], str]:
    config = SpaceConfig.from_yaml(
        ROOT / "spaces_config.yaml", hardware=hardware, python_version=python
    )
    text = space_requirements((ROOT / "requirements.txt").read_text("utf-8"), config)
    # Without the index of torch for CPUs, which has the same releases.
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return lines, config.sdk_version


def test_the_zero_gpu_pin_is_one_that_it_runs() -> None:
    lowest, highest = (Version(version) for version in ZERO_GPU_TORCH)
    pin = Version(ZERO_GPU_TORCH_PIN)
    assert lowest <= pin and (pin.major, pin.minor) <= (highest.major, highest.minor)


def project_requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return list(project["dependencies"])


OLDEST = f"{ZERO_GPU_TORCH[0]}.0"
ZERO_GPU = [(python, torch) for python in ZERO_GPU_PYTHON for torch in (OLDEST, ZERO_GPU_TORCH_PIN)]


@pytest.fixture(scope="module")
def resolving(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Resolving]:
    """All of them at once: they wait for the index for most of their time."""
    folder, found = tmp_path_factory.mktemp("resolving"), {}

    def begin(name: str, lines: list[str], python: str) -> None:
        found[name] = Resolving(lines, python, folder / name)

    for python, torch in ZERO_GPU:
        lines, sdk_version = space("zero-a10g", python)
        lines = [line for line in lines if not line.startswith("torch==")]
        beside = [line.format(sdk_version=sdk_version) for line in BESIDE]
        begin(f"{python}-{torch}", [*lines, f"torch=={torch}", *beside], python)
    lines, sdk_version = space("cpu-basic", "3.12")
    begin("cpus", [*lines, *(line.format(sdk_version=sdk_version) for line in BESIDE)], "3.12")
    begin("oldest", [*project_requirements(), f"torch=={OLDEST}"], ZERO_GPU_PYTHON[0])
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("python", "torch"), ZERO_GPU)
def test_zero_gpu_resolves(python: str, torch: str, resolving: dict[str, Resolving]) -> None:
    found = resolving[f"{python}-{torch}"].found()
    assert found["torch"] == Version(torch)
    assert found["gradio"] == Version(space("zero-a10g", python)[1])
    ranges = {r.name: r.specifier for r in map(Requirement, project_requirements())}
    assert found["transformers"] in ranges["transformers"]


@pytest.mark.slow
def test_a_space_with_cpus_resolves(resolving: dict[str, Resolving]) -> None:
    assert "spaces" in resolving["cpus"].found()


@pytest.mark.slow
def test_the_ranges_of_the_package_resolve_with_the_oldest(
    resolving: dict[str, Resolving],
) -> None:
    assert resolving["oldest"].found()["torch"] == Version(OLDEST)
