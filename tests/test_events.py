"""Events: one line of JSON there and back, and no line can harm a reader."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qa_lora.events import (
    Checkpointed,
    Evaluated,
    Event,
    Failed,
    Finished,
    Probe,
    Probed,
    Scored,
    Scoring,
    Started,
    Step,
    from_json,
    to_json,
)

KINDS = (Started, Step, Evaluated, Probed, Checkpointed, Finished, Failed, Scoring, Scored)
NUMBERS = st.floats(allow_nan=False)
BY_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(min_value=0),
    "float": NUMBERS,
    "float | None": st.none() | NUMBERS,
    "str": st.text(),
    "FinishReason": st.sampled_from(["completed", "stopped", "early_stopped", "out_of_time"]),
    "tuple[Probe, ...]": st.lists(
        st.builds(Probe, question=st.text(), reference=st.text(), answer=st.text())
    ).map(tuple),
    "dict[str, float]": st.dictionaries(st.text(), NUMBERS),
    "dict[str, dict[str, float]]": st.dictionaries(st.text(), st.dictionaries(st.text(), NUMBERS)),
}


def of_kind(kind: type[Any]) -> st.SearchStrategy[Event]:
    return st.builds(kind, **{f.name: BY_TYPE[str(f.type)] for f in dataclasses.fields(kind)})


events = st.one_of([of_kind(kind) for kind in KINDS])


@given(events)
@settings(deadline=None, max_examples=80)
def test_an_event_comes_back_from_its_line(event: Event) -> None:
    line = to_json(event)
    assert "\n" not in line and "\r" not in line
    assert from_json(line) == event


def test_the_line_is_what_other_programs_read() -> None:
    event = Probed(step=3, probes=(Probe("Où ?", "là", 'a "b"\n\u2028'),))
    assert json.loads(to_json(event)) == {
        "type": "probed",
        "step": 3,
        "probes": [{"question": "Où ?", "reference": "là", "answer": 'a "b"\n\u2028'}],
    }
    assert "Où" in to_json(event)


def test_each_kind_has_a_name_of_its_own() -> None:
    assert len({kind.type for kind in KINDS}) == len(KINDS)


@given(events, st.data())
@settings(deadline=None, max_examples=60)
def test_a_torn_line_is_no_event(event: Event, data: st.DataObject) -> None:
    line = to_json(event)
    cut = data.draw(st.integers(min_value=0, max_value=len(line) - 1))
    assert from_json(line[:cut]) is None


@given(events)
@settings(deadline=None, max_examples=40)
def test_a_field_of_a_later_version_is_ignored(event: Event) -> None:
    values = json.loads(to_json(event)) | {"mood": ["new"]}
    for probe in values.get("probes", ()):
        probe["mood"] = "new"
    assert from_json(json.dumps(values)) == event


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{}",
        "[]",
        "5",
        "null",
        '"step"',
        "\0\0\0",
        '{"type": "step"}',
        '{"type": ["step"]}',
        '{"type": "dreamt", "step": 1}',
        '{"type": "checkpointed"}',
        '{"type": "probed", "step": 1}',
        '{"type": "probed", "step": 1, "probes": 5}',
        '{"type": "probed", "step": 1, "probes": [5]}',
        '{"type": "probed", "step": 1, "probes": [{"question": "q"}]}',
    ],
)
def test_what_is_no_event_is_none(line: str) -> None:
    assert from_json(line) is None


@given(st.text())
@settings(deadline=None, max_examples=100)
def test_no_text_breaks_the_reader(text: str) -> None:
    assert from_json(text) is None


def test_events_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Checkpointed(1).step = 2  # type: ignore[misc]
