"""Run folders: read by anyone at any time, started once, never mistaken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from qa_lora import event_log, runs
from qa_lora.checksums import write_checksums
from qa_lora.config import TrainConfig
from qa_lora.errors import RunError
from qa_lora.events import (
    Checkpointed,
    Evaluated,
    Event,
    Failed,
    Finished,
    Recovered,
    Started,
    Step,
)
from qa_lora.recovery import read_checkpoint_state, rewind
from qa_lora.runs import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return runs.create(TrainConfig(name="first try"), tmp_path)


def step(number: int) -> Step:
    return Step(
        step=number,
        epoch=0.1,
        loss=1.0,
        learning_rate=1e-3,
        grad_norm=1.0,
        tokens_per_second=10.0,
        elapsed_seconds=1.0,
        eta_seconds=1.0,
        peak_memory_bytes=1,
    )


def started(at: int = 0) -> Started:
    return Started(
        step=at,
        total_steps=10,
        trainable_parameters=1,
        all_parameters=2,
        train_rows=3,
        validation_rows=1,
        test_rows=1,
        test_fingerprint="x",
        device="CPU",
        precision="fp32",
        time=0.0,
    )


def finished(reason: str) -> Finished:
    return Finished(
        step=3,
        reason=reason,  # type: ignore[arg-type]
        train_loss=1.0,
        validation_loss=1.0,
        seconds=1.0,
        tokens_per_second=1.0,
    )


def write(run: Run, *events: Event) -> None:
    for event in events:
        event_log.append(run.events_path, event)


def pretend_alive(run: Run, pid: int | None = None, created: float | None = None) -> None:
    pid = pid or os.getpid()
    created = created or psutil.Process(pid).create_time()
    (run.path / "process.json").write_text(json.dumps({"pid": pid, "created": created}))


def with_checkpoint(run: Run, at: int, *, previous: bool = False) -> Path:
    folder = run.previous_checkpoint if previous else run.checkpoint
    folder.mkdir()
    (folder / "state.json").write_text(json.dumps({"format": 2, "step": at}))
    write_checksums(folder)
    return folder


def test_create_writes_the_settings_that_start_it_again(run: Run) -> None:
    assert run.config() == TrainConfig(name="first try")
    assert run.id.endswith("-first-try")


def test_a_run_from_before_near_duplicates_keeps_its_split(run: Run) -> None:
    path = run.path / "config.yaml"
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join(x for x in lines if not x.startswith("near_dup")), "utf-8")
    assert run.config().near_duplicates is None


@pytest.mark.parametrize("name", ["../../etc", "a/b", "…", "con:nul", " . ", "x" * 60])
def test_a_name_never_leaves_the_runs_folder(tmp_path: Path, name: str) -> None:
    run = runs.create(TrainConfig(name=name), tmp_path / "runs")
    assert run.path.parent == tmp_path / "runs"
    assert run.path.name.isascii() and "/" not in run.id and ".." not in run.id


def test_two_runs_of_one_second_are_two(tmp_path: Path) -> None:
    made = {runs.create(TrainConfig(name="same"), tmp_path).path for _ in range(5)}
    assert len(made) == 5
    assert {run.path for run in runs.list_runs(tmp_path)} == made


def test_a_local_data_file_is_found_from_any_folder(
    tmp_path: Path, qa_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(qa_csv.parent)
    run = runs.create(TrainConfig(data=qa_csv.name), tmp_path / "runs")
    assert run.config().data == str(qa_csv.resolve())


def test_unwritable_runs_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(RunError, match=r"runs folder .* --runs-dir"):
            runs.create(TrainConfig(), folder)


@pytest.mark.parametrize(
    ("events", "alive", "expected"),
    [
        ([], True, "starting"),
        ([], False, "interrupted"),
        ([started(), step(1)], True, "running"),
        ([started(), step(1)], False, "interrupted"),
        ([started(), step(1), Checkpointed(step=1)], False, "interrupted"),
        ([started(), finished("completed")], False, "finished"),
        ([started(), finished("completed")], True, "finished"),
        ([started(), finished("stopped")], False, "stopped"),
        ([started(), Failed(step=1, error="e", hint="h")], False, "failed"),
        ([started(), finished("stopped"), started(3), step(4)], True, "running"),
    ],
)
def test_status_follows_from_the_log_and_the_process(
    run: Run, events: list[Event], alive: bool, expected: str
) -> None:
    write(run, *events)
    if alive:
        pretend_alive(run)
    assert run.status() == expected


def test_status_is_found_behind_a_long_tail(run: Run) -> None:
    write(run, started(), step(1), *[Checkpointed(step=1)] * 4000)
    pretend_alive(run)
    assert run.status() == "running"


def test_a_reused_pid_is_not_the_training(run: Run) -> None:
    write(run, started(), step(1))
    pretend_alive(run, created=psutil.Process().create_time() - 3600)
    assert run.status() == "interrupted"


def test_a_dead_process_is_not_alive(run: Run) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    pretend_alive(run, pid=child.pid)
    assert run.alive()
    child.kill()
    child.wait()
    assert not run.alive()


@pytest.mark.parametrize("damage", ["{", "[]", '{"pid": "x"}', '{"pid": -5, "created": 0}', ""])
def test_a_damaged_process_file_means_dead(run: Run, damage: str) -> None:
    (run.path / "process.json").write_text(damage)
    assert not run.alive()


def test_resume_is_offered_only_where_there_is_something_to_resume(run: Run) -> None:
    write(run, started(), step(1))
    assert run.can_resume(), "what ended before its first checkpoint can begin anew"
    write(run, Failed(step=1, error="e", hint="h"))
    assert not run.can_resume(), "but what failed there would fail again"
    with_checkpoint(run, 1)
    assert run.can_resume()
    pretend_alive(run)
    assert not run.can_resume()
    (run.path / "process.json").unlink()
    write(run, finished("completed"))
    assert not run.can_resume()


def test_rewind_takes_the_log_back_to_the_checkpoint(run: Run) -> None:
    write(run, started(), step(1), step(2), Checkpointed(step=2), step(3), step(4))
    with run.events_path.open("ab") as file:
        file.write(b'{"type": "step", "step": 5, "lo')  # torn by a kill
    with_checkpoint(run, 2)
    assert rewind(run) is None
    assert run.events() == [started(), step(1), step(2), Checkpointed(step=2)]
    write(run, started(2), step(3))
    assert run.events()[-1] == step(3)


def test_rewind_of_a_stopped_run_takes_its_end_back(run: Run) -> None:
    write(run, started(), step(1), Checkpointed(step=1), finished("stopped"))
    with_checkpoint(run, 1)
    rewind(run)
    assert run.status() == "interrupted" and run.can_resume()


def test_a_checkpoint_that_the_log_does_not_know_yet_is_told(run: Run) -> None:
    write(run, started(), step(1), step(2), Evaluated(2, 1.0, 2.7))
    with_checkpoint(run, 2)  # and the kill came before its event
    rewind(run)
    assert run.events() == [
        started(), step(1), step(2), Evaluated(2, 1.0, 2.7), Checkpointed(step=2)
    ]  # fmt: skip


def test_without_a_checkpoint_the_story_begins_anew(run: Run) -> None:
    write(run, started(), step(1), finished("stopped"))
    assert rewind(run) is None and run.events() == []


def test_a_kill_between_two_renames_costs_nothing_that_was_safe(run: Run) -> None:
    write(run, started(), step(1), Checkpointed(step=1), step(2))
    with_checkpoint(run, 1, previous=True)
    assert run.can_resume()
    assert rewind(run) is None
    assert run.checkpoint.is_dir() and not run.previous_checkpoint.exists()
    assert run.events() == [started(), step(1), Checkpointed(step=1)]


STORY = (started(), step(1), Checkpointed(step=1), step(2), Checkpointed(step=2), step(3))


@pytest.mark.parametrize("damage", ["changed", "missing", "torn state", "no checksums"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(run: Run, damage: str) -> None:
    write(run, *STORY, finished("stopped"))
    with_checkpoint(run, 1, previous=True)
    latest = with_checkpoint(run, 2)
    (latest / "weights").write_text("ones")
    write_checksums(latest)
    if damage == "changed":
        (latest / "weights").write_text("twos")
    elif damage == "missing":
        (latest / "weights").unlink()
    elif damage == "torn state":
        (latest / "state.json").write_text('{"format": 2, "st')
    else:
        (latest / "SHA256SUMS").unlink()
    said = rewind(run)
    assert isinstance(said, Recovered) and said.step == 1
    assert f"checkpoint in {latest} is damaged: " in said.reason and said.reason.endswith(".")
    assert run.events() == [*STORY[:3], said]
    assert read_checkpoint_state(run.checkpoint)["step"] == 1
    assert rewind(run) is None, "the second look finds it whole"
    assert run.events() == [*STORY[:3], said], "and the log still says what happened"


def test_two_damaged_checkpoints_are_said_and_nothing_is_touched(run: Run) -> None:
    write(run, *STORY)
    for previous in (True, False):
        (with_checkpoint(run, 1, previous=previous) / "state.json").write_text("{")
    with pytest.raises(RunError, match=rf"checkpoint of the run {run.id} cannot be used"):
        rewind(run)
    assert run.events() == list(STORY)
    assert run.checkpoint.is_dir() and run.previous_checkpoint.is_dir()


def test_find_takes_ids_and_folders_and_names_the_newest(run: Run) -> None:
    folder = run.path.parent
    assert runs.find(run.id, folder).path == run.path
    assert runs.find(run.path, folder / "elsewhere").path == run.path
    with pytest.raises(RunError, match=rf"no run nothing in .*newest is {run.id}"):
        runs.find("nothing", folder)


def test_a_damaged_run_is_damaged_and_harms_no_list(run: Run) -> None:
    (run.path / "config.yaml").write_text("learning_rate: [")
    (other := runs.create(TrainConfig(name="other"), run.path.parent))
    assert {found.id for found in runs.list_runs(run.path.parent)} == {run.id, other.id}
    with pytest.raises(RunError, match=rf"run {run.id} is damaged.*line"):
        run.config()


def test_stop_of_a_run_that_does_not_run_is_said(run: Run) -> None:
    with pytest.raises(RunError, match="is not running: it is interrupted"):
        runs.stop(run)
    pretend_alive(run)
    runs.stop(run)
    assert run.stop_requested()
