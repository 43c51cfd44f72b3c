"""The Evaluate tab without a browser: what it shows, takes away, orders and refuses."""

from __future__ import annotations

import csv
import errno
import io
import json
import re
import shutil
import time
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import pytest

from qa_lora import runs
from qa_lora.config import TrainConfig
from qa_lora.errors import ConfigError, DataError, RunError
from qa_lora.report import load_report, save_report
from qa_lora.report.leaderboard import Leaderboard
from tests.lively import make_adapter, make_model
from tests.made_reports import make_report

pytest.importorskip("gradio")
import gradio as gr

from qa_lora.ui.data_card import keep_upload
from qa_lora.ui.engine import Engine, Job, Order
from qa_lora.ui.evaluate import board, charts, exports, ordering, plots, rows, table
from qa_lora.ui.evaluate.results import build_results
from qa_lora.ui.evaluate.shown import Shown

BAD = "<img src=x onerror=alert(1)>\"'&"
SCORES = {
    "base": [0.1, 0.2, 0.3, 0.4],
    "tuned": [0.5, 0.2, 0.1, 0.9],
    BAD: [0.2, 0.2, 0.2, 0.2],
}


@pytest.fixture(scope="module")
def report():
    return make_report(
        SCORES, text=BAD, sources=[BAD, "b", BAD, "b"], number=1,
        losses={"base": {"loss": 2.0, "perplexity": 7.4}, "tuned": {"loss": 1.0}},
        effect={"tuned": {"rows": 4, "changed_first_tokens": 0.5, "mean_kl": 0.25, "acts": True}},
        settings={"data": BAD},
    )  # fmt: skip


def test_everything_shown_is_escaped(report, tmp_path):
    texts = [row.question for row in report.examples]
    html = [
        table.headline_html(report, BAD),
        table.metrics_html(report, BAD),
        table.beside_html(report),
        table.slices_html(report.slices("source", "rougeL", BAD), "rougeL", "source"),
        rows.rows_html(report.examples, "rougeL", 20, BAD),
        charts.gain_chart([0.1, -0.2, 0.0, 0.3], texts, "ROUGE-L"),
        charts.scatter_chart(SCORES["base"], SCORES["tuned"], texts, "ROUGE-L"),
        charts.curves_chart([charts.Curve(BAD, "red", [1, 2], [3.0, 1.0])], "train"),
        ordering.job_html(Job("r", "failed", error=BAD)),
    ]
    run = runs.create(TrainConfig(name="r"), tmp_path)
    save_report(report, run.evaluations_dir)
    boards = Leaderboard(tmp_path).boards()
    html.append(board.board_html(boards[0], "rougeL", {BAD: {}}, None, {run.id: BAD}))
    for each in html:
        assert "<img" not in each
    assert "1 unchanged" in html[5]


def test_tables_hold_every_system_metric_and_number(report):
    shown = table.metrics_html(report, "tuned")
    assert shown.count("<tr>") == 1 + len(report.metrics)
    for term in ("95 % interval", "p adjusted", "Detectable"):
        assert re.search(rf"<abbr title='[^']+'>{term}</abbr>", shown)
    beside = table.beside_html(report)
    for said in ("Length ratio", "Perplexity", "7.40", "50.0 %", "0.250"):
        assert said in beside
    assert table.beside_html(make_report(SCORES, shares={}, length_ratios={})) == ""


def test_a_nil_effect_is_warned_of():
    idle = {"tuned": {"changed_first_tokens": 0.0, "mean_kl": 0.0, "acts": False}}
    assert "changes nothing" in table.beside_html(make_report(SCORES, effect=idle))


def test_a_stopped_evaluation_is_marked(report):
    stopped = make_report(SCORES, complete=False, asked=500)
    shown = table.headline_html(stopped, "run")
    assert "stopped after 4 of 500 questions; these are a fair sample" in shown
    assert "Incomplete" not in table.headline_html(report, "run")


def test_an_end_near_zero_shows_its_side():
    assert table.interval({"low": -0.004, "high": 0.0}) == "[-0.004, 0.00]"
    assert table.signed(-0.0) == "+0.00"


def test_a_gain_on_few_questions_has_no_colour_of_certainty():
    for count, sure in ((3, False), (12, True)):
        found = make_report({"base": [0.25] * count, "tuned": [0.75] * count})
        assert ('class="span"' in table.metrics_html(found)) is sure
        assert (plots.TEAL in plots.interval_plot(found)) is sure
        parts = found.slices("source", "rougeL")
        assert (plots.TEAL in plots.slice_plot(parts, "parts")) is sure


def test_rows_are_sorted_by_the_gain_of_the_adapter_in_view(report):
    def places(which: str, system: str = "tuned") -> list[str]:
        return [row.id[-1] for row in rows.chosen_rows(report, which, "rougeL", system)]

    assert places("Best")[0] == "3" and places("Worst")[0] == "2"
    assert places("Unchanged") == ["1"]
    assert places("Best", BAD)[0] == "0"


# --- what is taken away ---


def test_the_csv_has_every_system_and_no_formula():
    found = make_report({"base": [0.0], "tuned": [1.0], "=cmd()": [0.5]}, text="=1+1")
    lines = list(csv.DictReader(io.StringIO(exports.to_csv(found), newline="")))
    assert len(lines) == 1
    line = lines[0]
    assert line["question"] == "'=1+1 0" and line["base"] == "'=1+1 by base"
    assert (line["base_rougeL"], line["tuned_rougeL"]) == ("0.0", "1.0")
    assert line["'=cmd()_rougeL"] == "0.5" and line["tuned_length_ratio"] == "1.5"
    assert not [cell for pair in line.items() for cell in pair if cell.startswith("=")]


def test_the_report_shows_the_plots_that_lie_beside_it(report):
    with zipfile.ZipFile(io.BytesIO(exports.to_zip(report))) as file:
        text = file.read("report.md").decode()
        shown = set(re.findall(r"\]\((plots/[^)]+\.svg)\)", text))
        assert shown == set(file.namelist()) - {"report.md"}
        for name in shown:
            ET.fromstring(file.read(name))
    assert len(shown) >= 2 * 4


def test_plots_stand_alone(report):
    for _, svg in plots.plots(report).values():
        assert "var(" not in svg and "<img" not in svg and "href" not in svg


def test_files_are_written_once(report, tmp_path):
    own = tmp_path / "1.parquet"
    own.write_bytes(b"rows")
    files = exports.write_downloads(report, "r-1", tmp_path, own)
    assert Path(files.parquet).read_bytes() == b"rows"
    assert len(json.loads(Path(files.json).read_text("utf-8"))["examples"]) == 4
    Path(files.csv).write_text("kept")
    assert exports.write_downloads(report, "r-1", tmp_path, own) == files
    assert Path(files.csv).read_text() == "kept"


def test_a_number_that_is_given_again_is_not_the_old_evaluation(tmp_path):
    run = runs.create(TrainConfig(name="again"), tmp_path / "runs")
    with gr.Blocks():
        tab = build_results()
    shown = Shown(Engine(tmp_path / "runs"), tab, tmp_path / "downloads")
    for tuned in ([0.5] * 4, [0.25] * 4):
        save_report(make_report({"base": [0.1] * 4, "tuned": tuned}), run.evaluations_dir)
        page = shown.pick(run.id, 1, None, "rougeL", "source", "Best")
        assert f"{tuned[0]:.2f}" in page[tab.headline]
        kept = json.loads(Path(page[tab.as_json]).read_text("utf-8"))
        assert kept["tuned"]["rougeL"] == tuned[0]
        for path in run.evaluations_dir.iterdir():
            path.unlink()


def test_the_page_hears_of_the_newest_once_and_keeps_what_is_chosen(tmp_path):
    run, other = (runs.create(TrainConfig(name=n), tmp_path / "runs") for n in ("news", "other"))
    with gr.Blocks():
        tab = build_results()
    shown = Shown(Engine(tmp_path / "runs"), tab, tmp_path / "downloads")
    view = (None, "rougeL", "source", "Best")

    def chosen(page):
        return page[tab.past].value

    save_report(make_report(SCORES), run.evaluations_dir)
    page = shown.show(run.id, "", None, *view)
    assert chosen(page) == 1
    save_report(make_report(SCORES), run.evaluations_dir)
    page = shown.show(run.id, page[tab.known], 1, *view)
    assert chosen(page) == 2, "what has come since"
    page = shown.pick(run.id, 1, *view)
    assert chosen(page) == 1
    assert chosen(shown.show(run.id, page[tab.known], 1, *view)) == 1, "nothing has come since"
    for _ in range(3):
        save_report(make_report(SCORES), other.evaluations_dir)
    assert chosen(shown.show(other.id, page[tab.known], 1, *view)) == 3


# --- what is ordered ---


def test_an_upload_is_whole_or_not_there(tmp_path, monkeypatch):
    source = tmp_path / "rows.csv"
    source.write_text("question,answer\nWho?,me\n")

    def full(source: Path, target: Path) -> None:
        Path(target).write_bytes(Path(source).read_bytes()[:9])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(RunError, match="No space left"):
            keep_upload(str(source), tmp_path / "uploads")
    assert keep_upload(str(source), tmp_path / "uploads").read_bytes() == source.read_bytes()


@pytest.fixture(scope="module")
def engine(tiny_model, tmp_path_factory) -> Engine:
    """A server over two runs of one base and one of another."""
    folder = tmp_path_factory.mktemp("orders")
    data = folder / "rows.csv"
    lines = [f"What is thing {i}?,It is {i}" for i in range(80)]
    data.write_text("question,answer\n" + "\n".join(lines))
    model = make_model(tiny_model, folder / "lively")
    made = Engine(folder / "runs")
    made.warm = True
    for place, base in enumerate((model, model, tiny_model)):
        config = TrainConfig.build(
            model=str(base), data=str(data), precision="fp32", name=f"r{place}", test_fraction=0.45,
            max_new_tokens=4,
        )  # fmt: skip
        make_adapter(base, runs.create(config, made.runs_dir).adapter, seed=place)
    return made


def run_named(engine: Engine, name: str) -> runs.Run:
    return next(item.run for item in engine.listed() if item.run.id.endswith(name))


def ended(job: Job) -> Job:
    deadline = time.monotonic() + 60
    while job.busy:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return job


def test_an_order_takes_runs_of_the_same_base(engine):
    one, two, other = (run_named(engine, name) for name in ("r0", "r1", "r2"))
    uploads = engine.runs_dir / "uploads"
    assert list(engine.other_runs(one)) == [two.id]
    assert ordering.make_order(engine, one, uploads, "test", [two.id], None, 3) == Order(
        "test", None, 3, None, (two.id,)
    )
    for values, said in [
        (("test", [other.id], 5, 0), "of another base"),
        (("test", ["gone"], 5, 0), "no run gone"),
        (("test", [one.id], 5, 0), "in any case"),
        (("test", [], 0, 0), "1 or more"),
        (("test", [], 2.5, 0), "whole number"),
        (("test", [], 5, -1), "seed"),
        (("/etc/passwd", [], 5, 0), "Upload it again"),
        (("../rows.csv", [], 5, 0), "Upload it again"),
    ]:
        with pytest.raises(ConfigError, match=said):
            ordering.make_order(engine, one, uploads, *values)


def test_uploads_are_checked_when_they_come(engine, tmp_path):
    one, uploads = run_named(engine, "r0"), engine.runs_dir / "uploads"
    mine = tmp_path / "mine.csv"
    mine.write_text("question,answer\nWho?,Me\nWho?,You\nWhat is thing 1?,1\n")
    kept, said = ordering.on_upload(engine, uploads, one, str(mine))
    assert kept.parent.parent == uploads and re.match(r"mine\.csv: [12] questions? to score", said)
    order = ordering.make_order(engine, one, uploads, str(kept), [], None, 0)
    assert order.file == kept
    for name, content, error in [
        ("noanswers.csv", b"question\nWho?\n", "cannot be scored"),
        ("empty.csv", b"", "empty.csv"),
        ("rows.csv", b"question,answer\n", "rows.csv"),
        ("binary.csv", bytes(range(256)) * 9, "binary.csv"),
    ]:
        bad = tmp_path / name
        bad.write_bytes(content)
        with pytest.raises(DataError, match=error):
            ordering.on_upload(engine, uploads, one, str(bad))


def test_a_scoring_of_two_adapters_ends_in_a_report(engine):
    one, two = run_named(engine, "r0"), run_named(engine, "r1")
    job = ended(engine.score(one, Order(limit=6, seed=1, adapters=(two.id,))))
    assert (job.state, job.error) == ("done", "")
    report = load_report(one, job.number)
    assert report.systems == ("base", "tuned", two.id) and report.rows == 6


def test_cancelling_keeps_what_is_done(engine):
    one = run_named(engine, "r0")
    job = engine.score(one, Order())
    while job.busy and job.done < 17:  # the first group of questions is finished
        time.sleep(0.002)
    job.stop.set()
    ended(job)
    report = load_report(one, job.number)
    assert 16 <= report.rows <= report.asked and report.complete == (report.rows == report.asked)


def test_a_scoring_cancelled_in_line_leaves_nothing(engine):
    one = run_named(engine, "r0")
    before = one.evaluations()
    with engine.enter_line(run_named(engine, "r2")) as turn:
        assert turn.ready()
        job = engine.score(one, Order(limit=3))
        deadline = time.monotonic() + 20
        while job.place != 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "1st in line" in ordering.job_html(job)
        job.stop.set()
        ended(job)
    assert job.number is None and one.evaluations() == before
    assert "nothing is kept" in ordering.job_html(job)
