"""Whatever happens to a run, the token it could use is nowhere in what it leaves behind."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from qa_lora import runs
from tests.forked import Child, qa_lora_command
from tests.loopback_hub import TOKEN, Hub

SETTINGS = (
    "--data", "{data}", "--max-steps", "2", "--batch-size", "4", "--score-rows", "4",
    "--max-new-tokens", "4",
)  # fmt: skip


def train(
    hub: Hub, folder: Path, model: str, data: Path, *more: str, token: str = TOKEN
) -> subprocess.CompletedProcess[str]:
    settings = [word.format(data=data) for word in SETTINGS]
    return qa_lora_command(
        "train", "--model", model, *settings, "--runs-dir", str(folder / "runs"), *more,
        cwd=folder, environment=hub.environment(folder / "hf", token),
    )  # fmt: skip


def left_behind(folder: Path, *said: str) -> list[str]:
    """Where the token stands: files of the folder by name, and what was printed."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    found = [str(path) for path in files if TOKEN.encode() in path.read_bytes()]
    return found + [text for text in said if TOKEN in text]


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_run_that_fails_in_the_hub(hub: Hub, tmp_path: Path, qa_csv: Path, status: int) -> None:
    # The worst that a server can do: it repeats the token in what it says.
    hub.fail("someone/base", status, times=99, message=f"Bearer {TOKEN} at u:{TOKEN}@hub is bad")
    done = train(hub, tmp_path, "someone/base", qa_csv)
    assert done.returncode == 2 and done.stderr
    (run,) = runs.list_runs(tmp_path / "runs")
    assert run.status() == "failed"
    assert left_behind(tmp_path, done.stdout, done.stderr) == []


def test_a_run_that_succeeds_and_is_published(
    hub: Hub, tmp_path: Path, qa_csv: Path, tiny_model: Path
) -> None:
    done = train(hub, tmp_path, str(tiny_model), qa_csv, "--backup", "someone/backups")
    assert done.returncode == 0, done.stderr
    (run,) = runs.list_runs(tmp_path / "runs")
    published = qa_lora_command(
        "publish", run.id, "--repo-id", "someone/x", "--runs-dir", str(tmp_path / "runs"),
        cwd=tmp_path, environment=hub.environment(tmp_path / "hf", TOKEN),
    )  # fmt: skip
    assert published.returncode == 0, published.stderr
    said = (done.stdout, done.stderr, published.stdout, published.stderr)
    assert left_behind(tmp_path, *said) == []
    for repo in hub.repos.values():
        assert not any(TOKEN.encode() in data for data in repo.files.values())
    assert hub.repo("model", "someone/backups").private


@pytest.mark.parametrize("kind", [RuntimeError, OSError])  # the Hub's errors are the latter
def test_a_worker_that_crashes_with_a_token_in_its_error(
    hub: Hub, tmp_path: Path, qa_csv: Path, tiny_model: Path, kind: type[Exception]
) -> None:
    log = tmp_path / "worker.log"
    with log.open("wb") as file:
        child = Child(
            _crash, str(tmp_path), str(tiny_model), str(qa_csv), kind, output=file.fileno(),
            environment=hub.environment(tmp_path / "hf", TOKEN),
        )  # fmt: skip
        assert child.wait() == 1
    said = log.read_text()
    assert "hf_…" in said and kind.__name__ in said
    (run,) = runs.list_runs(tmp_path / "runs")
    assert run.status() == "failed" and "hf_…" in run.events_path.read_text()
    assert left_behind(tmp_path) == []


def _crash(folder: str, model: str, data: str, kind: type[Exception]) -> int:
    """A worker in which a library fails and quotes what it was sent."""
    from qa_lora import training, worker
    from qa_lora.config import TrainConfig

    def fail(*_: object) -> None:
        print(f"GET with {TOKEN}")
        raise kind(f"400 for https://hub/x?token={TOKEN}")

    training.begin = fail  # type: ignore[assignment]
    run = runs.create(TrainConfig.build(model=model, data=data), Path(folder) / "runs")
    return worker.main([str(run.path)])
