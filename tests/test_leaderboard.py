"""Runs side by side, exactly where they were scored on the same questions."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from qa_lora import runs
from qa_lora.checksums import read_checksums, write_checksums
from qa_lora.config import TrainConfig
from qa_lora.report import read_report, save_report
from qa_lora.report.leaderboard import Leaderboard
from tests.made_reports import make_report

BASE, GOOD, BETTER = [0.1, 0.2, 0.3], [0.5, 0.6, 0.6], [0.7, 0.9, 0.9]


def make_run(folder: Path, name: str, **settings: object) -> runs.Run:
    return runs.create(TrainConfig.build(name=name, **settings), folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def test_only_runs_on_the_same_questions_share_a_board(folder):
    one, two = make_run(folder, "one"), make_run(folder, "two", lora_r=32)
    save_report(make_report({"base": BASE, "tuned": GOOD}), one.evaluations_dir)
    save_report(make_report({"base": BASE, "tuned": BETTER}), two.evaluations_dir)
    save_report(make_report({"base": BASE, "tuned": BETTER}, text="else"), one.evaluations_dir)
    boards = Leaderboard(folder).boards()
    assert [len(board.standings) for board in boards] == [2, 1]
    assert [each.run.id for each in boards[0].ranked("rougeL")] == [two.id, one.id]
    assert boards[0].rows == 3 and boards[0].data == "atlas"


def test_the_newest_complete_evaluation_counts(folder):
    run = make_run(folder, "one")
    for number, tuned in enumerate((GOOD, BETTER, GOOD), 1):
        report = make_report({"base": BASE, "tuned": tuned}, complete=number < 3)
        save_report(report, run.evaluations_dir)
        os.utime(run.evaluations_dir / f"{number}.json", (number, number))
    (standing,) = Leaderboard(folder).boards()[0].standings
    assert standing.number == 2 and standing.scores["rougeL"] == pytest.approx(2.5 / 3)


def test_adapters_scored_beside_another_run_stand_for_themselves(folder):
    one, two = make_run(folder, "one"), make_run(folder, "two")
    report = make_report({"base": BASE, "tuned": GOOD, two.id: BETTER, "folder": BASE})
    save_report(report, one.evaluations_dir)
    ranked = Leaderboard(folder).boards()[0].ranked("rougeL")
    assert [(each.run.id, each.holder.id) for each in ranked] == [
        (two.id, one.id), (one.id, one.id),
    ]  # fmt: skip


def test_only_settings_that_differ_are_told(folder):
    one, two = make_run(folder, "one"), make_run(folder, "two", lora_r=32)
    save_report(make_report({"base": BASE, "tuned": GOOD}), one.evaluations_dir)
    other = make_report({"base": BASE, "tuned": GOOD}, settings={"max_new_tokens": 8})
    save_report(other, two.evaluations_dir)
    board = Leaderboard(folder)
    assert board.differing(board.boards()[0].standings) == {
        "answers: max_new_tokens": {one.id: 128, two.id: 8},
        "lora_r": {one.id: one.config().lora_r, two.id: 32},
    }


def test_an_adapter_trained_on_since_is_marked(folder):
    run = make_run(folder, "one")
    save_report(make_report({"base": BASE, "tuned": GOOD}), run.evaluations_dir)
    board = Leaderboard(folder)
    assert not board.boards()[0].standings[0].newer_adapter
    run.adapter.mkdir()
    (run.adapter / "adapter_config.json").write_text("{}")
    later = (run.evaluations_dir / "1.json").stat().st_mtime + 5
    os.utime(run.adapter / "adapter_config.json", (later, later))
    assert board.boards()[0].standings[0].newer_adapter

    # Where weights and report say what they are, times count no more.
    (run.adapter / "adapter_model.safetensors").write_bytes(b"x")
    write_checksums(run.adapter)
    digest = read_checksums(run.adapter)["adapter_model.safetensors"]
    made = make_report({"base": BASE, "tuned": GOOD})
    for known in (digest, "0" * 64):
        settings = made.settings | {"adapter_digests": {"tuned": known}}
        save_report(dataclasses.replace(made, settings=settings), run.evaluations_dir)
        os.utime(run.adapter / "adapter_config.json", (later + 99, later + 99))
        assert board.boards()[0].standings[0].newer_adapter == (known != digest)


def test_files_are_read_once_and_damaged_ones_left_out(folder, monkeypatch):
    for place in range(4):
        run = make_run(folder, f"r{place}")
        save_report(make_report({"base": BASE, "tuned": GOOD}), run.evaluations_dir)
    (run.evaluations_dir / "1.json").write_text("{")
    (run.evaluations_dir / "1.parquet").unlink()
    read = []
    real = read_report

    def counted(folder: Path, number: int, **options: bool) -> object:
        assert options == {"examples": False}
        read.append(folder)
        return real(folder, number, **options)

    monkeypatch.setattr("qa_lora.report.leaderboard.read_report", counted)
    board = Leaderboard(folder)
    for _ in range(3):
        assert len(board.boards()[0].standings) == 3
    assert len(read) == 4
    values = make_report({"base": BASE, "tuned": BETTER}).to_dict()
    (run.evaluations_dir / "1.json").write_text(json.dumps(values))
    assert len(board.boards()[0].standings) == 4
    assert len(read) == 5


def test_an_empty_folder_has_no_board(folder):
    assert Leaderboard(folder).boards() == []
