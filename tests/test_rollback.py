"""A loss that is no number: stop and say so, or go back once with half the learning rate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import qa_lora.training as training
from qa_lora import runs
from qa_lora.config import TrainConfig
from qa_lora.errors import NonFiniteLossError
from qa_lora.events import Checkpointed, Evaluated, Event, Failed, RolledBack, Step
from qa_lora.runs import Run
from qa_lora.worker import execute

RATE = 5e-3


@pytest.fixture
def make_run(tiny_model: Path, qa_csv: Path, tmp_path: Path) -> Callable[..., Run]:
    def make(**settings: Any) -> Run:
        defaults: dict[str, Any] = {
            "model": str(tiny_model),
            "data": str(qa_csv),
            "max_steps": 12,
            "learning_rate": RATE,
            "schedule": "constant",
            "warmup_ratio": 0,
            "evaluate_every": 3,
            "checkpoint_every": 4,
            "checkpoint_seconds": None,
            "max_new_tokens": 4,
            "probe_rows": 0,
            "score_rows": 0,
            "precision": "fp32",
            "on_nonfinite_loss": "retry",
        }
        return runs.create(TrainConfig.build(**{**defaults, **settings}), tmp_path / "runs")

    return make


@pytest.fixture
def diverges(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the loss no number in a step, if the learning rate is higher than some."""
    real = training.optimizer_step

    def arrange(step: int, above: float) -> None:
        def optimizer_step(run: Any, *args: Any) -> Any:
            if run.progress.step + 1 == step and run.optimizer.param_groups[0]["lr"] > above:
                raise NonFiniteLossError(f"The loss became nan in step {step}")
            return real(run, *args)

        monkeypatch.setattr(training, "optimizer_step", optimizer_step)

    return arrange


def of(kind: type[Event], events: list[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_it_goes_back_once_and_the_log_tells_one_story(
    make_run: Callable[..., Run], diverges: Callable[..., None]
) -> None:
    diverges(step=11, above=RATE / 2)
    run = make_run()
    told = list(execute(run))
    (back,) = of(RolledBack, told)
    assert back.step == 8 and back.learning_rate == RATE / 2
    assert back.reason == ("The loss became nan in step 11; what was saved before it is kept.")
    written = run.events()
    steps = of(Step, written)
    assert [step.step for step in steps] == list(range(1, 13))
    assert [step.learning_rate for step in steps] == [RATE] * 8 + [RATE / 2] * 4
    assert [look.step for look in of(Evaluated, written)] == [0, 3, 6, 9, 12]
    at = written.index(back)
    assert [type(e) for e in written[at - 1 : at + 2]] == [Checkpointed, RolledBack, Checkpointed]
    assert run.status() == "finished"


def test_it_goes_back_to_the_start_where_nothing_else_was_saved(
    make_run: Callable[..., Run], diverges: Callable[..., None]
) -> None:
    diverges(step=3, above=RATE / 2)
    run = make_run()
    list(execute(run))
    (back,) = of(RolledBack, run.events())
    assert back.step == 0
    assert [look.step for look in of(Evaluated, run.events())] == [0, 3, 6, 9, 12]
    assert {step.learning_rate for step in of(Step, run.events())} == {RATE / 2}


@pytest.mark.parametrize(
    ("settings", "above", "rolled_back"),
    [({}, 0.0, 1), ({"on_nonfinite_loss": "stop"}, RATE / 2, 0)],
    ids=["a second time", "by default"],
)
def test_it_stops_and_says_so(
    make_run: Callable[..., Run],
    diverges: Callable[..., None],
    settings: dict[str, Any],
    above: float,
    rolled_back: int,
) -> None:
    diverges(step=11, above=above)
    run = make_run(**settings)
    with pytest.raises(NonFiniteLossError, match=r"nan in step 11.*lower learning rate"):
        list(execute(run))
    events = run.events()
    assert isinstance(events[-1], Failed) and len(of(RolledBack, events)) == rolled_back
    assert run.status() == "failed" and run.can_resume()


def test_a_first_step_is_not_tried_again(
    make_run: Callable[..., Run], diverges: Callable[..., None]
) -> None:
    diverges(step=1, above=RATE / 2)
    run = make_run()
    with pytest.raises(NonFiniteLossError):
        list(execute(run))
    assert of(RolledBack, run.events()) == []


@pytest.mark.parametrize("at", [8, 10])
def test_a_run_that_is_resumed_afterwards_keeps_the_lower_rate(
    make_run: Callable[..., Run], diverges: Callable[..., None], at: int
) -> None:
    diverges(step=11, above=RATE / 2)
    whole, parts = make_run(), make_run()
    list(execute(whole))
    went_back = False
    for event in execute(parts):
        went_back = went_back or isinstance(event, RolledBack)
        saved = isinstance(event, Checkpointed) and at == 8
        if went_back and event.step == at and (saved or at == 10):  # type: ignore[union-attr]
            break
    list(execute(parts, resume=True))
    stories = [
        [(e.step, e.loss, e.learning_rate) for e in of(Step, run.events())]
        for run in (whole, parts)
    ]
    assert stories[0] == stories[1] and len(of(RolledBack, parts.events())) == 1
    weights = [run.adapter / "adapter_model.safetensors" for run in (whole, parts)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
