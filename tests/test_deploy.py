"""``qa-lora deploy`` against a Hub on this machine."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from qa_lora.errors import ConfigError
from qa_lora.spaces.config import SpaceConfig
from qa_lora.spaces.content import MANIFEST, find_checkout, read_content
from qa_lora.spaces.refusals import DeployError
from qa_lora.spaces.requirements import ZERO_GPU_TORCH_PIN, space_requirements
from qa_lora.spaces.waiting import wait_until_running
from tests import forked
from tests.loopback_hub import READ_ONLY_TOKEN, TOKEN, USER, Hub

ROOT = Path(__file__).resolve().parent.parent
SPACE = f"{USER}/qa"

Deploy = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that deploys quickly: the project's own files, with a package of three."""
    root = tmp_path / "checkout"
    (root / "qa_lora" / "ui").mkdir(parents=True)
    for name in ("app.py", "requirements.txt", "LICENSE", "spaces_config.yaml"):
        shutil.copy(ROOT / name, root / name)
    (root / "qa_lora" / "__init__.py").write_text('"""The package."""\n')
    (root / "qa_lora" / "weights.safetensors").write_bytes(b"\0" * 100)
    (root / "qa_lora" / "ui" / "style.css").write_text("body {}\n")
    (root / "qa_lora" / "__pycache__").mkdir()
    (root / "qa_lora" / "__pycache__" / "x.pyc").write_bytes(b"x")
    (root / "tests").mkdir()
    (root / "tests" / "test_x.py").write_text("")
    return root


@pytest.fixture
def deploy(hub: Hub, checkout: Path, tmp_path: Path) -> Deploy:
    def run(
        *options: str, token: str = TOKEN, space: str = SPACE, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        environment = {**hub.environment(tmp_path / "home", token), **variables}
        return forked.qa_lora_command(
            "deploy", "--space-id", space, *options, cwd=checkout, environment=environment
        )

    return run


def settings(checkout: Path, **values: Any) -> None:
    path = checkout / "spaces_config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **values}))


def test_a_space_is_made_with_all_it_needs(hub: Hub, deploy: Deploy) -> None:
    done = deploy("--json", SPACE_HF_TOKEN="hf_of_the_space")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    repo = hub.repo("space", SPACE)

    assert repo.private and repo.sdk == "gradio" and repo.hardware == "cpu-basic"
    assert repo.variables["QA_LORA_RUNS_DIR"] == "/data/runs"
    assert repo.secrets == {"HF_TOKEN": "hf_of_the_space"}
    assert "hf_of_the_space" not in done.stdout + done.stderr
    assert [v["source"] for v in repo.volumes] == [f"{USER}/qa-lora-runs"]
    assert hub.buckets == {f"{USER}/qa-lora-runs": "private"}
    assert set(repo.files) == {
        ".gitattributes",
        MANIFEST,
        "LICENSE",
        "README.md",
        "app.py",
        "requirements.txt",
        "qa_lora/__init__.py",
        "qa_lora/ui/style.css",
        "qa_lora/weights.safetensors",
    }
    _, card, text = repo.files["README.md"].decode().split("---\n", 2)
    assert yaml.safe_load(card)["python_version"] == "3.12"
    assert "](" not in text, "a link or a picture that the Space does not have"
    assert result["stage"] == "RUNNING" and result["address"] == f"{hub.address}/spaces/{SPACE}"
    assert result["commit"] == repo.sha


def test_the_address_is_the_last_line(deploy: Deploy, hub: Hub) -> None:
    done = deploy()
    assert done.stdout.strip().splitlines()[-1] == f"{hub.address}/spaces/{SPACE}"
    assert "secret     HF_TOKEN: not set" in done.stdout
    assert TOKEN not in done.stdout + done.stderr


def test_the_token_that_deploys_is_no_secret_of_the_space(hub: Hub, deploy: Deploy) -> None:
    assert deploy("--no-wait").returncode == 0
    assert hub.repo("space", SPACE).secrets == {}


def test_a_dry_run_shows_it_all_and_does_nothing(hub: Hub, deploy: Deploy) -> None:
    done = deploy("--dry-run", SPACE_HF_TOKEN="hf_of_the_space")
    assert done.returncode == 0, done.stderr
    for words in (
        f"Create the Space {SPACE} (private, cpu-basic, Python 3.12)",
        f"bucket     {USER}/qa-lora-runs",
        "secret     HF_TOKEN: from SPACE_HF_TOKEN in your environment",
        "variable   QA_LORA_RUNS_DIR: /data/runs",
        "qa_lora/weights.safetensors",
        "Nothing was done",
    ):
        assert words in done.stdout
    assert "hf_of_the_space" not in done.stdout
    assert not hub.repos and not hub.buckets
    assert not [seen for seen in hub.seen if not seen.startswith(("GET", "HEAD"))]

    shown = json.loads(deploy("--dry-run", "--json").stdout)
    assert shown["dry_run"] and not shown["exists"]
    assert {file["state"] for file in shown["files"]} == {"new"}


def test_a_dry_run_needs_no_hub_and_all_else_does(deploy: Deploy) -> None:
    shown = deploy("--dry-run", HF_HUB_OFFLINE="1")
    assert shown.returncode == 0 and "What is there now is not known" in shown.stdout
    assert "variable   QA_LORA_RUNS_DIR: /data/runs" in shown.stdout
    done = deploy(HF_HUB_OFFLINE="1")
    assert done.returncode == 2 and "HF_HUB_OFFLINE is set" in done.stderr


def test_an_update_changes_what_differs_and_no_more(
    hub: Hub, deploy: Deploy, checkout: Path
) -> None:
    assert deploy().returncode == 0
    repo = hub.repo("space", SPACE)
    repo.files["notes.txt"] = b"by hand"  # not by deploying: it stays
    repo.variables["MINE"] = "1"
    (checkout / "qa_lora" / "ui" / "style.css").unlink()
    (checkout / "qa_lora" / "new.py").write_text("")
    settings(checkout, hardware="t4-small", sleep_time=900, variables={"QA_LORA_RUNS_DIR": "/data"})

    shown = json.loads(deploy("--dry-run", "--json").stdout)
    states = {file["path"]: file["state"] for file in shown["files"]}
    assert states["qa_lora/ui/style.css"] == "deleted" and states["qa_lora/new.py"] == "new"
    assert states["app.py"] == states["qa_lora/weights.safetensors"] == "same"
    assert states["requirements.txt"] == "changed"
    assert {(c["what"], c["name"]) for c in shown["changes"]} == {
        ("hardware", "hardware"), ("sleep_time", "sleep_time"), ("variable", "QA_LORA_RUNS_DIR"),
        # No longer in the file; what was set by hand stays.
        ("variable", "HF_HOME"), ("variable", "GRADIO_SERVER_NAME"),
        ("variable", "GRADIO_ANALYTICS_ENABLED"),
    }  # fmt: skip

    done = deploy()
    assert done.returncode == 0, done.stderr
    assert "cpu-basic -> t4-small" in done.stdout
    assert (repo.hardware, repo.sleep_time) == ("t4-small", 900)
    assert repo.variables == {"QA_LORA_RUNS_DIR": "/data", "MINE": "1"}
    assert "notes.txt" in repo.files and "qa_lora/new.py" in repo.files
    assert "qa_lora/ui/style.css" not in repo.files

    commits = len(repo.commits)
    again = deploy()
    assert again.returncode == 0 and "of this checkout already" in again.stdout
    assert len(repo.commits) == commits


def test_a_strange_space_is_not_touched(hub: Hub, deploy: Deploy) -> None:
    repo = hub.add("space", SPACE, {"app.py": b"mine", "other.py": b"mine"})
    done = deploy()
    assert done.returncode == 2 and "not deployed by QA LoRA" in done.stderr
    assert repo.files == {"app.py": b"mine", "other.py": b"mine"}

    assert deploy("--update").returncode == 0
    assert repo.files["other.py"] == b"mine" and repo.files["app.py"] != b"mine"
    assert not repo.private, "its visibility is its owner's"


def test_without_volumes_nothing_points_there(hub: Hub, deploy: Deploy) -> None:
    done = deploy("--no-volumes", "--public", "--no-wait")
    repo = hub.repo("space", SPACE)
    assert not repo.private and repo.volumes == [] and not hub.buckets
    assert set(repo.variables) == {"GRADIO_ANALYTICS_ENABLED", "GRADIO_SERVER_NAME"}
    assert "runs are lost when the Space restarts" in done.stdout


def test_what_deploying_had_set_goes_with_what_it_was_for(hub: Hub, deploy: Deploy) -> None:
    assert deploy("--no-wait").returncode == 0
    repo = hub.repo("space", SPACE)
    repo.variables["MINE"] = "/data/mine"  # by hand
    done = deploy("--no-volumes", "--no-wait")
    assert done.returncode == 0, done.stderr
    assert "QA_LORA_RUNS_DIR: /data/runs -> none" in done.stdout
    assert set(repo.variables) == {"GRADIO_ANALYTICS_ENABLED", "GRADIO_SERVER_NAME", "MINE"}
    assert repo.volumes == []
    assert "-> none" not in deploy("--no-volumes", "--dry-run").stdout


def test_a_volume_that_shall_be_read_only_is_mounted_anew(
    hub: Hub, deploy: Deploy, checkout: Path
) -> None:
    assert deploy("--no-wait").returncode == 0
    bucket = {"type": "bucket", "source": "qa-lora-runs", "mount_path": "/data"}
    settings(checkout, volumes=[{**bucket, "read_only": True}])
    done = deploy("--no-wait")
    assert done.returncode == 0 and "at /data (read-only)" in done.stdout
    assert "volumes" not in deploy("--dry-run").stdout


def test_another_upload_at_the_same_time_is_not_overwritten(
    hub: Hub, deploy: Deploy, checkout: Path
) -> None:
    assert deploy("--no-wait").returncode == 0
    (checkout / "qa_lora" / "new.py").write_text("")
    hub.fail("commit/main", 412)
    done = deploy("--no-wait")
    assert done.returncode == 2 and "something else is changing it" in done.stderr


@pytest.mark.parametrize("stage", ["BUILD_ERROR", "NO_APP_FILE", "PAUSED"])
def test_what_a_space_was_before_is_not_what_became_of_the_upload(
    hub: Hub, stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import HfApi

    hub.enter(monkeypatch, tmp_path / "home")
    repo = hub.add("space", SPACE, {})
    repo.runtime_stage = stage
    told: list[str] = []
    api = HfApi(hub.address, token=TOKEN)
    for before in (None, "0" * 40):
        repo.upcoming, repo.running = [stage, stage, "BUILDING", "RUNNING"], None
        said = wait_until_running(
            api, SPACE, commit=repo.sha, before=before, poll_seconds=0.0, tell=told.append
        )
        assert said == "RUNNING"
    repo.upcoming, repo.running = [stage], None  # it stays
    with pytest.raises(DeployError):
        wait_until_running(api, SPACE, commit=repo.sha, before=None, poll_seconds=0.0)


@pytest.mark.parametrize(
    ("stages", "logs", "words"),
    [
        (["BUILDING", "BUILDING", "BUILD_ERROR"], "build", "could not be built"),
        (["BUILDING", "RUNNING_APP_STARTING", "RUNTIME_ERROR"], "run", "its app ended with"),
        (["BUILDING", "BUILDING", "CONFIG_ERROR"], "run", "mistake in its configuration"),
    ],
)
def test_a_space_that_does_not_come_up_says_why(
    hub: Hub,
    deploy: Deploy,
    checkout: Path,
    stages: list[str],
    logs: str,
    words: str,
) -> None:
    assert deploy().returncode == 0
    repo = hub.repo("space", SPACE)
    repo.build = stages
    repo.logs = {logs: [f"line {i}\n" for i in range(20)] + ["No module named hf_" + "x" * 34]}
    (checkout / "qa_lora" / "ui" / "style.css").write_text("body { }\n")
    done = deploy()
    assert done.returncode == 2
    assert words in done.stderr and "line 19" in done.stderr and "line 1\n" not in done.stderr
    assert "Traceback" not in done.stderr and "x" * 34 not in done.stderr


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("repos/create", 401, "does not know this login"),
        ("repos/create", 403, "does not allow it"),
        ("repos/create", 402, "paid plan"),
        ("repos/create", 409, "something else is changing it"),
        ("repos/create", 429, "in 7 seconds"),
        ("repos/create", 500, "an error of its own"),
        ("commit/main", 500, "cannot be uploaded"),
        ("api/buckets", 403, "--no-volumes"),
        ("whoami", 401, "cannot be looked up"),
    ],
)
def test_refusals_are_one_sentence(
    hub: Hub, deploy: Deploy, path: str, status: int, words: str
) -> None:
    hub.fail(path, status, times=20, headers={"Retry-After": "7"})
    done = deploy("--no-wait")
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_token_that_may_only_read_is_told(deploy: Deploy, hub: Hub) -> None:
    done = deploy(token=READ_ONLY_TOKEN)
    assert done.returncode == 2 and "does not allow it to this login" in done.stderr
    done = deploy(token="")
    assert done.returncode == 2 and "Log in (hf auth login)" in done.stderr
    assert not hub.repos


def test_a_hub_that_is_away_is_told(deploy: Deploy) -> None:
    for variables, words in (
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "cannot be reached"),
    ):
        done = deploy(**variables)
        assert done.returncode == 2 and words in done.stderr
        assert "Traceback" not in done.stderr


def test_a_refused_upload_goes_on_the_next_time(hub: Hub, deploy: Deploy) -> None:
    hub.fail("commit/main", 403)
    assert deploy().returncode == 2
    assert "app.py" not in hub.files("space", SPACE)
    assert deploy().returncode == 0
    assert "app.py" in hub.files("space", SPACE)


def test_a_secret_in_a_file_is_not_uploaded(hub: Hub, deploy: Deploy, checkout: Path) -> None:
    (checkout / "qa_lora" / "oops.py").write_text(f'TOKEN = "hf_{"a" * 34}"\n')
    done = deploy()
    assert done.returncode == 2
    assert "qa_lora/oops.py, line 1" in done.stderr and "a" * 34 not in done.stderr
    assert not hub.seen


def test_without_a_checkout_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="from a checkout of the project"):
        find_checkout_of_a_wheel(tmp_path)


def find_checkout_of_a_wheel(folder: Path) -> Path:
    import qa_lora

    where = qa_lora.__file__
    try:
        qa_lora.__file__ = str(folder / "qa_lora" / "__init__.py")
        return find_checkout(folder)
    finally:
        qa_lora.__file__ = where


@pytest.mark.parametrize("name", ["qa", "a/b/c", "/x", "x/"])
def test_the_id_needs_an_owner(deploy: Deploy, name: str) -> None:
    done = deploy(space=name)
    assert done.returncode == 2 and "OWNER/NAME" in done.stderr


def test_of_this_checkout_goes_what_git_tracks_and_no_more() -> None:
    config = SpaceConfig.from_yaml(ROOT / "spaces_config.yaml")
    content = read_content(ROOT, config)
    roots = {path.split("/")[0] for path in content.paths()}
    assert roots == {MANIFEST, "LICENSE", "README.md", "app.py", "requirements.txt", "qa_lora"}
    assert "qa_lora/bundled/pocket/model.safetensors" in content.paths()
    assert not [path for path in content.paths() if "__pycache__" in path]
    assert content.size < 40_000_000


@pytest.mark.parametrize(
    ("hardware", "there", "absent"),
    [
        ("cpu-basic", ["--extra-index-url", "torch==2.13.0"], ["spaces"]),
        ("t4-small", ["torch==2.13.0"], ["--extra-index-url", "spaces"]),
        ("zero-a10g", [f"torch=={ZERO_GPU_TORCH_PIN}", "spaces"], ["--extra-index-url"]),
    ],
)
def test_requirements_fit_the_hardware(hardware: str, there: list[str], absent: list[str]) -> None:
    config = SpaceConfig.from_yaml(ROOT / "spaces_config.yaml", hardware=hardware)
    text = space_requirements((ROOT / "requirements.txt").read_text(), config)
    lines = [line.split("  #")[0] for line in text.splitlines() if not line.startswith("#")]
    for start in there:
        assert [line for line in lines if line.startswith(start)], text
    for start in absent:
        assert not [line for line in lines if line.startswith(start)], text
    assert f"gradio[oauth]=={config.sdk_version}" in lines
    assert not [line for line in lines if ";" in line], "markers are decided"


def test_a_space_with_another_gradio_than_the_pin_is_refused() -> None:
    config = SpaceConfig.from_yaml(ROOT / "spaces_config.yaml", sdk_version="6.20.0")
    with pytest.raises(ConfigError, match=r"gradio 6.20.0, but requirements.txt has gradio==6"):
        space_requirements((ROOT / "requirements.txt").read_text(), config)
