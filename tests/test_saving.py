"""When a checkpoint is due."""

from __future__ import annotations

import pytest

from qa_lora.saving import SAVING_SHARE, CheckpointClock


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set."""
    time = [100.0]
    monkeypatch.setattr("qa_lora.saving.time.monotonic", lambda: time[0])
    return time


def test_by_steps_alone(now: list[float]) -> None:
    clock = CheckpointClock(4, None)
    now[0] = 1e9
    assert [step for step in range(1, 13) if clock.due(step)] == [4, 8, 12]


def test_by_time_or_steps_whichever_comes_first(now: list[float]) -> None:
    clock = CheckpointClock(100, 60.0)
    now[0] = 159.0
    assert not clock.due(7) and clock.due(100)
    now[0] = 160.0
    assert clock.due(7)
    clock.saved(0.01)
    assert not clock.due(8)
    now[0] = 220.0
    assert clock.due(9)


def test_a_slow_disk_is_not_written_to_all_the_time(now: list[float]) -> None:
    clock = CheckpointClock(1000, 60.0)
    clock.saved(6.0)
    now[0] = 100.0 + 6.0 / SAVING_SHARE - 1
    assert not clock.due(7)
    now[0] += 1
    assert clock.due(7)
