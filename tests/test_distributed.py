"""Several processes train one run: the same numbers, one story, no process left waiting."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from safetensors.torch import load_file

from qa_lora import distributed, sharding
from qa_lora.batching import EncodedExample, share
from qa_lora.cli import main
from qa_lora.config import TrainConfig
from qa_lora.errors import ConfigError
from qa_lora.events import Evaluated, Failed, Finished, Probed, Scored, Step
from qa_lora.report import load_report
from qa_lora.runs import Run
from qa_lora.training import train
from tests import distributed_driver, forked

ROOT = Path(__file__).resolve().parent.parent
TWO = ROOT / "configs" / "two_cpu_processes.yaml"
LAUNCH = ["-m", "accelerate.commands.launch", "--config_file", str(TWO), "--main_process_port", "0"]
PATIENCE = 540
"""Seconds after which processes that wait for each other are taken for hung."""


@pytest.fixture
def launched() -> Iterator[list[psutil.Process]]:
    """Launchers that are gone, with their processes, when the test is over."""
    started: list[psutil.Process] = []
    yield started
    for launcher in started:
        for process in [*_children(launcher), launcher]:
            if process.is_running():
                process.kill()


def _children(launcher: psutil.Process) -> list[psutil.Process]:
    try:
        return list(launcher.children(recursive=True))
    except psutil.Error:
        return []


def launch(launched: list[psutil.Process], *arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """Start two processes as a person does."""
    process = subprocess.Popen(
        [sys.executable, *LAUNCH, *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    launched.append(psutil.Process(process.pid))
    return process


def both_well(children: list[forked.Child]) -> None:
    for child in children:
        assert child.wait(PATIENCE) == 0, child.err


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def settings(tiny_model: Path, qa_csv: Path, **changed: Any) -> TrainConfig:
    defaults: dict[str, Any] = {
        "model": str(tiny_model),
        "data": str(qa_csv),
        "max_steps": 6,
        "batch_size": 6,
        "lora_dropout": 0.0,
        "learning_rate": 5e-3,
        "evaluate_every": 3,
        "checkpoint_every": 2,
        "checkpoint_seconds": None,
        "max_new_tokens": 6,
        "probe_rows": 3,
        "score_rows": 0,
        "precision": "fp32",
    }
    return TrainConfig.build(**{**defaults, **changed})


def only_run(folder: Path) -> Run:
    (path,) = (path.parent for path in folder.glob("*/config.yaml"))
    return Run(path)


def test_rows_are_shared_out_evenly() -> None:
    rows = [EncodedExample([0] * n, [0]) for n in (9, 1, 5, 7, 3, 8, 2)]
    shares = share(rows, 3, lambda row: row.tokens)
    assert sorted(map(len, shares)) == [2, 2, 3]
    assert sorted(id(row) for part in shares for row in part) == sorted(map(id, rows))
    tokens = [sum(row.tokens for row in part) for part in shares]
    assert max(tokens) - min(tokens) <= 4
    assert share(rows, 1, lambda row: row.tokens) == [rows]
    assert share(rows[:1], 3, lambda row: row.tokens) == [rows[:1], [], []]


def test_one_process_is_a_plain_call(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*distributed.SIZES, *distributed.RANKS):
        monkeypatch.delenv(name, raising=False)
    assert distributed.count() == 1 and distributed.is_first()
    assert distributed.gather(lambda: 3) == [3]
    assert distributed.any_of(True, False) == [True, False]
    with pytest.raises(ZeroDivisionError):
        distributed.together(lambda: 1 / 0)


@pytest.fixture
def uneven_csv(tmp_path: Path) -> Path:
    """Sixty questions with answers of one to nine words: 48 to train on, so 32 and 16 an epoch."""
    path = tmp_path / "uneven.csv"
    lines = (f"What is in box {i}?,{' '.join(['stone'] * (1 + i * i % 9))}" for i in range(60))
    path.write_text("\n".join(["question,answer", *lines]), "utf-8")
    return path


def test_accumulation_gives_the_losses_of_one_batch(
    tiny_model: Path, uneven_csv: Path, tmp_path: Path
) -> None:
    whole = settings(tiny_model, uneven_csv, batch_size=32)
    parts = settings(tiny_model, uneven_csv, batch_size=8, gradient_accumulation=4)
    _same(list(train(whole, tmp_path / "1x32")), list(train(parts, tmp_path / "4x8")))
    _same_adapters(tmp_path / "1x32", tmp_path / "4x8")


def _same_adapters(one: Path, two: Path, rtol: float = 1e-4, atol: float = 1e-6) -> None:
    files = [path / "adapter" / "adapter_model.safetensors" for path in (one, two)]
    expected, found = (load_file(file) for file in files)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=rtol, atol=atol)


def _same(one: list[Any], two: list[Any]) -> None:
    for kind in (Step, Evaluated):
        losses = [
            [event.loss for event in story if isinstance(event, kind)] for story in (one, two)
        ]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5) and losses[0]


@pytest.mark.slow
def test_two_processes_give_what_one_gives(
    tiny_model: Path, uneven_csv: Path, tmp_path: Path, launched: list[psutil.Process]
) -> None:
    alone = settings(tiny_model, uneven_csv, batch_size=32, score_rows=5, validation_rows=3)
    together = settings(tiny_model, uneven_csv, batch_size=16, score_rows=5, validation_rows=3)
    (tmp_path / "alone.yaml").write_text(alone.to_yaml())
    (tmp_path / "together.yaml").write_text(together.to_yaml())
    process = launch(
        launched, "-m", "qa_lora", "train", "--config", "together.yaml", "--runs-dir", "two",
        "--json", cwd=tmp_path,
    )  # fmt: skip
    arguments = ["--config", str(tmp_path / "alone.yaml"), "--runs-dir", str(tmp_path / "one")]
    assert main(["train", *arguments, "--json"]) == 0
    code, out, err = ended(process)
    assert code == 0, err

    one, two = only_run(tmp_path / "one"), only_run(tmp_path / "two")
    (line,) = out.splitlines()  # one process tells
    assert json.loads(line)["run"] == two.id and json.loads(line)["steps"] == 6
    _same(one.events(), two.events())
    for kind in (Step, Evaluated, Finished, Scored):
        counts = [sum(isinstance(e, kind) for e in run.events()) for run in (one, two)]
        assert counts[0] == counts[1]
    probes = [[e.probes for e in run.events() if isinstance(e, Probed)] for run in (one, two)]
    assert probes[0] == probes[1]
    _same_adapters(one.path, two.path)
    reports = [load_report(run, 1) for run in (one, two)]
    assert reports[0].examples == reports[1].examples
    assert reports[0].difference == reports[1].difference and reports[1].rows == 5
    assert two.evaluations() == [1]


@pytest.mark.slow
def test_processes_agree_on_results_and_errors(
    tiny_model: Path, qa_csv: Path, tmp_path: Path
) -> None:
    (tmp_path / "settings.yaml").write_text(settings(tiny_model, qa_csv).to_yaml())
    both_well(forked.several(2, distributed_driver.main, tmp_path, cwd=tmp_path))
    first, second = (json.loads((tmp_path / f"{i}.json").read_text()) for i in range(2))
    assert (first.pop("index"), second.pop("index")) == (0, 1)
    assert (first.pop("together"), second.pop("together")) == (0, 1)
    breaks = first.pop("second breaks"), second.pop("second breaks")
    assert breaks[0] == "RuntimeError: ZeroDivisionError in process 1: division by zero"
    assert breaks[1] == "ZeroDivisionError: division by zero"
    fails = first.pop("a step fails"), second.pop("a step fails")
    assert fails[0] == ["2", *breaks[0].split(": ", 1)]
    assert fails[1] == ["2", *breaks[1].split(": ", 1)]
    assert (
        first
        == second
        == {
            "count": 2,
            "from first": "said by 0",
            "gather": [0, 10],
            "any": [True, False, True],
            "first fails": "DataError: No rows. Add some.",
            "second fails": "DataError: No rows. Add some.",
            "gradients": {
                "weights": [1.0, 1.0],
                "one": [3.0, 6.0],
                "two": [5.0, 6.0],
                "beside": [1.0, 2.0],
            },
            # The second one's six rows went by two at a time, after six and three were too many.
            "memory runs out": {"steps": 8, "same": True, "halved": [1, 1]},
        }
    )


@pytest.mark.slow
def test_two_processes_stop_and_go_on_as_if_they_had_not(
    tiny_model: Path,
    qa_csv: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With dropout, which each process draws for itself."""
    config = settings(tiny_model, qa_csv, lora_dropout=0.3, max_steps=40, probe_rows=0)
    (tmp_path / "c.yaml").write_text(config.to_yaml())
    train_two = ["train", "--config", "c.yaml", "--runs-dir"]
    both = forked.several(2, main, [*train_two, "parts"], cwd=tmp_path)
    while not any((tmp_path / "parts").glob("*/checkpoint")):
        assert all(child.alive() for child in both), both[0].err
        time.sleep(0.01)
    for child in both:
        child.signal(signal.SIGTERM)
    both_well(both)
    run = only_run(tmp_path / "parts")
    assert run.status() == "stopped" and run.can_resume()

    # One process cannot go on with what two began, and leaves it as it is.
    assert main(["resume", str(run.path)]) == 2
    assert "trained by 2 processes and cannot go on with 1 process" in capsys.readouterr().err
    assert run.status() == "stopped"

    both_well(forked.several(2, main, ["resume", str(run.path)], cwd=tmp_path))
    both_well(forked.several(2, main, [*train_two, "whole"], cwd=tmp_path))
    whole = only_run(tmp_path / "whole")
    assert run.status() == whole.status() == "finished"
    assert [e.loss for e in run.events() if isinstance(e, Step)] == [
        e.loss for e in whole.events() if isinstance(e, Step)
    ]
    files = [r.adapter / "adapter_model.safetensors" for r in (run, whole)]
    assert files[0].read_bytes() == files[1].read_bytes()


def on_a_small_disk(arguments: list[str]) -> int:
    """The command line, where no file may be larger than 8 KB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
    return main(arguments)


@pytest.mark.slow
def test_a_disk_that_is_full_ends_both_with_one_sentence(
    tiny_model: Path, qa_csv: Path, tmp_path: Path
) -> None:
    (tmp_path / "c.yaml").write_text(settings(tiny_model, qa_csv).to_yaml())
    arguments = ["train", "--config", "c.yaml", "--runs-dir", "r"]
    both = forked.several(2, on_a_small_disk, arguments, cwd=tmp_path)
    codes = [child.wait(PATIENCE) for child in both]
    err = "".join(child.err for child in both)
    run = only_run(tmp_path / "r")
    assert 0 not in codes and err.count("qa-lora: The ") == 1 and "could not be saved" in err
    assert "Traceback" not in err.split("qa-lora: The ")[0]
    assert isinstance(run.events()[-1], Failed) and run.status() == "failed"


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings_of",
    [{}, {"use_dora": True, "gradient_checkpointing": True}, {"precision": "bf16"}],
    ids=["plain", "DoRA", "bf16"],
)
def test_shards_give_what_one_process_gives(
    tiny_model: Path,
    qa_csv: Path,
    tmp_path: Path,
    settings_of: dict[str, Any],
) -> None:
    """FSDP, stopped and gone on; 5 rows a process leave a last step of unequal shares."""
    asks = {"ACCELERATE_USE_FSDP": "true", "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}
    shards_agree(tiny_model, qa_csv, tmp_path, asks, settings_of)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings_of",
    [{}, {"precision": "bf16", "gradient_checkpointing": True}],
    ids=["plain", "bf16"],
)
def test_zero_shards_give_what_one_process_gives(
    tiny_model: Path,
    qa_csv: Path,
    tmp_path: Path,
    settings_of: dict[str, Any],
) -> None:
    pytest.importorskip("deepspeed", reason="an extra that most do without")
    asks = {
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3",
        "ACCELERATE_DEEPSPEED_ZERO3_INIT": "true",
        "DS_ACCELERATOR": "cpu",
    }
    shards_agree(tiny_model, qa_csv, tmp_path, asks, settings_of)


def shards_agree(
    tiny_model: Path,
    qa_csv: Path,
    tmp_path: Path,
    asks: dict[str, str],
    settings_of: dict[str, Any],
) -> None:
    several = settings(tiny_model, qa_csv, batch_size=5, max_steps=8, max_rows=20, **settings_of)
    (tmp_path / "settings.yaml").write_text(several.to_yaml())
    both = forked.several(
        2, distributed_driver.stop_and_go_on, tmp_path, cwd=tmp_path, environment=asks
    )
    alone = settings(tiny_model, qa_csv, batch_size=10, max_steps=8, max_rows=20, **settings_of)
    expected = [e.loss for e in train(alone, tmp_path / "alone") if isinstance(e, Step)]
    both_well(both)
    first, second = (json.loads((tmp_path / f"{i}.json").read_text()) for i in range(2))
    exact = several.precision == "fp32"
    assert first == second == pytest.approx(expected, rel=1e-5 if exact else 2e-2)
    if exact:
        _same_adapters(tmp_path / "alone", tmp_path / "parts", rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("asks", "said"),
    [
        ({}, "Only stage 3"),
        ({"ZERO_STAGE": "2"}, "Only stage 3"),
        ({"ZERO_STAGE": "3", "CONFIG_FILE": "ds.json"}, "is not read here"),
        ({"ZERO_STAGE": "3", "OFFLOAD_PARAM_DEVICE": "cpu"}, "not offloaded"),
    ],
)
def test_what_deepspeed_is_not_used_for_is_refused(
    monkeypatch: pytest.MonkeyPatch, asks: dict[str, str], said: str
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    for name, value in asks.items():
        monkeypatch.setenv(f"ACCELERATE_DEEPSPEED_{name}", value)
    with pytest.raises(ConfigError, match=said) as caught:
        sharding.wanted()
    assert "configs/deepspeed_zero3.yaml" in caught.value.hint


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_accelerate_takes_each_configuration(path: Path) -> None:
    load_config_from_file(str(path))
