"""What a Space installs can be installed: resolved against the package index, nothing downloaded."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
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


def resolve(lines: list[str], python: str, folder: Path) -> dict[str, Version]:
    """The releases that fit together for a Python on Linux; the test fails if none do."""
    source = folder / "requirements.in"
    source.write_text("\n".join(lines) + "\n")
    done = subprocess.run(
        [
            sys.executable, "-m", "uv", "pip", "compile", str(source), "--quiet", "--no-header",
            "--no-annotate", "--python-version", python, "--python-platform", "x86_64-manylinux_2_28",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    if done.returncode and AWAY.search(done.stderr) and "No solution" not in done.stderr:
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr
    found = (line.split("==") for line in done.stdout.splitlines() if "==" in line)
    return {name.split("[")[0]: Version(rest.split(";")[0].strip()) for name, rest in found}


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


@pytest.mark.slow
@pytest.mark.parametrize("torch", [f"{ZERO_GPU_TORCH[0]}.0", ZERO_GPU_TORCH_PIN])
@pytest.mark.parametrize("python", ZERO_GPU_PYTHON)
def test_zero_gpu_resolves(python: str, torch: str, tmp_path: Path) -> None:
    lines, sdk_version = space("zero-a10g", python)
    lines = [line for line in lines if not line.startswith("torch==")]
    beside = [line.format(sdk_version=sdk_version) for line in BESIDE]
    found = resolve([*lines, f"torch=={torch}", *beside], python, tmp_path)
    assert found["torch"] == Version(torch)
    assert found["gradio"] == Version(sdk_version)
    assert found["transformers"] in _ranges()["transformers"]


@pytest.mark.slow
def test_a_space_with_cpus_resolves(tmp_path: Path) -> None:
    lines, sdk_version = space("cpu-basic", "3.12")
    beside = [line.format(sdk_version=sdk_version) for line in BESIDE]
    assert "spaces" in resolve([*lines, *beside], "3.12", tmp_path)


@pytest.mark.slow
def test_the_ranges_of_the_package_resolve_with_the_oldest(tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    oldest = Version(f"{ZERO_GPU_TORCH[0]}.0")
    found = resolve([*project["dependencies"], f"torch=={oldest}"], ZERO_GPU_PYTHON[0], tmp_path)
    assert found["torch"] == oldest


def _ranges() -> dict[str, object]:
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return {r.name: r.specifier for r in map(Requirement, project["dependencies"])}
