"""The event log: followed while it is written, torn, taken back and written again."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qa_lora.event_log import EventReader, append, last_word, truncate
from qa_lora.events import (
    Checkpointed,
    Evaluated,
    Event,
    Failed,
    Finished,
    Probe,
    Probed,
    Recovered,
    Scored,
    Scoring,
    Started,
    Step,
)

STARTED = Started(0, 100, 8, 80, 10, 2, 2, "0a1b", "CPU, 2 cores", "fp32", 1.5)
FINISHED = Finished(9, "stopped", 1.0, 1.0, 2.0, 10.0)


def step(number: int, loss: float = 1.25) -> Step:
    return Step(number, number / 10, loss, 1e-3, 0.5, 100.0, float(number), 10.0, 2**20)


def story(steps: int, every: int = 4) -> list[Event]:
    """A training's events, as the loop tells them."""
    told: list[Event] = [STARTED, Evaluated(0, 3.0, 20.0)]
    for number in range(1, steps + 1):
        told.append(step(number))
        if number % every == 0:
            told += [Evaluated(number, 1.0, 2.7), Checkpointed(number)]
    return told


def write(path: Path, events: list[Event]) -> Path:
    path.unlink(missing_ok=True)
    for event in events:
        append(path, event)
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


any_event = st.one_of(
    st.builds(Failed, step=st.integers(0, 9), error=st.text(), hint=st.text()),
    st.builds(
        lambda answer: Probed(1, (Probe("q", "r", answer),)),
        # Everything that some reader takes for the end of a line.
        st.text(alphabet='ab\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029\0é😀\\"'),
    ),
    st.builds(step, st.integers(1, 9)),
)


@given(events=st.lists(any_event, max_size=6), data=st.data())
@settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_follower_sees_every_event_once_however_the_bytes_arrive(
    tmp_path: Path, events: list[Event], data: st.DataObject
) -> None:
    whole = write(tmp_path / "whole.jsonl", events)
    content = whole.read_bytes() if events else b""
    log = tmp_path / "events.jsonl"
    log.write_bytes(b"")
    reader, seen, at = EventReader(log), [], 0
    while at < len(content):
        size = data.draw(st.integers(min_value=1, max_value=len(content) - at))
        with log.open("ab") as file:
            file.write(content[at : at + size])
        at += size
        seen += reader.new()
        assert not reader.restarted
        assert len(seen) == content[:at].count(b"\n")
    assert seen == events
    assert reader.new() == []


def test_a_log_that_is_not_there_yet(log: Path) -> None:
    reader = EventReader(log)
    assert reader.new() == [] and last_word(log) is None
    append(log, STARTED)
    assert reader.new() == [STARTED] and not reader.restarted


def test_damaged_lines_are_left_out(log: Path) -> None:
    write(log, [STARTED])
    with log.open("ab") as file:
        file.write(b'\xff\xfe\n\n{"type": "dreamt"}\nnot json\n')
    append(log, step(1))
    assert EventReader(log).new() == [STARTED, step(1)]


def test_a_torn_line_swallows_no_later_event(log: Path) -> None:
    write(log, [STARTED])
    with log.open("ab") as file:
        file.write(b'{"type": "step", "st')
    reader = EventReader(log)
    assert reader.new() == [STARTED]
    append(log, Failed(1, "No space left on device.", "Free some."))
    append(log, step(2))
    after: list[Event] = [Failed(1, "No space left on device.", "Free some."), step(2)]
    assert reader.new() == after
    assert EventReader(log).new() == [STARTED, *after]


def test_a_file_name_that_is_no_utf8_is_told_all_the_same(log: Path) -> None:
    failed = Failed(0, "No file \udce9t\udce9.csv.", "\\udce9 as text stays text.")
    append(log, failed)
    append(log, step(1))
    assert EventReader(log).new() == [failed, step(1)]
    truncate(log, 5)
    write(log, [Probed(1, (Probe("\udcff", "", ""),)), step(2)])
    before = EventReader(log).new()
    truncate(log, 5)
    assert EventReader(log).new() == before


@pytest.mark.parametrize("to", [0, 3, 4, 7, 8, 9])
def test_truncate_keeps_the_story_up_to_a_step(log: Path, to: int) -> None:
    write(log, [*story(9), FINISHED])
    truncate(log, to)
    kept = EventReader(log).new()
    assert kept == [event for event in story(9) if event.step <= to]  # type: ignore[union-attr]
    truncate(log, to)
    assert EventReader(log).new() == kept


@pytest.mark.parametrize(
    "end", [FINISHED, Failed(2, "It broke.", ""), Scoring(1, 2), Scored(1, 5)], ids=lambda e: e.type
)
def test_truncate_takes_the_end_back(log: Path, end: Event) -> None:
    write(log, [*story(4), end, step(5)])
    truncate(log, 9)
    assert EventReader(log).new() == story(4)


def test_truncate_takes_back_what_followed_the_checkpoint(log: Path) -> None:
    recovered = Recovered(4, "The checkpoint of step 8 was damaged.")
    last_look: list[Event] = [Evaluated(4, 0.5, 1.6), STARTED, recovered]
    write(log, [*story(4), recovered, *last_look])
    assert truncate(log, 4) == EventReader(log).new() == [*story(4), recovered]


def test_truncate_to_before_the_start_leaves_nothing(log: Path) -> None:
    write(log, story(4))
    assert truncate(log, -1) == EventReader(log).new() == []


def test_truncate_that_cannot_write_keeps_the_log(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(log, story(9))
    content = log.read_bytes()

    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            truncate(log, 4)
    assert log.read_bytes() == content and list(log.parent.iterdir()) == [log]


@pytest.mark.parametrize("later", [5, 9, 40])
def test_a_follower_is_told_that_a_resume_took_the_log_back(log: Path, later: int) -> None:
    write(log, story(9))
    reader = EventReader(log)
    reader.new()
    # Twice, as a resume does: the second file may get the inode of the first.
    truncate(log, 4)
    truncate(log, 4)
    again: list[Event] = [step(number, loss=0.5) for number in range(5, later + 1)]
    for event in again:
        append(log, event)
    assert reader.new() == [*story(4), *again]
    assert reader.restarted
    append(log, FINISHED)
    assert reader.new() == [FINISHED] and not reader.restarted


def test_a_log_written_again_in_place_is_read_from_its_start(log: Path) -> None:
    write(log, story(4))
    reader = EventReader(log)
    reader.new()
    inode = log.stat().st_ino
    other = write(log.with_name("other"), [step(n, loss=0.5) for n in range(1, 40)])
    log.write_bytes(other.read_bytes())
    assert log.stat().st_ino == inode
    assert reader.new() == [step(n, loss=0.5) for n in range(1, 40)]
    assert reader.restarted


def test_a_log_taken_back_to_what_was_read_is_simply_followed(log: Path) -> None:
    write(log, story(4))
    reader = EventReader(log)
    reader.new()
    append(log, step(5))
    truncate(log, 4)
    assert reader.new() == [] and not reader.restarted


@given(events=st.lists(any_event, max_size=5), torn=st.sampled_from([b"", b'{"type": "fail']))
@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_last_word_is_that_of_a_full_read(
    tmp_path: Path, events: list[Event], torn: bytes
) -> None:
    log = write(tmp_path / "events.jsonl", events)
    with log.open("ab") as file:
        file.write(torn)
    words = [e for e in events if isinstance(e, (Started, Step, Finished, Failed))]
    assert last_word(log) == (words[-1] if words else None)


def test_the_last_word_is_found_behind_a_long_answer_and_much_scoring(log: Path) -> None:
    write(log, [STARTED, step(1), FINISHED, Probed(1, (Probe("q", "r", "word " * 40_000),))])
    with log.open("ab") as file:
        file.write(b'{"type": "scoring", "done": 1, "total": 2}\n' * 3_000)
    assert last_word(log) == FINISHED
    append(log, Failed(9, "It broke.", ""))
    assert last_word(log) == Failed(9, "It broke.", "")
