"""Checkpoints: everything comes back, nothing foreign or damaged is taken for one."""

from __future__ import annotations

# ruff: noqa: NPY002 - the generator that libraries draw from
import errno
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import qa_lora.checkpoint as checkpoint
from qa_lora.checkpoint import BEST, STATE, WEIGHTS, Progress
from qa_lora.checksums import CHECKSUMS, write_checksums
from qa_lora.errors import RunError
from qa_lora.recovery import CHECKPOINT_STATE

PROGRESS = Progress(
    step=3,
    elapsed_seconds=1.25,
    tokens=99,
    best_step=2,
    best_loss=0.5,
    halvings=2,
    last_loss=0.75,
    train_loss=0.1,
    best_rouge=0.25,
    evaluations_without_improvement=1,
    processes=2,
    rows_digest="0123456789abcdef",
    epoch_rows=100,
    learning_rate_scale=0.5,
)


class Training:
    """The least that a checkpoint is of: a frozen layer, a trained one, dropout, AdamW, a schedule."""

    def __init__(self, width: int = 4, trained: str = "adapter") -> None:
        torch.manual_seed(0)
        self.model = torch.nn.ModuleDict(
            {"base": torch.nn.Linear(4, 4), trained: torch.nn.Linear(4, width)}
        )
        self.model["base"].requires_grad_(False)
        self.trained = trained
        self.optimizer = torch.optim.AdamW(self.model[trained].parameters(), lr=0.1)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda n: 1 / (1 + n))

    def steps(self, count: int) -> list[float]:
        losses = []
        for _ in range(count):
            x = torch.nn.functional.dropout(self.model["base"](torch.ones(2, 4)), 0.5)
            loss = self.model[self.trained](x).square().mean()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            self.optimizer.zero_grad()
            losses.append(float(loss.detach()))
        return losses

    def weights(self) -> dict[str, torch.Tensor]:
        named = self.model.named_parameters()
        return {name: p.detach().clone() for name, p in named if p.requires_grad}

    def save(self, folder: Path, best: dict[str, torch.Tensor] | None = None) -> None:
        checkpoint.save(
            folder,
            PROGRESS,
            weights=self.weights(),
            best_weights=best,
            optimizer=self.optimizer,
            scheduler=self.scheduler,
        )

    def load(
        self, folder: Path, processes: int = PROGRESS.processes, process: int = 0
    ) -> tuple[Progress, dict[str, torch.Tensor] | None]:
        return checkpoint.load(
            folder,
            processes=processes,
            process=process,
            model=self.model,
            optimizer=self.optimizer,
            scheduler=self.scheduler,
        )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    training = Training()
    training.steps(3)
    training.save(tmp_path / "checkpoint", best={"adapter.weight": torch.ones(2)})
    return tmp_path / "checkpoint"


def refusal(folder: Path, **changed: Any) -> str:
    training = Training(**changed)
    with pytest.raises(RunError) as caught:
        training.load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_training_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole = Training()
    whole.steps(3)
    whole.save(tmp_path / "checkpoint")
    expected = whole.steps(5)

    other = Training()
    torch.manual_seed(12345)
    other.steps(2)
    progress, best = other.load(tmp_path / "checkpoint")
    assert progress == PROGRESS and best is None
    assert other.steps(5) == expected
    for name, value in whole.weights().items():
        assert torch.equal(other.weights()[name], value)


def draw() -> tuple[float, float, float, float]:
    normal = float(np.random.standard_normal())  # draws two and keeps one for later
    return float(torch.rand(1)), float(np.random.rand()), random.random(), normal


def test_each_process_goes_on_with_its_own_random_numbers(tmp_path: Path) -> None:
    training = Training()
    torch.manual_seed(1)
    first = checkpoint.random_states()
    torch.manual_seed(2)
    second, expected = checkpoint.random_states(), torch.rand(3)
    checkpoint.save(
        tmp_path / "c",
        PROGRESS,
        weights=training.weights(),
        best_weights=None,
        optimizer=training.optimizer,
        scheduler=training.scheduler,
        random_numbers=[first, second],
    )
    Training().load(tmp_path / "c", process=1)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("processes", [1, 3])
def test_another_number_of_processes_is_refused(folder: Path, processes: int) -> None:
    with pytest.raises(RunError) as caught:
        Training().load(folder, processes=processes)
    now = "1 process" if processes == 1 else "3 processes"
    assert str(caught.value) == (
        f"This run was trained by 2 processes and cannot go on with {now}, for the effective batch "
        "would be another. Resume it with accelerate launch --num_processes 2."
    )


def test_saving_draws_no_random_number(tmp_path: Path) -> None:
    training = Training()
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    training.save(tmp_path / "checkpoint")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


def test_every_generator_of_random_numbers_goes_on_where_it_was(tmp_path: Path) -> None:
    training = Training()
    draw()
    random.gauss(0, 1)
    training.save(tmp_path / "checkpoint")
    expected = [draw() for _ in range(3)], random.gauss(0, 1)
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    training.load(tmp_path / "checkpoint")
    assert ([draw() for _ in range(3)], random.gauss(0, 1)) == expected


def test_every_part_of_the_progress_comes_back(folder: Path) -> None:
    changed = [name for name, value in vars(PROGRESS).items() if value != vars(Progress())[name]]
    assert changed == list(vars(PROGRESS)), "say a value that is no default for each"
    assert Training().load(folder)[0] == PROGRESS


def test_a_checkpoint_of_version_0_1_is_taken(folder: Path) -> None:
    state = torch.load(folder / STATE, weights_only=True)
    (numbers,) = state.pop("random_numbers")
    torch.save(
        {**state, "torch_rng": numbers["torch_rng"], "cuda_rng": numbers["cuda_rng"]},
        folder / STATE,
    )
    old = {"step": 3, "elapsed_seconds": 1.5, "tokens": 9, "best_step": 2, "best_loss": 0.5}
    (folder / CHECKPOINT_STATE).write_text(json.dumps(old))
    (folder / CHECKSUMS).unlink()
    assert Training().load(folder, processes=1)[0] == Progress(**old)


def test_a_checkpoint_of_a_later_version_is_refused(folder: Path) -> None:
    (folder / CHECKPOINT_STATE).write_text(json.dumps({"format": 99, "step": 3}))
    assert "later version" in refusal(folder)


def test_one_changed_bit_is_found(folder: Path) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-3] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    assert f"{WEIGHTS} is not what was written" in refusal(folder)


def test_the_checkpoint_before_is_kept(tmp_path: Path) -> None:
    training, before = Training(), tmp_path / "before"
    for step in (1, 2, 3):
        checkpoint.save(
            tmp_path / "checkpoint",
            Progress(step=step, processes=2),
            previous=before,
            weights=training.weights(),
            best_weights=None,
            optimizer=training.optimizer,
            scheduler=training.scheduler,
        )
        assert training.load(tmp_path / "checkpoint")[0].step == step
        assert not before.exists() if step == 1 else training.load(before)[0].step == step - 1
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint", "before"}


def test_the_best_weights_come_back_and_the_frozen_ones_are_not_stored(folder: Path) -> None:
    progress, best = Training().load(folder)
    assert progress == PROGRESS
    assert best is not None and torch.equal(best["adapter.weight"], torch.ones(2))
    assert set(load_file(folder / WEIGHTS)) == {"adapter.weight", "adapter.bias"}


def test_a_best_that_is_gone_does_not_linger(folder: Path) -> None:
    Training().save(folder)
    assert Training().load(folder)[1] is None
    assert not (folder / BEST).exists()


def test_a_checkpoint_of_a_first_step(tmp_path: Path) -> None:
    training = Training()
    checkpoint.save(
        tmp_path / "c",
        Progress(),
        weights=training.weights(),
        best_weights=None,
        optimizer=training.optimizer,
        scheduler=training.scheduler,
    )
    assert training.load(tmp_path / "c", processes=1) == (Progress(), None)


@pytest.mark.parametrize("width", [1, 8])
def test_weights_of_another_size_are_refused(folder: Path, width: int) -> None:
    assert refusal(folder, width=width) == (
        f"The checkpoint in {folder} is of another model or other LoRA settings. "
        "Start a new run instead."
    )


def test_weights_of_one_row_are_not_spread_over_many(tmp_path: Path) -> None:
    narrow = Training(width=1)
    narrow.save(tmp_path / "checkpoint")
    assert "other LoRA settings" in refusal(tmp_path / "checkpoint", width=4)


def test_weights_of_other_names_are_refused(folder: Path) -> None:
    assert "other LoRA settings" in refusal(folder, trained="other")


def test_nothing_there(tmp_path: Path) -> None:
    message = refusal(tmp_path / "none")
    assert message.startswith(f"The checkpoint in {tmp_path / 'none'} is damaged: ")


@pytest.mark.parametrize("file", [WEIGHTS, BEST, STATE, CHECKPOINT_STATE])
@pytest.mark.parametrize("damage", ["empty", "torn", "noise"])
def test_a_damaged_file_is_said(folder: Path, file: str, damage: str) -> None:
    path = folder / file
    whole = path.read_bytes()
    path.write_bytes(
        {"empty": b"", "torn": whole[: len(whole) // 2], "noise": b"\xfe" * 300}[damage]
    )
    message = refusal(folder)
    assert message.startswith(f"The checkpoint in {folder} is damaged: ")
    assert message.endswith(". Start a new run with the same settings.")


@pytest.mark.parametrize("file", [WEIGHTS, BEST, STATE, CHECKPOINT_STATE, CHECKSUMS])
def test_a_missing_file_is_said(folder: Path, file: str) -> None:
    (folder / file).unlink()
    assert "is damaged: " in refusal(folder)


@pytest.mark.parametrize("state", [{"steps": 3}, {"step": 3, "processes": 2, "mood": 1}, [3], None])
def test_a_state_of_another_kind_is_said(folder: Path, state: Any) -> None:
    (folder / CHECKPOINT_STATE).write_text(json.dumps(state))
    assert "is damaged: " in refusal(folder)


class Trap:
    """Unpickling it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, (f"open({str(self.trace)!r}, 'w').close()",)


def test_a_checkpoint_runs_no_code(folder: Path, tmp_path: Path) -> None:
    state = torch.load(folder / STATE, weights_only=True)
    torch.save(state | {"scheduler": Trap(tmp_path / "trace")}, folder / STATE)
    write_checksums(folder)
    assert "is damaged: " in refusal(folder)
    assert not (tmp_path / "trace").exists()


def test_a_checkpoint_of_a_machine_with_other_gpus_goes_on(folder: Path) -> None:
    state = torch.load(folder / STATE, weights_only=True)
    state["random_numbers"][0]["cuda_rng"] = [torch.zeros(16, dtype=torch.uint8)] * 2
    torch.save(state, folder / STATE)
    write_checksums(folder)
    assert Training().load(folder)[0] == PROGRESS


@pytest.mark.parametrize("file", [WEIGHTS, BEST, STATE])
def test_a_full_disk_leaves_the_checkpoint_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    save_file, write_bytes = checkpoint.save_file, Path.write_bytes

    def refuse(path: Path) -> None:
        if path.name == file:
            raise OSError(errno.ENOSPC, "No space left on device")

    def full_save_file(weights: Any, path: Path) -> None:
        refuse(path)
        save_file(weights, path)

    def full_write_bytes(path: Path, data: Any) -> int:
        refuse(path)
        return write_bytes(path, data)

    monkeypatch.setattr(checkpoint, "save_file", full_save_file)
    monkeypatch.setattr(Path, "write_bytes", full_write_bytes)
    training = Training()
    training.steps(1)
    with pytest.raises(OSError, match="No space left"):
        training.save(folder, best=training.weights())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
