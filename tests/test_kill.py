"""Whatever kills a training, and wherever: resumed, it ends as one that nobody touched."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.kill import adapter_bytes, kill, story, wait_for_end
from qa_lora import event_log, files, processes, runs
from qa_lora.cli import main
from qa_lora.config import TrainConfig
from qa_lora.errors import QALoRAError
from qa_lora.events import Checkpointed, Event, Failed, Recovered, Step
from qa_lora.recovery import read_checkpoint_state
from qa_lora.runs import Run
from qa_lora.worker import execute
from tests import forked


@pytest.fixture(scope="module")
def config(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    data = tmp_path_factory.mktemp("kill") / "colours.csv"
    rows = [
        f"What colour is thing {i}?,{' '.join(['red', 'blue'][: 1 + i % 2])}" for i in range(40)
    ]
    data.write_text("\n".join(["question,answer", *rows]))
    return TrainConfig.build(
        model=str(tiny_model),
        data=str(data),
        max_steps=24,
        learning_rate=5e-3,
        evaluate_every=3,
        checkpoint_every=4,
        checkpoint_seconds=None,
        max_new_tokens=4,
        probe_rows=1,
        score_rows=0,
        precision="fp32",
    )


@pytest.fixture(scope="module")
def whole(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that nobody touched."""
    run = runs.create(config, tmp_path_factory.mktemp("whole"))
    list(execute(run))
    return run


def same(run: Run, other: Run) -> bool:
    return adapter_bytes(run) == adapter_bytes(other) and story(run) == story(other)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["step", "checkpoint", "adapter", "event line"])
def test_killed_and_resumed_is_the_same_as_never_touched(
    config: TrainConfig,
    whole: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    if place != "step":  # one has new interpreters
        monkeypatch.setattr(processes, "spawn", forked.spawn)
    run = runs.start(config, tmp_path / "runs")
    kill(run, place, random.Random(place), 10.0)
    while run.can_resume():
        runs.resume(run)
        wait_for_end(run)
    assert run.status() == "finished", (run.path / "worker.log").read_text()
    assert same(run, whole)


def die(run: Run, kind: str, count: int) -> None:
    """Train until a kind of moment comes for the count-th time, and be killed in it."""
    left = [count]

    def dies(function: Callable[..., Any], when: Callable[..., bool]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            if when(*args, **named):
                left[0] -= 1
                if left[0] == 0:
                    if kind == "torn line":
                        with run.events_path.open("ab") as file:
                            file.write(b'{"type": "step", "st')
                    os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **named)

        return call

    if kind == "rename":
        Path.rename = dies(Path.rename, lambda path, to: "checkpoint" in to.name)
    elif kind == "flush":
        files.sync = dies(files.sync, lambda path: ".checkpoint.new" in str(path))
    elif kind == "adapter":
        Path.rename = dies(Path.rename, lambda path, to: "adapter" in to.name)
    else:
        event_log.append = dies(
            event_log.append,
            lambda path, event: event.type == kind.split()[-1] or kind == "torn line",
        )
    list(execute(run, resume=run.has_checkpoint()))


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("flush", 1), ("flush", 7), ("rename", 1), ("rename", 2), ("rename", 4), ("rename", 6),
        ("adapter", 2), ("event checkpointed", 2), ("event evaluated", 3), ("torn line", 17),
        ("event finished", 1),
    ],
)  # fmt: skip
def test_a_kill_at_each_place_of_saving(
    config: TrainConfig, whole: Run, tmp_path: Path, kind: str, count: int
) -> None:
    run = runs.create(config, tmp_path / "runs")
    assert forked.exit_code(die, run, kind, count) == -signal.SIGKILL
    assert run.status() == "interrupted" and run.can_resume()
    list(execute(run, resume=True))
    assert same(run, whole)


def test_a_stop_and_a_resume_are_the_same_as_never_touched(
    config: TrainConfig, whole: Run, tmp_path: Path
) -> None:
    run = runs.create(config, tmp_path / "runs")
    for event in execute(run):
        if isinstance(event, Step) and event.step == 10:
            (run.path / "stop-requested").touch()
    assert run.status() == "stopped"
    list(execute(run, resume=True))
    assert adapter_bytes(run) == adapter_bytes(whole)
    # The stop was one checkpoint more.
    extra = {"type": "checkpointed", "step": 10}
    assert [event for event in story(run) if event != extra] == story(whole)


def test_checkpoints_by_time_change_nothing(
    config: TrainConfig, whole: Run, tmp_path: Path
) -> None:
    settings = {**config.model_dump(), "checkpoint_every": 1000, "checkpoint_seconds": 1e-9}
    run = runs.create(TrainConfig.build(**settings), tmp_path / "runs")
    events = list(execute(run))
    assert len([e for e in events if isinstance(e, Checkpointed)]) > 1
    weights = "adapter_model.safetensors"  # the card beside it names the settings
    assert adapter_bytes(run)[weights] == adapter_bytes(whole)[weights]
    told = [[e for e in story(r) if e["type"] != "checkpointed"] for r in (run, whole)]
    assert told[0] == told[1]


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(
    config: TrainConfig, whole: Run, tmp_path: Path
) -> None:
    run = runs.create(config, tmp_path / "runs")
    for event in execute(run):
        if isinstance(event, Checkpointed) and event.step == 12:
            break
    path = run.checkpoint / "optimizer.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    first, *_ = execute(run, resume=True)
    assert isinstance(first, Recovered) and first.step == 8 and "optimizer.pt" in first.reason
    assert adapter_bytes(run) == adapter_bytes(whole)
    assert [event for event in story(run) if event["type"] != "recovered"] == story(whole)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("Only root can mount a small disk.")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("leave", [40_000, 0])
def test_a_full_disk_is_said_and_the_last_checkpoint_is_intact(
    config: TrainConfig, whole: Run, small_disk: Path, leave: int
) -> None:
    run = runs.create(config, small_disk / "runs")
    said = small_disk.parent / "said"
    assert forked.exit_code(fill, run, small_disk / "ballast", leave, said) == 1
    assert "disk is full" in said.read_text() or "No space left" in said.read_text()
    last = run.events()[-1]
    if leave:
        assert isinstance(last, Failed) and "could not be saved: the disk is full" in last.error
        assert run.status() == "failed"
    assert read_checkpoint_state(run.checkpoint)["step"] == 8
    (small_disk / "ballast").unlink()
    list(execute(run, resume=True))
    assert same(run, whole)


def fill(run: Run, ballast: Path, leave: int, said: Path) -> None:
    """Train, and fill the disk but for so many bytes after the checkpoint of step 8."""
    try:
        for event in execute(run):
            if isinstance(event, Checkpointed) and event.step == 8:
                stat = os.statvfs(run.path)
                ballast.write_bytes(b"x" * max(0, stat.f_bavail * stat.f_frsize - leave))
    except QALoRAError as error:
        said.write_text(str(error))
        sys.exit(1)


def test_signals_are_heard_while_it_loads(config: TrainConfig, whole: Run, tmp_path: Path) -> None:
    run = runs.create(config, tmp_path / "runs")
    (run.path / "stop-requested").touch()
    # As runs.start does, so that the mark counts as asked for since.
    processes.note(run.path, os.getpid())
    list(execute(run))
    assert run.status() == "stopped" and not run.has_adapter()
    list(execute(run, resume=True))
    assert adapter_bytes(run) == adapter_bytes(whole)
    first = {"type": "checkpointed", "step": 0}
    assert [event for event in story(run) if event != first] == story(whole)


def last_event(run: Run, kind: type[Event]) -> bool:
    return isinstance(event_log.last_word(run.events_path), kind)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_command_saves_and_exits_well(
    config: TrainConfig, tmp_path: Path, number: signal.Signals
) -> None:
    settings = tmp_path / "f.yaml"
    settings.write_text(config.to_yaml())
    arguments = ["train", "--config", str(settings), "--max-steps", "100000", "--json"]
    arguments += ["--runs-dir", str(tmp_path / "r")]
    child = forked.Child(main, arguments)
    while not (found := runs.list_runs(tmp_path / "r")) or not last_event(found[0], Step):
        assert child.alive()
        time.sleep(0.02)
    run = found[0]
    child.signal(number)
    assert child.wait() == 0 and '"reason": "stopped"' in child.out
    assert run.status() == "stopped" and run.can_resume() and run.has_adapter()


def test_a_reader_that_leaves_does_not_end_the_training(
    config: TrainConfig, tmp_path: Path
) -> None:
    settings = tmp_path / "f.yaml"
    settings.write_text(config.to_yaml())
    arguments = ["train", "--config", str(settings), "--runs-dir", str(tmp_path / "r")]
    reading, writing = os.pipe()
    child = forked.Child(main, arguments, output=writing)
    os.close(writing)
    os.close(reading)
    child.wait()
    (run,) = runs.list_runs(tmp_path / "r")
    assert run.status() == "finished"
