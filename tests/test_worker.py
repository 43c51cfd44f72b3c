"""The process of a run: what it leaves behind, however it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from qa_lora import runs, worker
from qa_lora.config import TrainConfig
from qa_lora.errors import QALoRAError, TrainingError
from qa_lora.events import Failed, Scored, Started, Step
from qa_lora.runs import Run
from qa_lora.worker import execute
from tests import forked


@pytest.fixture
def make_run(tiny_model: Path, qa_csv: Path, tmp_path: Path) -> Callable[..., Run]:
    def make(**settings: object) -> Run:
        defaults: dict[str, object] = {
            "model": str(tiny_model),
            "data": str(qa_csv),
            "max_steps": 6,
            "evaluate_every": 3,
            "checkpoint_every": 2,
            "max_new_tokens": 6,
            "probe_rows": 1,
            "score_rows": 0,
            "precision": "fp32",
        }
        return runs.create(TrainConfig.build(**{**defaults, **settings}), tmp_path / "runs")

    return make


def test_what_is_told_is_what_is_written(make_run: Callable[..., Run]) -> None:
    run = make_run(score_rows=5)
    events = list(execute(run))
    assert run.events() == events
    assert isinstance(events[0], Started) and events[0].run == run.id
    assert isinstance(events[-1], Scored) and events[-1].rows == 4
    assert run.evaluations() == [1]
    assert run.status() == "finished" and run.has_adapter()
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["rows"] == {"train": 32, "validation": 4, "test": 4}
    assert set(environment["packages"]) >= {"torch", "peft", "transformers"}


def test_an_error_is_the_last_word_of_the_log(make_run: Callable[..., Run]) -> None:
    run = make_run(target_modules="nothing")
    with pytest.raises(QALoRAError, match="matches no linear layer"):
        list(execute(run))
    last = run.events()[-1]
    assert isinstance(last, Failed) and "nothing" in last.error and "all-linear" in last.hint
    assert run.status() == "failed"


def test_an_unforeseen_error_is_explained_too(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    import qa_lora.training as module

    def broken(*_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(module, "optimizer_step", broken)
    run = make_run()
    with pytest.raises(TrainingError, match="ZeroDivisionError: division by zero"):
        list(execute(run))
    assert run.status() == "failed"


def test_out_of_memory_says_what_to_change(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    import qa_lora.training as module

    def broken(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: not enough memory: out of memory")

    monkeypatch.setattr(module, "optimizer_step", broken)
    with pytest.raises(TrainingError, match=r"not enough memory .* Halve batch_size"):
        list(execute(make_run()))


def test_two_processes_never_share_a_run(make_run: Callable[..., Run]) -> None:
    run = make_run()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    created = psutil.Process(child.pid).create_time()
    (run.path / "process.json").write_text(json.dumps({"pid": child.pid, "created": created}))
    try:
        with pytest.raises(QALoRAError, match="already being worked on"):
            list(execute(run))
    finally:
        child.kill()
        child.wait()
    assert run.events() == []


@pytest.mark.parametrize("how", ["stop file", "SIGTERM"])
def test_a_stop_saves_and_ends_well(make_run: Callable[..., Run], how: str) -> None:
    run = make_run(max_steps=100_000)
    process = forked.Child(worker.main, [str(run.path)])
    while not any(isinstance(event, Step) for event in run.events()):
        assert process.alive(), process.err
        time.sleep(0.02)
    if how == "SIGTERM":
        process.signal(signal.SIGTERM)
    else:
        runs.stop(run)
    assert process.wait() == 0, process.err
    assert run.status() == "stopped" and run.has_adapter() and run.can_resume()


def test_a_started_run_outlives_its_starter(make_run: Callable[..., Run], tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(make_run(max_steps=5).config().to_yaml())
    code = (
        "from qa_lora import runs\n"
        "from qa_lora.config import TrainConfig\n"
        f"print(runs.start(TrainConfig.from_yaml({str(settings)!r}), {str(tmp_path / 'r')!r}).path)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    run = Run(Path(done.stdout.strip()))
    pid = json.loads((run.path / "process.json").read_text())["pid"]
    psutil.Process(pid).wait(300)
    assert run.status() == "finished"


def test_a_run_does_not_go_on_with_data_that_changed(make_run: Callable[..., Run]) -> None:
    run = make_run(max_steps=6)
    for event in execute(run):
        if isinstance(event, Step) and event.step == 2:
            (run.path / "stop-requested").touch()
    data = Path(run.config().data)
    before = data.read_text()
    data.write_text(before + "".join(f"Which thing is number {i}?,thing {i}\n" for i in range(40)))
    with pytest.raises(QALoRAError, match=r"data of .* has changed since that run began"):
        list(execute(run, resume=True))
    assert run.can_resume()
    data.write_text(before)
    list(execute(run, resume=True))
    assert run.status() == "finished" and run.events()[-1].type in ("finished", "scored")
