"""Trackers: what is sent there, and that a training does not need them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator

from qa_lora.config import TrainConfig
from qa_lora.errors import ConfigError
from qa_lora.events import Evaluated, Finished, Step
from qa_lora.tracking import check_installed
from qa_lora.training import train


@pytest.fixture
def config(tiny_model: Path, qa_csv: Path) -> TrainConfig:
    return TrainConfig.build(
        model=str(tiny_model),
        data=str(qa_csv),
        max_steps=4,
        evaluate_every=2,
        probe_rows=0,
        score_rows=0,
        precision="fp32",
        report_to="tensorboard",
    )


def test_tensorboard_gets_every_loss(config: TrainConfig, tmp_path: Path) -> None:
    events = list(train(config, tmp_path / "run"))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    written = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    written.Reload()
    for tag, kind in (("train/loss", Step), ("validation/loss", Evaluated)):
        told = [(e.step, e.loss) for e in events if isinstance(e, kind)]  # type: ignore[attr-defined]
        assert [scalar.step for scalar in written.Scalars(tag)] == [step for step, _ in told]
        values = [scalar.value for scalar in written.Scalars(tag)]
        assert values == pytest.approx([loss for _, loss in told], rel=1e-6)
    assert {"train/learning_rate", "validation/perplexity"} <= set(written.Tags()["scalars"])


@pytest.mark.parametrize("where", ["init_trackers", "log"])
def test_a_tracker_that_fails_ends_nothing_else(
    config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    where: str,
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(Accelerator, where, broken)
    with caplog.at_level(logging.WARNING, "qa_lora"):
        events = list(train(config, tmp_path))
    assert isinstance(events[-1], Finished) and events[-1].step == 4
    (record,) = [r for r in caplog.records if r.name == "qa_lora.tracking"]
    assert "no route to host" in record.message and "goes on without it" in record.message


def test_a_missing_package_is_one_sentence_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check_installed("none")
    check_installed("tensorboard")
    monkeypatch.setattr("qa_lora.tracking.find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        check_installed("trackio")
    assert str(caught.value) == (
        "The setting report_to names trackio, which is not installed. "
        "Install it: pip install trackio."
    )
