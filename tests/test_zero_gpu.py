"""ZeroGPU: trained in pieces, each in a process of its own, a run ends as one in a single piece."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks.kill import adapter_bytes, story
from qa_lora import runs, zero_gpu
from qa_lora.config import TrainConfig
from qa_lora.errors import ConfigError, TrainingError
from qa_lora.events import Checkpointed, Failed, Finished, Scored, Started
from qa_lora.runs import Run
from qa_lora.worker import execute
from tests import forked

ROOT = Path(__file__).resolve().parent.parent
CALL = 30


@pytest.fixture(scope="module")
def config(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    data = tmp_path_factory.mktemp("zero") / "colours.csv"
    rows = [f"What colour is thing {i}?,{['red', 'blue'][i % 2]}" for i in range(40)]
    data.write_text("\n".join(["question,answer", *rows]))
    return TrainConfig.build(
        model=str(tiny_model),
        data=str(data),
        max_steps=6,
        learning_rate=5e-3,
        evaluate_every=2,
        checkpoint_every=100,
        checkpoint_seconds=None,
        lora_dropout=0.1,
        max_new_tokens=4,
        probe_rows=1,
        score_rows=4,
        precision="fp32",
    )


@pytest.fixture(scope="module")
def whole(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run in a single piece."""
    run = runs.create(config, tmp_path_factory.mktemp("whole"))
    list(execute(run))
    return run


def told(run: Run) -> list[dict[str, object]]:
    """The story without what tells of pieces: where one began, and what it left."""
    return [e for e in story(run) if e["type"] not in ("started", "checkpointed")]


def one_piece(folder: str) -> int:
    return {"goes on": 10, "ended": 0}[zero_gpu._train_piece(folder, 0.0)]


def test_pieces_in_processes_of_their_own_give_the_same_bytes(
    config: TrainConfig, whole: Run, tmp_path: Path
) -> None:
    run = runs.create(config, tmp_path)
    codes = [forked.exit_code(one_piece, str(run.path))]
    while codes[-1] == 10:
        assert not any(isinstance(event, Finished) for event in run.events())
        assert isinstance(run.events()[-1], Checkpointed)
        codes.append(forked.exit_code(one_piece, str(run.path)))

    assert codes == [10] * 5 + [0]  # a step each, for no time at all
    assert adapter_bytes(run) == adapter_bytes(whole)
    scored = {"scoring", "scored"}
    assert told(run) == [event for event in told(whole) if event["type"] not in scored]


def test_a_run_is_driven_to_its_end_and_scored(
    config: TrainConfig, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_gpu(piece: Callable[[str, float], str], folder: str, left: float, **_: int) -> str:
        return piece(folder, left if piece is zero_gpu._score_piece else 0.0)

    monkeypatch.setattr(zero_gpu, "on_gpu", on_gpu)
    run = runs.create(config, tmp_path)
    zero_gpu.drive(run, seconds=1000)

    assert run.status() == "finished" and not run.alive()
    assert adapter_bytes(run) == adapter_bytes(whole)
    events = run.events()
    assert len([event for event in events if isinstance(event, Started)]) == 6
    assert len([event for event in events if isinstance(event, Finished)]) == 1
    assert isinstance(events[-1], Scored) and run.evaluations() == [1]


def test_a_stop_between_pieces_ends_it_and_it_can_go_on(
    config: TrainConfig, whole: Run, tmp_path: Path
) -> None:
    run = runs.create(config, tmp_path)
    forked.exit_code(one_piece, str(run.path))
    (run.path / "stop-requested").touch()
    run.claim = lambda: None  # type: ignore[method-assign] # which would take the stop for an old one
    zero_gpu.drive(run, seconds=0)
    assert run.status() == "stopped" and run.has_adapter() and run.can_resume()

    zero_gpu.drive(Run(run.path), seconds=CALL)
    assert Run(run.path).status() == "finished"
    assert adapter_bytes(run) == adapter_bytes(whole)


def test_a_training_that_fails_says_so_itself(config: TrainConfig, tmp_path: Path) -> None:
    broken = config.model_copy(update={"target_modules": "nothing"})
    run = runs.create(broken, tmp_path)
    zero_gpu.drive(run, seconds=CALL)
    last = run.events()[-1]
    assert isinstance(last, Failed) and "nothing" in last.error
    assert "nothing" in (run.path / "worker.log").read_text()
    assert run.status() == "failed" and not run.alive()


def test_a_piece_leaves_the_run_to_whoever_asked_for_it(
    config: TrainConfig, tmp_path: Path
) -> None:
    run = runs.create(config, tmp_path)
    run.claim()
    list(execute(run, seconds=0.0))
    assert run.alive() and run.status() == "running"
    run.release()
    assert run.status() == "interrupted" and run.can_resume()


class RefusedError(Exception):
    """As gradio's error, which the package raises when it gives no GPU."""

    def __init__(self, message: str, title: str) -> None:
        super().__init__(message)
        self.title = title


@pytest.mark.parametrize(
    ("title", "message", "tries"),
    [
        ("ZeroGPU quota exceeded", "You have exceeded your <b>free</b> quota", 1),
        ("ZeroGPU client error", "No GPU was available", zero_gpu.TRIES),
    ],
)
def test_no_gpu_is_the_last_word_and_the_run_can_go_on(
    config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    title: str,
    message: str,
    tries: int,
) -> None:
    run = runs.create(config, tmp_path)
    forked.exit_code(one_piece, str(run.path))
    asked = []

    def refuse(*args: object) -> None:
        asked.append(args)
        raise RefusedError(message, title)

    monkeypatch.setattr(zero_gpu, "_call", refuse)
    monkeypatch.setattr(zero_gpu, "WAIT_SECONDS", 0.0)
    zero_gpu.drive(run, seconds=CALL)

    last = run.events()[-1]
    assert isinstance(last, Failed) and last.step == 1
    assert message.replace("<b>", "").replace("</b>", "") in last.error
    assert "goes on from step 1" in last.hint
    assert len(asked) == tries and run.can_resume()


def test_a_stop_while_no_gpu_is_free_stops(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs.create(config, tmp_path)
    forked.exit_code(one_piece, str(run.path))
    asked = []

    def refuse(*args: object) -> None:
        asked.append(args)
        runs.stop(run)
        raise RefusedError("No GPU was available", "ZeroGPU client error")

    monkeypatch.setattr(zero_gpu, "_call", refuse)
    monkeypatch.setattr(zero_gpu, "WAIT_SECONDS", 1e9)
    zero_gpu.drive(run, seconds=CALL)
    last = run.events()[-1]
    assert isinstance(last, Finished) and (last.reason, last.step) == ("stopped", 1)
    assert len(asked) == 1 and run.status() == "stopped" and run.can_resume()


def test_a_scoring_that_gets_no_gpu_does_not_tell_of_the_training(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs.create(config, tmp_path)

    def call(function: object, args: tuple[str, float], seconds: int) -> str:
        if function == zero_gpu._train_piece:
            return zero_gpu._train_piece(*args)
        raise RefusedError("GPU task aborted", "ZeroGPU worker error")

    monkeypatch.setattr(zero_gpu, "_call", call)
    monkeypatch.setattr(zero_gpu, "WAIT_SECONDS", 0.0)
    zero_gpu.drive(run, seconds=CALL)
    last = run.events()[-1]
    assert isinstance(last, Failed) and "before the held-out questions were scored" in last.error
    assert "training is done" in last.hint and run.has_adapter()


def test_a_call_that_is_cut_off_goes_on_if_it_saved_something(
    config: TrainConfig, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config.model_copy(update={"checkpoint_every": 2})
    run = runs.create(settings, tmp_path)
    calls = []

    def cut_off(function: object, args: tuple[str, float], seconds: int) -> str:
        calls.append(seconds)
        if len(calls) > 1:
            return zero_gpu._score_piece(*args) if function == zero_gpu._score_piece else (
                zero_gpu._train_piece(*args)
            )  # fmt: skip
        forked.exit_code(dies_at_step_three, args[0])
        raise RefusedError("GPU task aborted", "ZeroGPU worker error")

    monkeypatch.setattr(zero_gpu, "_call", cut_off)
    zero_gpu.drive(run, seconds=CALL)
    assert run.status() == "finished" and len(calls) == 3
    weights = "adapter_model.safetensors"
    assert adapter_bytes(run)[weights] == adapter_bytes(whole)[weights]


def dies_at_step_three(folder: str) -> int:
    for event in execute(Run(Path(folder)), seconds=1000.0):
        if getattr(event, "step", 0) == 3:
            os._exit(1)
    return 0


def test_the_length_of_a_call_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert zero_gpu.call_seconds() == zero_gpu.DEFAULT_SECONDS
    for wrong in ("5", "a minute", "-60", "99999"):
        monkeypatch.setenv(zero_gpu.SECONDS_VARIABLE, wrong)
        with pytest.raises(ConfigError, match="from 20 to 3600"):
            zero_gpu.call_seconds()


def test_elsewhere_it_is_a_plain_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    zero_gpu.set_up()
    assert not zero_gpu.active() and not zero_gpu.withheld()
    assert zero_gpu.on_gpu(max, 1, 2, seconds=20) == 2
    with pytest.raises(TrainingError):
        zero_gpu.on_gpu(_fail, seconds=20)


def _fail() -> None:
    raise TrainingError("No.")


class Lender(BaseHTTPRequestHandler):
    """What lends GPUs on ZeroGPU, as far as the package asks it."""

    def do_POST(self) -> None:
        self.server.asked.append(self.path.split("?")[0])  # type: ignore[attr-defined]
        lent = {"idle": True, "nvidiaIndex": 0, "nvidiaUUID": "none", "allowToken": "t"}
        body = json.dumps(lent).encode() if self.path.startswith("/schedule") else b""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def lender() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Lender)
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


# A torch for CPUs, dressed as far as the package looks at it; there is no GPU to start or to fill.
APP = """
import sys, time, torch
from pathlib import Path
torch.version.cuda = "12.8"
torch._C._cuda_init = lambda: None
torch.cuda._is_in_bad_fork = bool
from qa_lora import runs, zero_gpu
zero_gpu.set_up()
# A fork beside a thread that imports would wait for ever.
assert {"qa_lora.training", "qa_lora.evaluation"} <= set(sys.modules)
import spaces.zero.torch
spaces.zero.torch.init = lambda uuid: None
spaces.zero.torch.move = lambda callback=None: None
assert torch.cuda.is_available() and zero_gpu.withheld()
from qa_lora.config import TrainConfig
run = runs.start(TrainConfig.from_yaml(sys.argv[1]), sys.argv[2])
assert run.alive()
while run.alive():
    time.sleep(0.1)
print(run.path)

from concurrent.futures import ThreadPoolExecutor
from qa_lora.answering import load
with ThreadPoolExecutor(1) as handlers:
    loaded = handlers.submit(load, run).result()
    answer = handlers.submit(loaded.answer, "What colour is thing 3?").result()
assert isinstance(answer.text, str)
"""


@pytest.mark.slow
def test_with_the_package_itself(
    config: TrainConfig, whole: Run, lender: ThreadingHTTPServer, tmp_path: Path
) -> None:
    """The wrapper forks, a thread of the app asks, and the app itself answers on the CPU."""
    pytest.importorskip("spaces")
    settings = tmp_path / "settings.yaml"
    settings.write_text(config.to_yaml())
    done = subprocess.run(
        [sys.executable, "-c", APP, str(settings), str(tmp_path / "runs")],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "HOME": str(tmp_path),
            "SPACES_ZERO_GPU": "1",
            "SPACES_ZERO_DEVICE_API_URL": f"http://127.0.0.1:{lender.server_address[1]}",
            zero_gpu.SECONDS_VARIABLE: "20",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = Run(Path(done.stdout.strip().splitlines()[-1]))
    assert run.status() == "finished" and run.evaluations() == [1]
    assert adapter_bytes(run) == adapter_bytes(whole)
    asked = lender.asked  # type: ignore[attr-defined]
    assert asked.count("/schedule") == asked.count("/release") >= 2  # the training, and the scores
