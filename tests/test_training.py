"""The loop: what it must never change, and what it must always give."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from qa_lora.batching import IGNORED, collate, encode
from qa_lora.config import TrainConfig
from qa_lora.data import load_split
from qa_lora.errors import ModelError, QALoRAError, TrainingError
from qa_lora.events import (
    Checkpointed,
    Evaluated,
    Event,
    Finished,
    MemoryRanOut,
    Probed,
    Started,
    Step,
)
from qa_lora.models import load_base
from qa_lora.training import train


@pytest.fixture
def config(tiny_model: Path, qa_csv: Path) -> TrainConfig:
    return TrainConfig.build(
        model=str(tiny_model),
        data=str(qa_csv),
        max_steps=12,
        batch_size=8,
        learning_rate=5e-3,
        evaluate_every=4,
        checkpoint_every=4,
        max_new_tokens=6,
        probe_rows=2,
        score_rows=0,
        precision="fp32",
    )


def changed(config: TrainConfig, **settings: Any) -> TrainConfig:
    return TrainConfig.build(**{**config.model_dump(), **settings})


def losses(events: list[Event]) -> list[float]:
    return [event.loss for event in events if isinstance(event, Step)]


def collect(events: Iterator[Event], seen: list[Event]) -> None:
    """Like `seen.extend(events)`, but seen by whoever asks in between."""
    for event in events:
        seen += [event]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def test_tells_the_story_in_order_and_learns(config: TrainConfig, tmp_path: Path) -> None:
    events = list(train(changed(config, max_steps=40), tmp_path))
    assert isinstance(events[0], Started) and isinstance(events[-1], Finished)
    assert events[-1].reason == "completed" and events[-1].step == 40
    assert isinstance(events[1], Evaluated) and events[1].step == 0
    assert isinstance(events[2], Probed) and len(events[2].probes) == 2
    assert [e.step for e in events if isinstance(e, Step)] == list(range(1, 41))
    validation = [e.loss for e in events if isinstance(e, Evaluated)]
    assert validation[-1] < validation[0] - 1
    assert events[-1].validation_loss == min(validation)
    files = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert files >= {"adapter_config.json", "adapter_model.safetensors", "prompt.json", "README.md"}


def test_frozen_weights_stay_bitwise_the_same(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import qa_lora.training as module

    prepared: list[Any] = []
    original = module.prepare

    def spy(*arguments: Any) -> Any:
        prepared.append(original(*arguments))
        return prepared[-1]

    monkeypatch.setattr(module, "prepare", spy)
    list(train(config, tmp_path))
    untouched = load_base(config.model, precision="fp32").model.state_dict()
    after = prepared[0].model.get_base_model().state_dict()
    for name, value in untouched.items():
        trained_name = name if name in after else name.replace(".weight", ".base_layer.weight")
        assert torch.equal(value, after[trained_name]), name
    assert any(value.abs().max() > 0 for n, value in weights(tmp_path).items() if "lora_B" in n)


def test_same_seed_same_losses_and_adapter(config: TrainConfig, tmp_path: Path) -> None:
    first = list(train(config, tmp_path / "a"))
    second = list(train(config, tmp_path / "b"))
    other = list(train(changed(config, seed=7), tmp_path / "c"))
    assert losses(first) == losses(second) != losses(other)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))


@pytest.mark.parametrize(("batch_size", "accumulation"), [(4, 2), (1, 8), (3, 3)])
def test_accumulation_equals_one_batch_with_uneven_targets(
    config: TrainConfig, tmp_path: Path, batch_size: int, accumulation: int
) -> None:
    total = batch_size * accumulation
    settings = {"lora_dropout": 0.0, "gradient_accumulation": 1, "batch_size": total}
    whole = list(train(changed(config, **settings), tmp_path / "a"))
    settings |= {"gradient_accumulation": accumulation, "batch_size": batch_size}
    parts = list(train(changed(config, **settings), tmp_path / "b"))
    assert losses(parts) == pytest.approx(losses(whole), abs=1e-5)


def test_loss_is_the_mean_over_real_label_tokens(config: TrainConfig, tmp_path: Path) -> None:
    events = list(train(changed(config, max_steps=1), tmp_path))
    base = load_base(config.model, precision="fp32")
    split = load_split(config)
    from qa_lora.prompts import PromptTemplate

    rows = encode(
        split.validation,
        base.tokenizer,
        PromptTemplate(),
        max_source_tokens=config.max_source_tokens,
        max_target_tokens=config.max_target_tokens,
    )
    total, tokens = 0.0, 0
    with torch.no_grad():
        for row in rows:  # one by one: no padding at all
            output = base.model(
                input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([row.labels])
            )
            total += float(output.loss) * len(row.labels)
            tokens += len(row.labels)
    assert isinstance(events[1], Evaluated)
    assert events[1].loss == pytest.approx(total / tokens, rel=1e-5)


def test_no_label_token_reaches_the_encoder(config: TrainConfig) -> None:
    split = load_split(config)
    tokenizer = load_base(config.model, precision="fp32").tokenizer
    from qa_lora.prompts import PromptTemplate

    for example, row in zip(
        split.train,
        encode(
            split.train,
            tokenizer,
            PromptTemplate(),
            max_source_tokens=256,
            max_target_tokens=256,
        ),
        strict=True,
    ):
        read = tokenizer.decode(row.input_ids, skip_special_tokens=True)
        assert read.strip() == f"Answer this question: {example.question}"
        assert example.answer not in read
        assert tokenizer.decode(row.labels, skip_special_tokens=True).strip() == example.answer


def test_padding_is_ignored(config: TrainConfig) -> None:
    split = load_split(config)
    tokenizer = load_base(config.model, precision="fp32").tokenizer
    from qa_lora.prompts import PromptTemplate

    rows = encode(
        split.train[:6], tokenizer, PromptTemplate(), max_source_tokens=256, max_target_tokens=256
    )
    batch = collate(rows, tokenizer.pad_token_id)
    for i, row in enumerate(rows):
        assert batch.labels[i].tolist()[len(row.labels) :] == [IGNORED] * (
            batch.labels.shape[1] - len(row.labels)
        )
        assert int(batch.attention_mask[i].sum()) == len(row.input_ids)


@pytest.mark.parametrize("stop_at", [3, 4, 7])
@pytest.mark.parametrize("keep", ["best", "last"])
def test_stopped_and_resumed_equals_uninterrupted(
    config: TrainConfig, tmp_path: Path, stop_at: int, keep: str
) -> None:
    config = changed(config, keep=keep)
    whole = list(train(config, tmp_path / "whole"))

    first: list[Event] = []
    events = train(config, tmp_path / "parts", should_stop=lambda: len(losses(first)) >= stop_at)
    collect(events, first)
    assert isinstance(first[-1], Finished) and first[-1].reason == "stopped"
    assert first[-1].step == stop_at
    second = list(train(config, tmp_path / "parts", resume=True))
    assert isinstance(second[0], Started) and second[0].step == stop_at
    assert losses(first) + losses(second) == losses(whole)
    assert same(weights(tmp_path / "parts"), weights(tmp_path / "whole"))
    assert isinstance(second[-1], Finished) and isinstance(whole[-1], Finished)
    assert second[-1].validation_loss == whole[-1].validation_loss


def test_killed_between_checkpoints_resumes_to_the_same_bytes(
    config: TrainConfig, tmp_path: Path
) -> None:
    list(train(config, tmp_path / "whole"))
    events = train(config, tmp_path / "parts")
    for event in events:
        if isinstance(event, Step) and event.step == 7:
            break
    events.close()
    list(train(config, tmp_path / "parts", resume=True))
    whole, parts = (
        (tmp_path / name / "adapter" / "adapter_model.safetensors").read_bytes()
        for name in ("whole", "parts")
    )
    assert whole == parts


def test_best_adapter_is_kept_not_the_last(config: TrainConfig, tmp_path: Path) -> None:
    # A learning rate this high makes things worse at the end.
    config = changed(config, learning_rate=0.3, max_steps=24, schedule="constant", warmup_ratio=0.0)
    events = list(train(config, tmp_path))
    validation = {e.step: e.loss for e in events if isinstance(e, Evaluated) and e.step}
    best = min(validation, key=lambda step: validation[step])
    finished = events[-1]
    assert isinstance(finished, Finished) and finished.validation_loss == validation[best]
    state = json.loads((tmp_path / "checkpoint" / "state.json").read_text())
    assert state["best_step"] == best


def test_a_loss_that_is_no_number_stops_and_keeps_the_adapter(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import qa_lora.training as module

    prepared: list[Any] = []
    original = module.prepare

    def spy(*arguments: Any) -> Any:
        prepared.append(original(*arguments))
        return prepared[-1]

    monkeypatch.setattr(module, "prepare", spy)
    seen: list[Event] = []
    with pytest.raises(TrainingError, match=r"loss became nan .* in step 6"):
        for event in train(config, tmp_path):
            seen.append(event)
            if isinstance(event, Step) and event.step == 5:
                head = prepared[0].model.get_base_model().lm_head.weight
                head.data[:, 0] = float("nan")
    assert isinstance(seen[-1], Step)
    for value in weights(tmp_path).values():
        assert torch.isfinite(value).all()


class Memory:
    """A device that holds so many tokens: larger forward passes fail as torch fails."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.largest = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from qa_lora.packed import PackedModel

        original = PackedModel.loss_and_gradients

        def limited(model: PackedModel, rows: Any, **options: Any) -> torch.Tensor:
            if sum(row.tokens for row in rows) > self.tokens:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
            self.largest = max(self.largest, len(rows))
            return original(model, rows, **options)

        monkeypatch.setattr(PackedModel, "loss_and_gradients", limited)


def test_out_of_memory_halves_the_micro_batch_and_keeps_the_result(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = changed(config, lora_dropout=0.0)
    whole = list(train(config, tmp_path / "whole"))
    memory = Memory(tokens=150)
    memory.install(monkeypatch)
    parts = list(train(config, tmp_path / "parts"))
    halved = [event for event in parts if isinstance(event, MemoryRanOut)]
    rows = [event.micro_rows for event in halved]
    assert rows and rows[0] < 8 and rows == sorted(set(rows), reverse=True)
    assert memory.largest <= 4
    assert losses(parts) == pytest.approx(losses(whole), abs=1e-5)
    assert [e.step for e in parts if isinstance(e, Step)] == list(range(1, 13))


def test_a_run_that_ran_out_of_memory_resumes_to_the_same_bytes(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Memory(tokens=150).install(monkeypatch)
    whole = list(train(config, tmp_path / "whole"))
    first: list[Event] = []
    collect(train(config, tmp_path / "parts", should_stop=lambda: len(losses(first)) >= 5), first)
    second = list(train(config, tmp_path / "parts", resume=True))
    assert not [event for event in second if isinstance(event, MemoryRanOut)]
    assert losses(first) + losses(second) == losses(whole)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_out_of_memory_at_one_row_says_what_to_change(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Memory(tokens=1).install(monkeypatch)
    with pytest.raises(TrainingError, match=r"even one row.* Lower max_source_tokens"):
        list(train(config, tmp_path))


@pytest.mark.parametrize("batch_tokens", [64, 150])
def test_a_token_budget_cuts_the_batch_and_keeps_the_result(
    config: TrainConfig, tmp_path: Path, batch_tokens: int
) -> None:
    config = changed(config, lora_dropout=0.0)
    whole = list(train(config, tmp_path / "a"))
    parts = list(train(changed(config, batch_tokens=batch_tokens), tmp_path / "b"))
    assert losses(parts) == pytest.approx(losses(whole), abs=1e-5)


def test_packed_and_plain_training_are_the_same(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import qa_lora.preparing as module

    config = changed(config, lora_dropout=0.0, target_modules="all-linear")
    packed = list(train(config, tmp_path / "packed"))
    monkeypatch.setattr(module, "why_not", lambda model: "this test compares")
    plain = list(train(config, tmp_path / "plain"))
    assert losses(packed) == pytest.approx(losses(plain), rel=1e-5)


def test_target_that_matches_nothing_is_named(config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"query.* matches no linear layer.*q, k, v, o"):
        list(train(changed(config, target_modules="q,query"), tmp_path))


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": "all-linear"},
        {"use_rslora": True},
        {"use_dora": True},
        {"base_dropout": True},
        {"precision": "bf16"},
        {"schedule": "cosine"},
        {"loraplus_lr_ratio": 8.0},
        {"gradient_checkpointing": True},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_every_variant_trains_and_resumes(
    config: TrainConfig, tmp_path: Path, settings: dict[str, Any]
) -> None:
    config = changed(config, **settings)
    whole = list(train(config, tmp_path / "whole"))
    first: list[Event] = []
    events = train(config, tmp_path / "parts", should_stop=lambda: len(losses(first)) >= 5)
    collect(events, first)
    second = list(train(config, tmp_path / "parts", resume=True))
    assert losses(whole) == losses(first) + losses(second)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        ),
    ],
    ids=["file system", "safetensors"],
)
def test_disk_full_while_saving_leaves_the_last_checkpoint(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    import qa_lora.checkpoint as module

    original = module.save_file
    seen: list[Event] = []

    def full(*arguments: Any) -> None:
        if any(isinstance(event, Checkpointed) for event in seen):
            raise error
        original(*arguments)

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(TrainingError, match="the disk is full"):
        collect(train(config, tmp_path), seen)
    monkeypatch.undo()
    assert json.loads((tmp_path / "checkpoint" / "state.json").read_text())["step"] == 4
    assert isinstance(list(train(config, tmp_path, resume=True))[-1], Finished)


def test_early_stopping_ends_a_training_that_gets_no_better(
    config: TrainConfig, tmp_path: Path
) -> None:
    # A learning rate this high makes things worse at the end.
    config = changed(
        config, learning_rate=0.3, max_steps=60, schedule="constant", warmup_ratio=0.0,
        evaluate_every=2, checkpoint_every=1, early_stopping_patience=3,
    )  # fmt: skip
    whole = list(train(config, tmp_path / "whole"))
    finished = whole[-1]
    assert isinstance(finished, Finished) and finished.reason == "early_stopped"
    found = {e.step: e.loss for e in whole if isinstance(e, Evaluated) and e.step}
    best = min(found, key=lambda step: found[step])
    assert finished.step == best + 2 * 3 < 60 and finished.validation_loss == found[best]

    # Stopped amid its patience, it still ends at the same step.
    first: list[Event] = []
    events = train(
        config, tmp_path / "parts", should_stop=lambda: len(losses(first)) == finished.step - 3
    )
    collect(events, first)
    second = list(train(config, tmp_path / "parts", resume=True))
    assert losses(first) + losses(second) == losses(whole)
    assert isinstance(second[-1], Finished) and second[-1].reason == "early_stopped"
    assert same(weights(tmp_path / "parts"), weights(tmp_path / "whole"))

    # Killed after its last checkpoint, it does not begin again.
    third = list(train(config, tmp_path / "whole", resume=True))
    assert [type(event) for event in third] == [Started, Finished]
    assert isinstance(third[-1], Finished) and third[-1].reason == "early_stopped"


def test_a_training_ends_when_its_minutes_are_over(config: TrainConfig, tmp_path: Path) -> None:
    late = changed(config, max_minutes=1e-9, max_steps=20, evaluate_every=7)
    told = list(train(late, tmp_path))
    finished = told[-1]
    assert isinstance(finished, Finished)
    assert (finished.reason, finished.step) == ("out_of_time", 1)
    assert [event.eta_seconds for event in told if isinstance(event, Step)] == [0.0]
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
    assert finished.validation_loss is not None
    # Killed after its last checkpoint, it has no more time than before.
    again = list(train(late, tmp_path, resume=True))
    assert [type(event) for event in again if not isinstance(event, Evaluated)] == [
        Started, Finished,
    ]  # fmt: skip
    assert isinstance(again[-1], Finished) and again[-1].reason == "out_of_time"


def test_an_improvement_that_is_too_small_does_not_count(
    config: TrainConfig, tmp_path: Path
) -> None:
    config = changed(
        config, evaluate_every=2, max_steps=20, early_stopping_patience=2,
        early_stopping_min_improvement=100.0,
    )  # fmt: skip
    finished = list(train(config, tmp_path))[-1]
    assert isinstance(finished, Finished)
    # The first validation has nothing to improve on; the next two do not improve enough.
    assert (finished.reason, finished.step) == ("early_stopped", 6)


def test_rouge_says_which_adapter_is_best(config: TrainConfig, tmp_path: Path) -> None:
    config = changed(
        config, early_stopping_metric="rougeL", learning_rate=3e-2, max_steps=40, evaluate_every=5
    )
    events = list(train(config, tmp_path))
    found = {e.step: e for e in events if isinstance(e, Evaluated)}
    assert all(e.rougeL is not None and 0 <= e.rougeL <= 1 for e in found.values())
    scores = {step: e.rougeL or 0.0 for step, e in found.items() if step}
    assert max(scores.values()) > 0
    best = max(scores, key=lambda step: scores[step])  # the first of equals
    state = json.loads((tmp_path / "checkpoint" / "state.json").read_text())
    assert (state["best_step"], state["best_rouge"]) == (best, scores[best])
    assert isinstance(events[-1], Finished) and events[-1].validation_loss == found[best].loss


def test_without_that_metric_no_rouge_is_computed(config: TrainConfig, tmp_path: Path) -> None:
    events = train(changed(config, max_steps=1), tmp_path)
    assert [e.rougeL for e in events if isinstance(e, Evaluated)] == [None, None]


def test_the_first_step_already_learns(config: TrainConfig, tmp_path: Path) -> None:
    rates = {}
    for schedule in ("linear", "cosine", "constant"):
        settings = changed(config, schedule=schedule, warmup_ratio=0.25, max_steps=8)
        events = train(settings, tmp_path / schedule)
        rates[schedule] = [e.learning_rate for e in events if isinstance(e, Step)]
    rate = config.learning_rate
    for told in rates.values():
        assert told[:3] == pytest.approx([rate / 3, 2 * rate / 3, rate])
    assert rates["constant"][2:] == [rate] * 6
    assert rates["linear"][2:] == pytest.approx([rate * left / 6 for left in range(6, 0, -1)])
    assert rates["cosine"][5] == pytest.approx(rate / 2) and 0 < rates["cosine"][-1] < rate / 10


def test_label_smoothing_changes_training_and_leaves_validation_as_it_is(
    config: TrainConfig, tmp_path: Path
) -> None:
    plain, smooth = (
        list(train(changed(config, max_steps=1, label_smoothing=share), tmp_path / str(share)))
        for share in (0.0, 0.2)
    )
    assert plain[1] == smooth[1] and isinstance(plain[1], Evaluated)
    assert losses(plain) != losses(smooth)


def test_gradient_checkpointing_computes_twice_and_changes_no_number(
    config: TrainConfig, tmp_path: Path
) -> None:
    from transformers.models.t5.modeling_t5 import T5LayerSelfAttention

    forwards = {"without": 0, "with": 0}
    stories = {}
    for name in forwards:

        def count(module: object, *_: object, name: str = name) -> None:
            forwards[name] += isinstance(module, T5LayerSelfAttention)

        # With the base's dropout both are computed the plain way, by modules that can be counted.
        settings = changed(
            config, gradient_checkpointing=name == "with", base_dropout=True, max_steps=5
        )
        with torch.nn.modules.module.register_module_forward_pre_hook(count):
            stories[name] = list(train(settings, tmp_path / name))
    assert losses(stories["without"]) == losses(stories["with"])
    assert same(weights(tmp_path / "without"), weights(tmp_path / "with"))
    # Five steps through two blocks of the encoder and two of the decoder.
    assert forwards["with"] - forwards["without"] == 5 * 4


def test_lora_plus_lets_b_learn_faster(config: TrainConfig, tmp_path: Path) -> None:
    config = changed(config, max_steps=1, loraplus_lr_ratio=16.0, weight_decay=0.0, keep="last")
    plain = changed(config, loraplus_lr_ratio=None)
    events = list(train(config, tmp_path / "plus")) + list(train(plain, tmp_path / "plain"))
    assert {e.learning_rate for e in events if isinstance(e, Step)} == {config.learning_rate}
    plus, same_rate = weights(tmp_path / "plus"), weights(tmp_path / "plain")
    # AdamW's first step is as long as its learning rate.
    for name, value in plus.items():
        if "lora_B" in name:
            torch.testing.assert_close(value, 16 * same_rate[name], rtol=1e-3, atol=1e-6)
        else:
            torch.testing.assert_close(value, same_rate[name])


def test_gradients_are_left_as_they_are_when_asked(config: TrainConfig, tmp_path: Path) -> None:
    short = changed(config, max_steps=3, max_grad_norm=1e-3, weight_decay=0.0)
    stories = [
        list(train(changed(short, max_grad_norm=norm), tmp_path / str(norm))) for norm in (0.0, 1e9)
    ]
    assert losses(stories[0]) == losses(stories[1])


def test_own_probe_questions_come_first_and_have_no_reference(
    config: TrainConfig, tmp_path: Path
) -> None:
    own = ["Who are you?", "What colour is the sea?"]
    events = list(train(changed(config, probe_questions=own, max_steps=1), tmp_path))
    for event in events:
        if isinstance(event, Probed):
            assert [probe.question for probe in event.probes[:2]] == own
            assert [bool(probe.reference) for probe in event.probes] == [False, False, True, True]


def test_a_new_run_goes_on_from_an_adapter(
    config: TrainConfig, tmp_path: Path, tiny_model: Path
) -> None:
    from qa_lora import runs

    first = runs.create(config, tmp_path / "runs")
    before = list(train(config, first.path))
    assert isinstance(before[-1], Finished)
    again = changed(config, init_adapter=first.id, lora_r=3, use_dora=True, max_steps=2)
    second = runs.create(again, tmp_path / "runs")
    assert second.config().init_adapter == str(first.path.resolve())
    events = list(train(second.config(), second.path))
    started, evaluated = events[:2]
    assert isinstance(started, Started) and isinstance(evaluated, Evaluated)
    assert started.notice == (
        "LoRA settings come from the adapter that training goes on from, so lora_r, use_dora do "
        "not count."
    )
    assert evaluated.loss == pytest.approx(before[-1].validation_loss, rel=1e-6)
    shapes = [{k: v.shape for k, v in weights(run.path).items()} for run in (first, second)]
    assert shapes[0] == shapes[1] and not same(weights(first.path), weights(second.path))


def test_an_adapter_of_another_base_is_refused(config: TrainConfig, tmp_path: Path) -> None:
    list(train(changed(config, max_steps=1), tmp_path / "first"))
    other = changed(config, model="pocket", init_adapter=str(tmp_path / "first" / "adapter"))
    with pytest.raises(ModelError, match=r"was trained on .*, not on pocket\. Set model to"):
        list(train(other, tmp_path / "second"))
    nowhere = changed(config, init_adapter=str(tmp_path / "nowhere"))
    with pytest.raises(QALoRAError, match="no run"):
        list(train(nowhere, tmp_path / "third"))


def test_an_adapter_that_training_makes_worse_stays(config: TrainConfig, tmp_path: Path) -> None:
    list(train(config, tmp_path / "first"))
    worse = changed(
        config, init_adapter=str(tmp_path / "first" / "adapter"), learning_rate=1.0, max_steps=2
    )
    list(train(worse, tmp_path / "second"))
    assert same(weights(tmp_path / "first"), weights(tmp_path / "second"))
