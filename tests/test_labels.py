"""Names and notes of runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qa_lora.errors import ConfigError, RunError
from qa_lora.labels import LONGEST_NOTE, LONGEST_TITLE, Label, read_label, write_label
from tests.made_runs import made_run


def test_a_label_is_written_read_and_taken_away(tmp_path: Path) -> None:
    run = made_run(tmp_path, "one")
    assert read_label(run.path) == Label()
    assert write_label(run, title=" Two\nlines\tof  it ") == Label("Two lines of it")
    assert write_label(run, note="first\r\nsecond") == Label("Two lines of it", "first\nsecond")
    assert read_label(run.path) == Label("Two lines of it", "first\nsecond")
    assert write_label(run, title="") == Label("", "first\nsecond")
    assert run.path.name == "one" and not list(run.path.glob(".label*"))


def test_what_turns_or_hides_text_is_left_out(tmp_path: Path) -> None:
    run = made_run(tmp_path, "one")
    label = write_label(run, title="a\u202eb\x1b[31m\x00c\ud800", note="👨\u200d👩 <b>")
    assert label == Label("ab[31mc", "👨\u200d👩 <b>")
    assert read_label(run.path) == label


def test_what_is_too_long_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    run = made_run(tmp_path, "one")
    write_label(run, title="x" * LONGEST_TITLE, note="y" * LONGEST_NOTE)
    with pytest.raises(ConfigError, match="at most 80 characters; this one has 81"):
        write_label(run, title="x" * (LONGEST_TITLE + 1))
    with pytest.raises(ConfigError, match="2,000"):
        write_label(run, note="y" * (LONGEST_NOTE + 1))
    assert read_label(run.path).title == "x" * LONGEST_TITLE


def test_a_long_label_of_another_hand_is_cut_and_a_damaged_one_mended(tmp_path: Path) -> None:
    run = made_run(tmp_path, "one")
    path = run.path / "label.json"
    path.write_text(json.dumps({"title": "x" * 500, "more": 1}))
    assert read_label(run.path) == Label("x" * LONGEST_TITLE)
    path.write_text("{")
    with pytest.raises(RunError, match="damaged"):
        read_label(run.path)
    assert write_label(run, title="new") == read_label(run.path) == Label("new")


def test_a_link_is_neither_read_nor_written_through(tmp_path: Path) -> None:
    run = made_run(tmp_path / "runs", "one")
    secret = tmp_path / "secret.json"
    secret.write_text('{"title": "secret"}')
    (run.path / "label.json").symlink_to(secret)
    with pytest.raises(RunError):
        read_label(run.path)
    write_label(run, title="mine")
    assert secret.read_text() == '{"title": "secret"}'
    assert not (run.path / "label.json").is_symlink()
