"""Rows of runs: right, made once, and whatever is damaged harms nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from qa_lora import event_log, run_summaries, runs
from qa_lora.event_log import EventReader
from qa_lora.events import Evaluated, Failed, Step, from_json
from qa_lora.labels import write_label
from qa_lora.report import save_report
from qa_lora.run_order import ORDERS, arrange
from qa_lora.run_summaries import Summaries, summarize
from qa_lora.runs import Run
from tests.made_reports import make_report
from tests.made_runs import made_run, pretend_alive, started, step, story, with_adapter


def test_a_row_tells_what_the_folder_tells(tmp_path: Path) -> None:
    run = made_run(
        tmp_path, "2026-01-02-030405-one", *story(), data="atlas", lora_r=4, learning_rate=0.002
    )
    with_adapter(run)
    write_label(run, title="First", note="slow")
    row = summarize(run)
    assert (row.status, row.step, row.total_steps, row.finished) == ("finished", 3, 3, True)
    assert (row.best_validation_loss, row.validation_loss, row.seconds) == (1.0, 2.0, 12.0)
    assert (row.rouge_base, row.rouge_tuned, row.gain) == (0.2, 0.5, pytest.approx(0.3))
    assert (row.title, row.name, row.note) == ("First", "First", "slow")
    assert row.settings == "lora r 4, learning rate 0.002"
    assert row.has_adapter and not row.can_resume and not row.damage
    assert row.headline.startswith("ROUGE-L 0.20 -> 0.50")


def test_the_keys_of_the_contract_are_kept(tmp_path: Path) -> None:
    values = summarize(made_run(tmp_path, "done", *story())).to_dict()
    assert {"run", "status", "path", "step", "total_steps", "validation_loss", "headline"} <= set(
        values
    )
    new = summarize(made_run(tmp_path, "new")).to_dict()
    assert not {"step", "total_steps", "validation_loss", "headline", "place"} & set(new)
    json.dumps([values, new])


def test_a_scoring_that_failed_takes_nothing_from_the_training(tmp_path: Path) -> None:
    run = made_run(tmp_path, "done", *story(rouge=None), Failed(3, "No memory.", "Score fewer."))
    row = summarize(run)
    assert row.status == "failed" and row.finished
    assert row.to_dict()["validation_loss"] == 2.0


def test_a_run_that_goes_on_forgets_what_it_repeats(tmp_path: Path) -> None:
    run = made_run(tmp_path, "again", started(9), Evaluated(0, 3.0, 1.0), step(1), step(2))
    event_log.append(run.events_path, Evaluated(2, 0.5, 1.0))
    for event in (started(9, at=1), step(2)):
        event_log.append(run.events_path, event)
    row = summarize(run)
    assert (row.best_validation_loss, row.step, row.status) == (3.0, 2, "interrupted")
    assert row.can_resume


def test_scores_of_a_later_evaluation_count_where_training_scored_none(tmp_path: Path) -> None:
    run = made_run(tmp_path, "late", *story(rouge=None))
    assert summarize(run).rouge_tuned is None
    rows = Summaries()
    assert rows.rows([(run, "finished")])[0].gain is None
    save_report(make_report({"base": [0.1, 0.3], "tuned": [0.6, 0.8]}), run.evaluations_dir)
    (row,) = rows.rows([(run, "finished")])
    assert (row.rouge_base, row.rouge_tuned) == (pytest.approx(0.2), pytest.approx(0.7))


def test_a_resting_run_is_read_once_and_a_changed_one_again(tmp_path, monkeypatch) -> None:
    read: list[str] = []
    before = run_summaries.summarize
    monkeypatch.setattr(
        run_summaries, "summarize", lambda run, status: read.append(run.id) or before(run, status)
    )
    one, two = made_run(tmp_path, "one", *story()), made_run(tmp_path, "two", *story())
    rows = Summaries()
    pairs = [(one, "finished"), (two, "finished")]
    assert rows.rows(pairs) == rows.rows(pairs) and read == ["one", "two"]
    write_label(two, title="Two")
    assert [row.name for row in rows.rows(pairs)] == ["one", "Two"] and read == [
        "one",
        "two",
        "two",
    ]
    event_log.append(one.events_path, step(9))
    assert rows.rows([(one, "interrupted")])[0].step == 9


def test_rows_are_found_by_words_and_status_and_sorted(tmp_path: Path) -> None:
    made_run(tmp_path, "a", *story((2.0,), rouge=(0.2, 0.9)), lora_r=4)
    made_run(tmp_path, "b", *story((1.0,), rouge=(0.2, 0.3)))
    made_run(tmp_path, "c", started(), step(1))
    write_label(Run(tmp_path / "b"), title="Älter", note="bad data")
    rows = [summarize(run) for run in runs.list_runs(tmp_path)]

    def ids(**wanted: str) -> str:
        return "".join(row.id for row in arrange(rows, **wanted))

    assert ids() == "cba" and ids(order="oldest") == "abc"
    assert ids(order="loss") == "bac" and ids(order="rouge") == "abc" and ids(order="gain") == "abc"
    assert ids(text="LORA r 4") == "a" and ids(text="älter BAD") == "b" and ids(text="zebra") == ""
    assert ids(status="interrupted") == "c" and ids(status="finished", order="loss") == "ba"
    assert all(sorted(ids(order=order)) == ["a", "b", "c"] for order in ORDERS)


GARBAGE = bytes(range(256)) * 40


def _no_config(folder: Path) -> None:
    (folder / "config.yaml").unlink()


def _config_folder(folder: Path) -> None:
    _no_config(folder)
    (folder / "config.yaml").mkdir()


def _config_link(folder: Path) -> None:
    (folder / "config.yaml").rename(folder.parent / "outside.yaml")
    (folder / "config.yaml").symlink_to(folder.parent / "outside.yaml")


def _log_folder(folder: Path) -> None:
    (folder / "events.jsonl").unlink()
    (folder / "events.jsonl").mkdir()


def _log_link(folder: Path) -> None:
    (folder / "events.jsonl").rename(folder.parent / "outside.jsonl")
    (folder / "events.jsonl").symlink_to(folder.parent / "outside.jsonl")


def _write(name: str, data: bytes):
    return lambda folder: (folder / name).write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "said"),
    {
        "no settings": (_no_config, "config.yaml is missing"),
        "settings are a folder": (_config_folder, "config.yaml is no file"),
        "settings are a link": (_config_link, "link"),
        "settings are no YAML": (_write("config.yaml", b"a: [b"), "not valid YAML"),
        "settings are no text": (_write("config.yaml", GARBAGE), "cannot be read"),
        "settings too deep": (_write("config.yaml", b"[" * 300_000), "not valid YAML"),
        "unknown settings": (_write("config.yaml", b"zebra: 1"), "zebra"),
        "log is a folder": (_log_folder, "events.jsonl is no file"),
        "log is a link": (_log_link, "link"),
        "log is garbage": (_write("events.jsonl", GARBAGE), "holds no event"),
        "label is garbage": (_write("label.json", GARBAGE), "label.json"),
        "label is a list": (_write("label.json", b"[1]"), "label.json"),
        "label of numbers": (_write("label.json", b'{"title": 1}'), "label.json"),
        "label is deep": (_write("label.json", b"[" * 50_000), "label.json"),
    }.values(),
)
def test_a_damaged_run_is_said_to_be_so_and_the_others_are_as_they_were(
    tmp_path: Path, damage, said: str
) -> None:
    runs_dir = tmp_path / "runs"
    made_run(runs_dir, "good", *story())
    bad = made_run(runs_dir, "bad", *story())
    damage(bad.path)
    listed = runs.list_runs(runs_dir)
    assert [run.id for run in listed] == ["good", "bad"]
    good, row = Summaries().rows((run, run.status()) for run in listed)
    assert row.status == "damaged" and said in row.damage and row.damage.endswith((".", "…"))
    assert good.status == "finished" and good.rouge_tuned == 0.5
    json.dumps(row.to_dict())


def test_a_linked_run_folder_is_damaged_and_not_read(tmp_path: Path) -> None:
    run = made_run(tmp_path / "else", "real", *story())
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "linked").symlink_to(run.path)
    (listed,) = runs.list_runs(tmp_path / "runs")
    row = summarize(listed)
    assert row.status == "damaged" and "link" in row.damage and row.rouge_tuned is None


def test_what_is_no_run_is_not_listed(tmp_path: Path) -> None:
    made_run(tmp_path, "run", *story())
    for name in (".trash", ".adapters", "uploads", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / ".trash" / "events.jsonl").write_text("")
    (tmp_path / "votes.sqlite").write_text("")
    (tmp_path / os.fsdecode(b"\xff")).mkdir()
    (tmp_path / os.fsdecode(b"\xff") / "config.yaml").write_text("")
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / "checkpoint").mkdir()
    assert [run.id for run in runs.list_runs(tmp_path)] == ["run", "left"]


def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(event_log, "LONGEST_LINE", 4_000)
    run = made_run(tmp_path, "long", *story((1.0,)))
    with run.events_path.open("ab") as file:
        file.write(b"x" * 10_000)
    reader = EventReader(run.events_path)
    many = len(reader.new())
    assert many == len(story((1.0,))) and reader.new() == []
    event_log.append(run.events_path, step(7))
    assert [event.step for event in reader.new() if isinstance(event, Step)] == [7]
    assert not reader.restarted
    assert summarize(run).step == 7


@pytest.mark.parametrize(
    "line",
    [
        '{"type": "evaluated", "step": 1, "loss": "low", "perplexity": 1.0}',
        '{"type": "finished", "step": [], "reason": "completed", "train_loss": 1, '
        '"validation_loss": 1, "seconds": 1, "tokens_per_second": 1}',
        '{"type": "scored", "evaluation": 1, "rows": 1, "base": [], "tuned": {}, "difference": {}}',
    ],
)
def test_an_event_of_wrong_kinds_is_none(line: str) -> None:
    assert from_json(line) is None


def test_scores_that_are_none_are_left_out(tmp_path: Path) -> None:
    run = made_run(tmp_path, "odd", *story(rouge=None))
    with run.events_path.open("a") as file:
        file.write('{"type": "scored", "evaluation": 1, "rows": 1, "base": {"rougeL": "x"}, ')
        file.write('"tuned": {}, "difference": {}}\n')
    assert summarize(run).rouge_base is None


def test_a_run_at_work_tells_how_far_it_is(tmp_path: Path) -> None:
    run = made_run(tmp_path, "busy", started(10), step(3))
    pretend_alive(run)
    row = summarize(run)
    assert (row.status, row.step, row.total_steps) == ("running", 3, 10) and not row.can_resume
