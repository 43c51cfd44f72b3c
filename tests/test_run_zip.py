"""A run as a zip file: what is in it, and what never is."""

from __future__ import annotations

import os
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from qa_lora import event_log, trash
from qa_lora.errors import RunError
from qa_lora.labels import write_label
from qa_lora.run_zip import zip_run
from qa_lora.runs import Run
from tests.made_runs import made_run, pretend_alive, step, story, with_adapter


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = with_adapter(made_run(tmp_path / "runs", "one", *story()))
    write_label(made, title="Name")
    (made.adapter / "adapter_model.safetensors").write_bytes(b"w" * 1000)
    (made.path / "evaluations").mkdir()
    (made.path / "evaluations" / "1.json").write_text("{}")
    for name in ("checkpoint", "checkpoint.previous"):
        (made.path / name).mkdir()
        (made.path / name / "state.pt").write_bytes(b"s" * 100)
    for name in ("worker.log", "environment.json", "process.json", "waiting", "stop-requested"):
        (made.path / name).write_text("{}")
    return made


def names(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        return set(file.namelist())


KEPT = {
    "one/config.yaml", "one/events.jsonl", "one/environment.json", "one/label.json",
    "one/worker.log", "one/adapter/adapter_config.json", "one/adapter/adapter_model.safetensors",
    "one/evaluations/1.json",
}  # fmt: skip


def test_what_is_in_it_with_and_without_checkpoints(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out.zip"
    assert {f"one/{name}" for name in zip_run(run, out)} == names(out) == KEPT
    zip_run(run, out, checkpoints=True)
    assert names(out) == {
        *KEPT, "one/checkpoint/state.pt", "one/checkpoint.previous/state.pt"
    }  # fmt: skip
    with zipfile.ZipFile(out) as file:
        assert file.read("one/events.jsonl") == run.events_path.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "out.zip"}


def test_links_pipes_and_halves_are_left_out(run: Run, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("secret")
    (run.adapter / "link").symlink_to(secret / "key")
    (run.adapter / "folder").symlink_to(secret)
    (run.path / "worker.log").unlink()
    (run.path / "worker.log").symlink_to(secret / "key")
    os.mkfifo(run.adapter / "pipe")
    (run.adapter / ".model.12.new").write_text("half")
    zip_run(run, tmp_path / "out.zip")
    assert names(tmp_path / "out.zip") == KEPT - {"one/worker.log"}
    (tmp_path / "runs" / "linked").symlink_to(run.path)
    with pytest.raises(RunError, match="link"):
        zip_run(Run(tmp_path / "runs" / "linked"), tmp_path / "linked.zip")


def test_a_run_at_work_is_refused_and_a_failure_leaves_nothing(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(RunError, match="cannot be made"):
        zip_run(run, folder / "none" / "x.zip")
    pretend_alive(run)
    with pytest.raises(RunError, match="is being worked on"):
        zip_run(run, folder / "x.zip")
    assert not list(folder.iterdir())


@pytest.mark.parametrize("happens", ["deleted", "resumed", "goes on"])
def test_a_run_that_changes_meanwhile_is_no_zip(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, happens: str
) -> None:
    write = zipfile.ZipFile.write

    def interrupted(file: zipfile.ZipFile, source: Path, *args: str, **options: int) -> None:
        write(file, source, *args, **options)
        if source.name == "adapter_config.json":
            if happens == "deleted":
                trash.delete(run)
            elif happens == "resumed":
                pretend_alive(run)
            else:
                event_log.append(run.events_path, step(9))

    monkeypatch.setattr(zipfile.ZipFile, "write", interrupted)
    (tmp_path / "out.zip").write_text("an older one")
    with pytest.raises(RunError, match=r"changed, moved or deleted|cannot be made"):
        zip_run(run, tmp_path / "out.zip")
    assert (tmp_path / "out.zip").read_text() == "an older one"


def test_old_dates_and_large_files_are_no_matter(run: Run, tmp_path: Path) -> None:
    weights = run.adapter / "adapter_model.safetensors"
    os.truncate(weights, 200_000_000)
    os.utime(weights, (0, 0))
    tracemalloc.start()
    zip_run(run, tmp_path / "out.zip")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000
    with zipfile.ZipFile(tmp_path / "out.zip") as file:
        assert file.getinfo("one/adapter/adapter_model.safetensors").file_size == 200_000_000


def test_a_folder_with_nothing_to_take_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "bad" / "checkpoint").mkdir(parents=True)
    with pytest.raises(RunError, match="nothing to download"):
        zip_run(Run(tmp_path / "bad"), tmp_path / "bad.zip")
    assert not (tmp_path / "bad.zip").exists()
