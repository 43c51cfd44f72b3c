"""What a training needs is said before it starts: sizes as in the real model, times as before."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qa_lora import event_log, runs
from qa_lora import events as ev
from qa_lora.cli import main
from qa_lora.config import TrainConfig
from qa_lora.errors import ModelError
from qa_lora.estimate import (
    FLAN_T5,
    Estimate,
    Room,
    RowLengths,
    estimate,
    estimate_config,
    model_shape,
    past_runs,
)
from qa_lora.estimate.activations import HEAD_TOKENS
from qa_lora.estimate.lengths import largest_micro_batch

SMALL = FLAN_T5["google/flan-t5-small"]
ROOM = Room("cpu", "CPU, 2 cores", "fp32", 16_000_000_000)
LENGTHS = RowLengths(tuple((30, 20 + 2 * i) for i in range(100)), ((30, 150),) * 10, 10, True)


def of(lengths: RowLengths = LENGTHS, room: Room = ROOM, **settings: Any) -> Estimate:
    config = TrainConfig.build(**{"model": "google/flan-t5-small", "batch_tokens": 512, **settings})
    return estimate(config, SMALL, room, lengths)


def part(found: Estimate, name: str) -> int:
    return next(each.bytes for each in found.parts if each.name == name)


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("targets", ["q,v", "o,wo", "all-linear"])
def test_sizes_are_those_of_the_real_model(
    tmp_path: Path, gated: bool, tied: bool, targets: str
) -> None:
    import torch
    from transformers import AutoModelForSeq2SeqLM, T5Config, T5ForConditionalGeneration

    from qa_lora.adapters import attach_lora, count_parameters
    from qa_lora.packed import PackedModel

    config = T5Config(
        vocab_size=50, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_decoder_layers=3, num_heads=2,
        feed_forward_proj="gated-gelu" if gated else "relu", decoder_start_token_id=0,
    )  # fmt: skip
    written = T5ForConditionalGeneration(config)
    if not tied:
        written.lm_head.weight = torch.nn.Parameter(torch.randn(50, 16))
    written.save_pretrained(tmp_path)
    base = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    before = {name: p.data_ptr() for name, p in base.named_parameters()}
    shape = model_shape(str(tmp_path))

    model = attach_lora(base, r=3, alpha=8, dropout=0.0, target_modules=targets)
    trainable, everything = count_parameters(model)

    assert shape.tied is tied
    assert shape.adapter_parameters(3, targets) == trainable
    assert shape.parameters == everything - trainable
    packed = PackedModel(model)
    moved = sum(
        p.numel()
        for name, p in packed_weights(model).items()
        if p.data_ptr() != before.get(name.replace(".base_layer", ""))
    )
    assert shape.joined_parameters == moved
    del packed


def packed_weights(model: Any) -> dict[str, Any]:
    """The frozen weights by their names before the adapter came."""
    return {
        name.removeprefix("base_model.model."): p
        for name, p in model.named_parameters()
        if not p.requires_grad
    }


def test_dora_has_a_magnitude_an_output(tiny_model: Path) -> None:
    from qa_lora.adapters import attach_lora, count_parameters
    from qa_lora.models import load_base

    model = attach_lora(
        load_base(str(tiny_model)).model,
        r=2, alpha=4, dropout=0.0, target_modules="q,wo", use_dora=True,
    )  # fmt: skip
    shape = model_shape(str(tiny_model))
    assert shape.adapter_parameters(2, "q,wo", dora=True) == count_parameters(model)[0]


def test_known_shapes_are_the_published_sizes() -> None:
    from qa_lora.catalog import MODELS

    sizes = {model.id: model.parameters for model in MODELS if model.id in FLAN_T5}
    assert {name: shape.parameters for name, shape in FLAN_T5.items()} == sizes


def test_pieces_of_the_lm_head_are_as_large_as_in_training() -> None:
    from qa_lora.packed import loss

    assert HEAD_TOKENS == {"cpu": loss.CPU_TOKENS, "gpu": loss.GPU_TOKENS}


def test_an_unknown_target_is_refused_as_in_training() -> None:
    with pytest.raises(ModelError, match="LoRA target nonsense matches no linear layer"):
        of(target_modules="nonsense")


@pytest.mark.parametrize(
    ("less", "more", "name"),
    [
        ({"lora_r": 4}, {"lora_r": 8}, "adapter"),
        ({"lora_r": 4}, {"lora_r": 8}, "optimizer"),
        ({"target_modules": "q"}, {"target_modules": "all-linear"}, "activations"),
        ({"batch_size": 1}, {"batch_size": 2}, "activations"),
        ({"batch_tokens": 512}, {"batch_tokens": 4096, "batch_size": 64}, "activations"),
        ({}, {"base_dropout": True}, "activations"),
        ({"base_dropout": True, "gradient_checkpointing": True}, {"base_dropout": True},
         "activations"),
    ],
)  # fmt: skip
def test_more_needs_more(less: dict[str, Any], more: dict[str, Any], name: str) -> None:
    assert 0 < part(of(**less), name) < part(of(**more), name)


def test_longer_rows_need_more_memory_and_time() -> None:
    longer = dataclasses.replace(LENGTHS, train=tuple((2 * s, 2 * t) for s, t in LENGTHS.train))
    short, long = of(batch_tokens=4096), of(longer, batch_tokens=4096)
    assert short.high_bytes < long.high_bytes
    assert short.epoch_seconds < long.epoch_seconds


def test_bf16_needs_less_than_fp32() -> None:
    assert of(room=dataclasses.replace(ROOM, precision="bf16")).high_bytes < of().high_bytes


def test_the_largest_micro_batch_is_of_the_longest_rows_within_both_limits() -> None:
    config = TrainConfig(batch_size=3, batch_tokens=600)
    assert largest_micro_batch(config, "cpu", LENGTHS) == [(30, 218), (30, 216)]
    config = TrainConfig(batch_size=3, batch_tokens=6000)
    assert len(largest_micro_batch(config, "cpu", LENGTHS)) == 3


@pytest.mark.parametrize(
    ("free", "fits", "says"),
    [(64e9, "yes", "It fits"), (0.0, "no", "It does not fit"), (None, "tight", "may not fit")],
)
def test_one_sentence_says_whether_it_fits(free: float | None, fits: str, says: str) -> None:
    free = of().high_bytes if free is None else free
    found = of(room=dataclasses.replace(ROOM, free_bytes=int(free)))
    assert found.fits == fits and says in found.sentence
    assert found.sentence.count(".") - found.sentence.count(" GB") <= 2


def past_run(folder: Path, config: TrainConfig, rate: float, device: str = ROOM.name) -> None:
    run = runs.create(config, folder)
    event_log.append(run.events_path, ev.Started(0, 9, 1, 2, 3, 4, 5, "abc", device, "fp32", 0.0))
    for step in range(1, 10):
        # The first steps warm up and must not count.
        speed = 1.0 if step < 3 else rate
        event = ev.Step(step, 0.1, 1.0, 1e-3, 1.0, speed, 1.0, 1.0, 10**9)
        event_log.append(run.events_path, event)


def test_past_runs_make_the_time_narrower_the_more_they_are_alike(tmp_path: Path) -> None:
    config = TrainConfig(model="google/flan-t5-small", data="atlas")

    def rates(device: str = ROOM.name, **changed: str) -> tuple[float, float]:
        folder = tmp_path / "-".join([device[:3], *changed])
        past_run(folder, config.model_copy(update=changed), 1234.0, device)
        return estimate(config, SMALL, ROOM, LENGTHS, past_runs(folder)).tokens_per_second

    def width(found: tuple[float, float]) -> float:
        return found[1] / found[0]

    same = rates()
    unknown = estimate(config, SMALL, ROOM, LENGTHS).tokens_per_second
    other_data, other_model = rates(data="other.csv"), rates(model="google/flan-t5-base")
    assert same[0] < 1234 < same[1]
    assert width(same) < width(other_data) < width(other_model) < width(unknown)
    assert other_model[0] > 1234, "a larger model's rate is scaled to the smaller one"
    assert rates(device="another") == unknown


def test_a_past_run_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    past_run(tmp_path, TrainConfig(model="google/flan-t5-small"), 10.0)
    (broken,) = runs.list_runs(tmp_path)
    (broken.path / "config.yaml").write_text("[", "utf-8")
    assert past_runs(tmp_path) == []


def test_a_real_run_is_what_the_next_estimate_goes_by(tiny_model: Path, qa_csv: Path) -> None:
    from qa_lora.worker import train

    config = TrainConfig(
        model=str(tiny_model), data=str(qa_csv), max_steps=5, probe_rows=0, score_rows=0
    )
    folder = runs.default_runs_dir()
    before = estimate_config(config, folder)
    events = list(train(config))
    after = estimate_config(config, folder)

    speeds = [event.tokens_per_second for event in events if isinstance(event, ev.Step)]
    assert "stated rate" in before.speed_from and "the same model" in after.speed_from
    assert after.tokens_per_second[0] < max(speeds)
    assert after.tokens_per_second[1] > min(speeds)
    started = events[0]
    assert isinstance(started, ev.Started)
    assert (after.adapter_parameters, after.steps) == (
        started.trainable_parameters, started.total_steps,
    )  # fmt: skip


def test_a_dry_run_says_it_and_makes_no_run(
    tiny_model: Path, qa_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--dry-run", "--model", str(tiny_model), "--data", str(qa_csv)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("weights", "adapter", "optimizer", "activations", "fits"))

    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["low_bytes"] < sum(each["bytes"] for each in found["parts"]) < found["high_bytes"]
    assert found["fits"] == "yes" and found["seconds"][0] < found["seconds"][1]
    assert not runs.default_runs_dir().exists()


def test_an_unknown_model_is_said_in_one_sentence(
    qa_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--dry-run", "--model", "nobody/nothing", "--data", str(qa_csv)]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("qa-lora: How large nobody/nothing is") and said.count("\n") == 1


def test_another_kind_of_model_is_no_t5(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bart", "d_model": 8}', "utf-8")
    with pytest.raises(ModelError, match="no T5"):
        model_shape(str(tmp_path))


def test_a_shape_is_known_without_torch(tiny_model: Path) -> None:
    code = (
        "import sys; from qa_lora.estimate import model_shape, estimate\n"
        f"model_shape({str(tiny_model)!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
