"""The wheel: what is in it, and that it works where there is no checkout."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import qa_lora

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "qa_lora"


def checked(command: list[str], *, cwd: Path, timeout: float) -> str:
    """Run a command away from the checkout and return its stdout; fail with all that it said."""
    environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONHOME"}}
    result = subprocess.run(
        command,
        cwd=cwd,
        env={**environment, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what is committed or about to be."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("docs/", "tests/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    checked([*build, str(source)], cwd=folder, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_holds_the_package_its_model_and_its_data(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}

    kept = {".py", ".typed", ".safetensors", ".json", ".jsonl", ".md", ".css", ".js"}
    expected = {
        path.relative_to(ROOT).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix in kept
    }
    assert expected <= names
    assert {"qa_lora/py.typed", "qa_lora/bundled/facts.json"} <= names
    assert "qa_lora/bundled/pocket/model.safetensors" in names
    assert "qa_lora/bundled/atlas/atlas.jsonl" in names
    assert sizes["qa_lora/bundled/pocket/model.safetensors"] <= 25_000_000
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_wheel_holds_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        roots = {name.split("/")[0] for name in archive.namelist()}
    assert roots == {"qa_lora", f"qa_lora-{qa_lora.__version__}.dist-info"}


@pytest.mark.slow
def test_installed_wheel_trains_and_scores_away_from_the_checkout(
    wheel: Path, tmp_path: Path
) -> None:
    """A new environment with the wheel in it runs the demo.

    The libraries are those of this environment, put behind the new one's own folder by a .pth
    file: installing torch again would show nothing about the wheel. The editable install of this
    checkout is not among them, since .pth files of a folder added that way are not read.
    """
    environment = tmp_path / "environment"
    checked([sys.executable, "-m", "venv", str(environment)], cwd=tmp_path, timeout=120)
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / "python"
    install = [str(python), "-m", "pip", "install", "--no-deps", "--no-index", str(wheel)]
    checked(install, cwd=tmp_path, timeout=120)

    paths = checked(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        cwd=tmp_path,
        timeout=60,
    )
    own = Path(paths.strip())
    parents = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    (own / "libraries.pth").write_text("\n".join(parents) + "\n", "utf-8")

    where = "import qa_lora; print(qa_lora.__file__)"
    found = Path(checked([str(python), "-c", where], cwd=tmp_path, timeout=60).strip())
    assert found.is_relative_to(environment), found

    demo = [str(scripts / "qa-lora"), "demo", "--max-steps", "3", "--score-rows", "12", "--json"]
    output = checked([*demo, "--runs-dir", str(tmp_path / "runs")], cwd=tmp_path, timeout=400)
    result = json.loads(output.strip().splitlines()[-1])

    assert result["rows"] == 12
    assert 0 <= result["base"]["rougeL"] <= 1
    assert "fact_accuracy" in result["tuned"]
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "adapter" / "adapter_model.safetensors").is_file()


def test_every_pin_lies_in_its_range() -> None:
    """requirements.txt installs what pyproject.toml allows, and leaves nothing it needs unpinned."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    ranges = {_name(r): r.specifier for r in map(Requirement, project["dependencies"])}
    pins = [
        Requirement(line)
        for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    for pin in pins:
        (exact,) = pin.specifier
        assert exact.operator == "==", pin
        if _name(pin) in ranges:
            assert Version(exact.version) in ranges[_name(pin)], pin
    assert set(ranges) <= {_name(pin) for pin in pins}


def test_zero_gpu_releases_of_torch_are_allowed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (torch,) = (r for r in map(Requirement, project["dependencies"]) if r.name == "torch")
    assert all(Version(f"2.{minor}.0") in torch.specifier for minor in range(8, 12))


def _name(requirement: Requirement) -> str:
    return re.sub(r"[-_.]+", "-", requirement.name).lower()
