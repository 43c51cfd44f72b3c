"""What a page draws: downsampled, smoothed, folded from the log."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qa_lora import event_log, runs
from qa_lora import events as ev
from qa_lora.config import TrainConfig
from qa_lora.runs import Run
from qa_lora.ui import series
from qa_lora.ui.engine import Engine
from qa_lora.ui.train_view import slot_html


def step(number: int, loss: float = 1.0) -> ev.Step:
    return ev.Step(number, number / 10, loss, 1e-3, 1.0, 100.0, number, 5.0, 10**9)


def started(at: int = 0, total: int = 100) -> ev.Started:
    return ev.Started(at, total, 1, 2, 3, 4, 5, "abc", "cpu", "fp32", 0.0)


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3000),
    st.integers(min_value=4, max_value=400),
)
def test_downsampling_keeps_ends_extremes_and_order(losses: list[float], limit: int) -> None:
    x, y = np.arange(len(losses), dtype=float), np.array(losses)
    few_x, few_y = series.downsample(x, y, limit)
    assert len(few_x) <= max(limit, 4)
    assert few_x[0] == x[0] and few_x[-1] == x[-1] and (np.diff(few_x) > 0).all()
    assert few_y.min() == y.min() and few_y.max() == y.max()
    assert set(zip(few_x, few_y, strict=True)) <= set(zip(x, y, strict=True))


@given(st.lists(st.floats(0, 100), min_size=1, max_size=500), st.floats(0, 1))
def test_smoothing_stays_inside_the_values(losses: list[float], amount: float) -> None:
    y = np.array(losses)
    smoothed = series.smooth(y, amount)
    assert len(smoothed) == len(y)
    assert (smoothed >= y.min() - 1e-9).all() and (smoothed <= y.max() + 1e-9).all()


def test_smoothing_is_off_at_zero_and_flattens_at_one() -> None:
    y = np.array([0.0, 1.0] * 200)
    assert (series.smooth(y, 0.0) == y).all()
    assert series.smooth(y, 1.0).std() < y.std() / 5


def test_a_log_is_read_once_and_then_only_its_news(tmp_path: Path) -> None:
    run = Run(tmp_path)
    followers = series.Followers()
    event_log.append(run.events_path, started())
    event_log.append(run.events_path, step(1, 2.0))
    first = followers.progress(run)
    assert first.losses == [2.0] and first.fraction() == 0.01
    version = first.version
    assert followers.progress(run).version == version
    event_log.append(run.events_path, step(2, float("nan")))
    event_log.append(run.events_path, step(3, 1.0))
    now = followers.progress(run)
    assert now.steps == [1, 3] and now.last_step == step(3) and now.version > version


def test_a_resumed_run_draws_no_step_twice(tmp_path: Path) -> None:
    run = Run(tmp_path)
    followers = series.Followers()
    for event in (started(), step(1), step(2), ev.Evaluated(2, 1.0, 2.7), step(3)):
        event_log.append(run.events_path, event)
    before = followers.progress(run).version
    event_log.truncate(run.events_path, 2)
    event_log.append(run.events_path, started(2))
    event_log.append(run.events_path, step(3, 0.5))
    progress = followers.progress(run)
    assert progress.steps == [1, 2, 3] and progress.losses[-1] == 0.5
    assert progress.validation == [(2, 1.0)] and progress.version > before


def test_the_page_says_that_memory_ran_out(tmp_path: Path) -> None:
    run = runs.create(TrainConfig(), tmp_path)
    run.claim()
    for event in (started(), ev.MemoryRanOut(0, 4, 1024), step(1)):
        event_log.append(run.events_path, event)
    engine = Engine(tmp_path)
    shown = slot_html(engine, run, engine.followers.progress(run))
    assert "at most 4 rows and 1,024 tokens are computed at once" in shown
    assert "the result stays the same" in shown


def test_a_hundred_thousand_steps_are_drawn_small_and_fast(tmp_path: Path) -> None:
    import time

    from qa_lora.ui.charts import loss_chart

    steps = list(range(1, 100_001))
    losses = [1 / n**0.2 for n in steps]
    begin = time.perf_counter()
    html = loss_chart(steps, losses, [(n, 0.5) for n in range(0, 100_000, 1000)], 100_000)
    assert len(html) < 60_000
    assert time.perf_counter() - begin < 1.0


@pytest.mark.parametrize("log", [False, True])
def test_a_chart_of_nothing_or_of_one_point_is_drawn(log: bool) -> None:
    from qa_lora.ui.charts import loss_chart

    assert "Waiting" in loss_chart([], [], [], 100, log=log, waiting="Waiting")
    assert "<path" in loss_chart([1], [0.0], [(1, 0.0)], 1, log=log, smoothing=0.5)


@given(st.floats(0, 1e4), st.floats(1e-3, 1e4))
def test_a_linear_axis_holds_both_ends_with_few_round_values(low: float, span: float) -> None:
    from qa_lora.ui.charts import Axis

    axis = Axis.linear(low, low + span)
    assert axis.low <= low + 1e-6 and axis.high >= low + span - 1e-6
    assert 2 <= len(axis.ticks) <= 9
    assert 0 <= axis.place(low) <= axis.place(low + span) <= 1
