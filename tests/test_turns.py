"""Runs of one folder take turns, whatever becomes of those before them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from qa_lora import processes, runs, turns
from qa_lora.cli import main
from qa_lora.config import TrainConfig
from qa_lora.errors import RunError
from qa_lora.runs import Run
from tests import forked


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder of runs, of whose processes none is left when the test is over."""
    yield tmp_path / "together"
    for run in runs.list_runs(tmp_path / "together"):
        kill(run)


@pytest.fixture
def forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes of runs are forks of this one."""
    monkeypatch.setattr(processes, "spawn", forked.spawn)


@pytest.fixture
def start(folder: Path, tiny_model: Path, qa_csv: Path) -> Callable[..., Run]:
    def begin(**settings: object) -> Run:
        defaults: dict[str, object] = {
            "model": str(tiny_model),
            "data": str(qa_csv),
            "max_steps": 3,
            "evaluate_every": 1000,
            "probe_rows": 0,
            "score_rows": 0,
        }
        return runs.start(TrainConfig.build(**{**defaults, **settings}), folder)

    return begin


def pid(run: Run) -> int:
    return int(json.loads((run.path / "process.json").read_text())["pid"])


def kill(run: Run) -> None:
    if run.alive():
        process = psutil.Process(pid(run))
        process.kill()
        until(lambda: not run.alive(), run)


def until(condition: Callable[[], bool], run: Run) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, (run.path / "worker.log").read_text()
        time.sleep(0.02)  # the runs need the cores more


@pytest.mark.usefixtures("forks")
def test_runs_train_one_after_the_other_in_the_order_of_their_start(
    start: Callable[..., Run],
) -> None:
    order = [start(max_steps=30), start(), start()]
    assert [runs.place(run) for run in order] == [None, 1, 2]
    assert [run.status() for run in order[1:]] == ["waiting", "waiting"]
    most_at_work = 0
    while any(run.alive() for run in order):
        most_at_work = max(most_at_work, len(turns.at_work(order[0].path.parent)))
        time.sleep(0.01)
    assert most_at_work == 1
    assert [run.status() for run in order] == ["finished"] * 3
    began = [run.events()[0].time for run in order]  # type: ignore[union-attr]
    assert began == sorted(began)


def test_starts_at_the_same_time_get_a_place_each(start: Callable[..., Run]) -> None:
    with ThreadPoolExecutor(4) as pool:
        begun = list(pool.map(lambda _: start(max_steps=100_000), range(4)))
    assert sorted(str(runs.place(run)) for run in begun) == ["1", "2", "3", "None"]


@pytest.mark.usefixtures("forks")
def test_a_crash_frees_the_turn_and_a_dead_waiting_one_holds_nobody(
    start: Callable[..., Run],
) -> None:
    first, dead, last = start(max_steps=100_000), start(), start()
    kill(dead)
    assert dead.status() == "interrupted" and dead.can_resume()
    assert runs.place(last) == 1
    kill(first)
    until(lambda: not last.alive(), last)
    assert last.status() == "finished"
    runs.resume(dead)  # it never began, so this begins it
    until(lambda: not dead.alive(), dead)
    assert dead.status() == "finished"


@pytest.mark.usefixtures("forks")
@pytest.mark.parametrize("how", ["stop", "SIGTERM"])
def test_a_waiting_run_is_cancelled_and_can_be_started_again(
    start: Callable[..., Run], how: str
) -> None:
    first, second = start(max_steps=100_000), start()
    if how == "stop":
        runs.stop(second)
    else:
        # Its process knows the signal once it has noted itself and waits.
        until(lambda: b"SigCgt" in status_with_handlers(second), second)
        psutil.Process(pid(second)).send_signal(signal.SIGTERM)
    until(lambda: not second.alive(), second)
    assert second.status() == "stopped" and second.can_resume()
    assert first.alive()
    runs.resume(second)
    assert second.status() == "waiting"
    runs.stop(first)
    until(lambda: not second.alive(), second)
    assert first.status() == "stopped" and second.status() == "finished"


def status_with_handlers(run: Run) -> bytes:
    """/proc's status of the run's process once it handles SIGTERM."""
    content = Path(f"/proc/{pid(run)}/status").read_bytes()
    caught = next(line for line in content.splitlines() if line.startswith(b"SigCgt"))
    return content if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1 else b""


@pytest.mark.usefixtures("forks")
def test_a_stopped_run_that_is_resumed_and_cancelled_is_as_it_was(
    start: Callable[..., Run],
) -> None:
    stopped = start(max_steps=100_000)
    until(lambda: stopped.status() == "running", stopped)
    runs.stop(stopped)
    until(lambda: not stopped.alive(), stopped)
    before = stopped.events()
    start(max_steps=100_000)
    runs.resume(stopped)
    assert stopped.status() == "waiting"
    runs.stop(stopped)
    until(lambda: not stopped.alive(), stopped)
    assert stopped.status() == "stopped" and stopped.events() == before


def test_waiting_loads_no_torch(start: Callable[..., Run]) -> None:
    start(max_steps=100_000)
    waiting = start()
    until(lambda: b"SigCgt" in status_with_handlers(waiting), waiting)
    maps = Path(f"/proc/{pid(waiting)}/maps").read_text()
    assert "libtorch" not in maps


def test_a_very_long_line_is_refused_and_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "MOST_WAITING", 1)
    for _ in range(2):
        run = runs.create(TrainConfig(), folder)
        turns.draw_ticket(run.path)
        processes.note(run.path, psutil.Process().pid)
    for path in folder.glob("*/process.json"):
        (path.parent / "waiting").write_text("1")
    with pytest.raises(RunError, match=r"1 runs wait already"):
        runs.start(TrainConfig(), folder)
    assert len(runs.list_runs(folder)) == 2
    for path in folder.glob("*/process.json"):
        path.unlink()


def test_a_half_written_ticket_does_not_wait_for_ever(folder: Path) -> None:
    run = runs.create(TrainConfig(), folder)
    processes.note(run.path, psutil.Process().pid)
    (run.path / "waiting").write_text("")
    assert turns.wait(run.path, cancelled=lambda: False)
    assert not turns.has_ticket(run.path)
    (run.path / "process.json").unlink()


@pytest.mark.usefixtures("forks")
def test_train_with_queue_waits_in_the_terminal(
    start: Callable[..., Run],
    folder: Path,
    tiny_model: Path,
    qa_csv: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = start(max_steps=100_000)
    child = forked.Child(
        main,
        [
            "train", "--queue", "--model", str(tiny_model), "--data", str(qa_csv),
            "--runs-dir", str(folder), "--max-steps", "2", "--probe-rows", "0",
            "--score-rows", "0",
        ],
        cwd=folder,
    )  # fmt: skip
    until(lambda: "\n" in child.out, first)
    assert "is 1st in line" in child.out.splitlines()[0]
    assert main(["runs", "--runs-dir", str(folder)]) == 0
    assert "waiting (1st)" in capsys.readouterr().out
    runs.stop(first)
    assert child.wait() == 0, child.err
    assert "Completed after 2 steps" in child.out


@pytest.mark.usefixtures("forks")
def test_ctrl_c_while_waiting_in_the_terminal_cancels(
    start: Callable[..., Run], folder: Path, tiny_model: Path, qa_csv: Path
) -> None:
    start(max_steps=100_000)
    command = [
        sys.executable, "-m", "qa_lora", "train", "--queue", "--json", "--model", str(tiny_model),
        "--data", str(qa_csv), "--runs-dir", str(folder), "--name", "mine",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        (waiting,) = wait_for_run(folder, "mine")
        until(lambda: b"SigCgt" in status_with_handlers(waiting), waiting)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        result = json.loads(process.stdout.read())
    assert process.returncode == 0
    assert result["run"] == waiting.id and result["reason"] == "stopped" and result["steps"] == 0
    assert waiting.status() == "stopped" and waiting.can_resume()


def wait_for_run(folder: Path, name: str) -> list[Run]:
    """The run of that name once it waits."""
    deadline = time.monotonic() + 120
    found: list[Run] = []
    while not found:
        assert time.monotonic() < deadline
        listed = [run for run in runs.list_runs(folder) if run.id.endswith(name)]
        found = [run for run in listed if run.status() == "waiting"]
        time.sleep(0.02)
    return found


@pytest.mark.parametrize(
    ("place", "said"), [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (22, "22nd")]
)
def test_places_in_words(place: int, said: str) -> None:
    assert turns.ordinal(place) == said
