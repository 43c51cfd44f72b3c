"""The whole loop as a person goes through it: train, stop, resume, compare, evaluate, upload."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from qa_lora import event_log, runs
from qa_lora import events as ev
from qa_lora.config import TrainConfig
from tests.served import App, serving_app

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """As a person starts it: ``python app.py``."""
    with serving_app(tmp_path_factory.mktemp("browser-runs")) as app:
        yield app


SLOW = 180_000
"""Milliseconds in which a short training ends on two busy cores."""


def settings(page: Any, **values: Any) -> None:
    """Open Advanced and set what is named, until the page counts as many changes."""
    advanced = page.get_by_role("button", name=re.compile("^Advanced"))
    if not page.locator("#set-batch_size input").is_visible():
        advanced.click()
    before = TrainConfig.build("Quick demo")
    changes = sum(getattr(before, name) != value for name, value in values.items())
    counted = re.compile(rf"({'|'.join(map(str, range(changes, 40)))}) changed")
    for last in (False, False, True):
        # What is typed while the fold still unfolds is put back by the page.
        for name, value in values.items():
            page.locator(f"#set-{name}").locator("input, textarea").first.fill(str(value))
        try:
            expect(advanced).to_contain_text(counted, timeout=15_000)
            return
        except AssertionError:
            if last:
                raise


def start(page: Any, **values: Any) -> None:
    settings(page, **values)
    page.locator("#start").click()


def idle(page: Any) -> None:
    expect(page.locator("#light")).to_have_text("idle", timeout=SLOW)


def test_the_first_page_is_ready_to_start(page: Any, app: App) -> None:
    expect(page.locator("#start")).to_be_enabled()
    expect(page.locator("#stop")).to_be_disabled()
    expect(page.locator("#resume")).to_have_count(0)
    expect(page.locator("#data-card")).to_contain_text("no overlap")
    expect(page.locator("#data-card")).to_contain_text("tokens", timeout=SLOW)
    expect(page.locator("#slot")).to_contain_text("Press Start")
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#columns-message")).to_contain_text("no adapter yet")
    page.get_by_role("tab", name="Evaluate").click()
    expect(page.locator("#headline")).to_contain_text("no adapter yet")


def test_needs_are_said_before_start_and_follow_the_form(page: Any, app: App) -> None:
    needs = page.locator("#needs")
    expect(needs).to_contain_text(
        re.compile(r"needs [\d.–]+ GB, about [\d.–]+ (s|min)"), timeout=SLOW
    )
    memory, time_ = needs.locator("b").first, needs.locator("b").last
    expect(memory).to_have_attribute("title", re.compile("weights: .*activations: .*free", re.S))
    expect(time_).to_have_attribute("title", re.compile("400 steps"))
    expect(needs.locator(".note")).to_have_count(0)

    settings(page, max_steps=7)
    expect(time_).to_have_attribute("title", re.compile("^7 steps"))
    model = page.locator("#set-model input")
    for name, said in (
        ("google/flan-t5-xxl", "needs"),
        ("nobody/nothing", "How large nobody/nothing is is not known"),
    ):
        model.fill(name)
        model.press("Enter")
        expect(needs).to_contain_text(said)
        if said == "needs":
            expect(memory).to_have_attribute("title", re.compile("11,135,332,352 frozen"))
    assert app.runs() == []


def test_training_goes_on_whatever_the_pages_do(
    page: Any, new_page: Callable[..., Any], app: App
) -> None:
    settings(
        page, max_steps=40, evaluate_every=10, probe_rows=2, score_rows=20, validation_rows=32,
    )  # fmt: skip
    page.locator("#start").dblclick()
    expect(page.locator("#light")).to_contain_text("training", timeout=SLOW)
    assert len(app.runs()) == 1, "a double click starts one run"
    run = app.runs()[0]

    line = page.locator("#loss svg path").first
    expect(line).to_have_attribute("d", re.compile(r"L.*L"), timeout=SLOW)
    before = len(line.get_attribute("d"))
    page.wait_for_function(
        "n => document.querySelector('#loss svg path').getAttribute('d').length > n", arg=before
    )

    # The page stays usable, and a second visitor sees the run.
    page.get_by_role("tab", name="Compare").click()
    page.get_by_label("Question", exact=True).fill("Typed while it trains")
    expect(page.get_by_label("Question", exact=True)).to_have_value("Typed while it trains")
    other = new_page()
    expect(other.locator("#run input")).to_have_value(re.compile(run.id))
    expect(other.locator("#start")).to_be_enabled()
    other.context.close()

    page.reload()
    expect(page.locator("#run input")).to_have_value(re.compile(run.id))
    expect(page.locator("#slot")).to_contain_text(re.compile("Training|Scoring|ROUGE-L"))
    expect(page.locator("#slot")).to_contain_text("ROUGE-L", timeout=SLOW)
    expect(page.locator("#slot .gain")).to_contain_text(re.compile(r"[+-]\d\.\d\d \["))
    expect(page.locator("#probes tbody tr")).to_have_count(2)
    idle(page)
    assert run.status() == "finished"
    assert len(app.runs()) == 1
    expect(page.locator("#start")).to_be_enabled()


@contextmanager
def standing_still(run: runs.Run) -> Iterator[None]:
    """The run stays at work, and leaves the machine to the others."""
    worker = json.loads((run.path / "process.json").read_text())["pid"]
    os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker, signal.SIGCONT)


def test_a_second_run_waits_for_its_turn_and_can_be_cancelled(page: Any, app: App) -> None:
    start(page, max_steps=3000, validation_rows=8, probe_rows=0, score_rows=0)
    expect(page.locator("#light")).to_contain_text("training", timeout=SLOW)
    first = app.runs()[0]
    with standing_still(first):
        start(page, max_steps=3)
        expect(page.locator("#slot")).to_contain_text("Waiting · 1st in line")
        expect(page.locator("#slot")).to_contain_text(first.id)
        expect(page.locator("#light")).to_contain_text(re.compile(r"training \d+ % · 1 waiting"))
        second = app.runs()[0]
        start(page, max_steps=4)
        expect(page.locator("#slot")).to_contain_text("Waiting · 2nd in line")
        expect(page.locator("#light")).to_contain_text("2 waiting")
        third = app.runs()[0]
        expect(page.locator("#stop")).to_have_text("Cancel")
        page.locator("#stop").click()
        expect(page.locator("#slot")).to_contain_text("Cancelled before it began", timeout=SLOW)
        expect(page.locator("#light")).to_contain_text("1 waiting")
        expect(page.locator("#resume")).to_be_visible()

    runs.stop(first)
    page.locator("#run input").click()
    page.get_by_role("option", name=second.id).click()
    expect(page.locator("#slot")).to_contain_text("Trained at step 3", timeout=SLOW)
    idle(page)
    states = [run.status() for run in (first, second, third)]
    assert states == ["stopped", "finished", "stopped"]


def test_scores_are_made_reopened_and_taken_away(
    page: Any, trained: runs.Run, tmp_path: Path
) -> None:
    page.locator("#to-scores").click()
    expect(page.locator("#headline")).to_contain_text("ROUGE-L")
    expect(page.locator("#metrics tbody tr")).to_have_count(10)
    done = len(trained.evaluations())

    page.get_by_label("At most, rows").fill("6")
    page.locator("#score").click()
    expect(page.locator("#progress")).to_contain_text("Scoring")
    page.reload()  # a closed page loses nothing
    page.get_by_role("tab", name="Evaluate").click()
    expect(page.locator("#headline")).to_contain_text("On 6 held-out", timeout=SLOW)
    assert len(trained.evaluations()) == done + 1

    expect(page.locator("#row-table article")).to_have_count(6)
    page.get_by_label("Worst").check()
    expect(page.locator("#gain .chart")).to_be_visible()
    with page.expect_download() as caught:
        page.locator("#as-csv").click()
    with Path(caught.value.path()).open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 and {"question", "base", "tuned", "base_rougeL"} <= set(rows[0])
    with page.expect_download() as caught:
        page.locator("#as-json").click()
    assert json.loads(Path(caught.value.path()).read_text("utf-8"))["rows"] == 6


def test_a_stopped_run_keeps_its_adapter_and_can_go_on(page: Any, app: App) -> None:
    start(page, max_steps=3000, checkpoint_every=2, validation_rows=8, probe_rows=0, score_rows=0)
    expect(page.locator("#stats")).to_contain_text(re.compile(r"[3-9] of 3,000"), timeout=SLOW)
    page.locator("#stop").click()
    expect(page.locator("#slot")).to_contain_text("Stopped at step", timeout=SLOW)
    run = app.runs()[0]
    assert run.status() == "stopped" and run.has_adapter()
    stopped_at = int(re.search(r"step ([\d,]+)", page.locator("#slot").inner_text()).group(1))

    page.locator("#resume").click()
    expect(page.locator("#slot")).to_contain_text("Training", timeout=SLOW)
    page.wait_for_function(
        "n => +document.querySelector('#stats b').textContent.split(' ')[0].replace(',', '') > n",
        arg=stopped_at, timeout=SLOW,
    )  # fmt: skip
    page.locator("#stop").click()
    expect(page.locator("#slot")).to_contain_text("Stopped at step", timeout=SLOW)
    expect(page.locator("#resume")).to_be_visible()
    idle(page)


def test_a_csv_of_ones_own_is_checked_and_trained_on(page: Any, app: App, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    rows = "<img src=x onerror='window.broken=1'>,<b>yes</b>\r\n" + "".join(
        f"What is {n} plus one?,{'It is ' * (n % 4 > 0)}{n + 1}.\r\n" for n in range(1, 40)
    )
    path.write_bytes(b"\xef\xbb\xbfPrompt,Completion\r\n" + rows.encode())
    page.locator("#upload input[type=file]").set_input_files(path)
    expect(page.locator("#data-card")).to_contain_text("40 of 40 used")
    card = page.locator("#data-card")
    expect(card).to_contain_text("question: Prompt, answer: Completion")
    expect(card.get_by_role("img", name=re.compile("Answers, 1 to"))).to_be_visible(timeout=SLOW)
    expect(card.locator(".note")).to_contain_text(["have fewer than 2 words"])
    sees = card.get_by_text("What the model sees")
    sees.click()
    expect(card.locator("details pre").first).to_have_text(
        "Answer this question: <img src=x onerror='window.broken=1'>"
    )
    assert page.evaluate("window.broken") is None
    page.get_by_role("button", name="Change the columns").click()
    expect(page.get_by_label("Context column")).to_be_visible()
    start(page, max_steps=3, probe_rows=1, score_rows=4)
    expect(page.locator("#slot")).to_contain_text("ROUGE-L", timeout=SLOW)
    config = app.runs()[0].config()
    assert Path(config.data).name == "mine.csv" and app.runs_dir in Path(config.data).parents
    idle(page)


def test_files_that_cannot_be_used_get_one_sentence(page: Any, tmp_path: Path) -> None:
    card, chooser = page.locator("#data-card"), page.locator("#upload input[type=file]")
    for name, content, said in (
        ("binary.csv", bytes(range(256)) * 20, "binary.csv"),
        ("header.csv", b"question,answer\n", "header.csv"),
        ("empty.csv", b"", "empty.csv"),
        ("lines.jsonl", b'{"question": "a", "answer": "b"}\n{"question": \n', "line 2"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        chooser.set_input_files(path)
        expect(card.locator(".note")).to_contain_text(said)
        expect(card).not_to_contain_text("Traceback")
        page.locator("#upload").get_by_label("Clear").click()
        expect(card).to_contain_text("atlas")

    path = tmp_path / "huge.csv"
    with path.open("wb") as file:
        file.truncate(300 * 1024**2)
    chooser.set_input_files(path)
    expect(page.get_by_text(re.compile("maximum|exceed|limit", re.I)).first).to_be_visible()
    expect(card).to_contain_text("atlas")


def test_unknown_columns_can_be_named(page: Any, tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_text("left,right\n" + "".join(f"ask {n},say {n}\n" for n in range(20)))
    page.locator("#upload input[type=file]").set_input_files(path)
    expect(page.locator("#data-card .note")).to_contain_text("left, right")
    for label, column in (("Question column", "left"), ("Answer column", "right")):
        # The other list may still be closing: choose in this one.
        page.get_by_label(label).click()
        choice = page.get_by_label(label, exact=True)
        choice.fill(column)
        choice.press("Enter")
    expect(page.locator("#data-card")).to_contain_text("20 of 20 used")


def test_a_setting_out_of_bounds_starts_nothing_and_one_that_fits_is_copied(
    page: Any, app: App
) -> None:
    before = len(app.runs())
    start(page, learning_rate=0)
    expect(page.locator("#message")).to_contain_text(re.compile("should be greater than 0", re.I))
    expect(page.locator("#set-learning_rate")).to_contain_text("Should be greater than 0")
    assert len(app.runs()) == before

    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    settings(page, learning_rate=0.001, lora_r=4)
    page.locator("#copy-command").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    text = page.evaluate("navigator.clipboard.readText()")
    assert text.startswith("qa-lora train --model pocket") and "--lora-r 4" in text
    assert os.fspath(app.runs_dir) in text


def test_what_changes_while_it_is_checked_is_checked_again_but_not_for_ever(
    page: Any, tmp_path: Path
) -> None:
    path = tmp_path / "many.csv"
    rows = (f"What comes after {n} and before {n + 2}?,It is {n + 1}." for n in range(8000))
    path.write_text("\n".join(["question,answer", *rows]))
    page.get_by_role("button", name=re.compile("^Advanced")).click()
    data, seed = page.locator("#set-data input"), page.locator("#set-seed input")
    data.fill(str(path))
    data.press("Enter")
    for value in range(3):
        seed.fill(str(value))
        page.wait_for_timeout(300)
    at_rest(page)
    expect(page.locator("#data-card")).to_contain_text("8,000 of 8,000 used")


def at_rest(page: Any) -> None:
    """Wait until the page asks for nothing but what is new."""
    look = page.evaluate(
        "gradio_config.dependencies.find(d => d.targets.some(t => t[1] === 'tick')).id"
    )
    asked: list[int] = []

    def note(request: Any) -> None:
        if "queue/join" in request.url:
            asked.append(request.post_data_json["fn_index"])

    page.on("request", note)
    for _ in range(20):
        asked.clear()
        page.wait_for_timeout(2000)
        if set(asked) == {look}:
            return
    raise AssertionError(f"The page goes on calling {set(asked) - {look}}")


def test_the_page_stays_usable_with_a_hundred_thousand_steps(page: Any, app: App) -> None:
    run = runs.create(TrainConfig(name="long"), app.runs_dir)
    line = event_log.to_json
    first = ev.Started(0, 100_000, 1, 2, 3, 4, 5, "abc", "cpu", "fp32", 0.0)
    steps = (
        ev.Step(n, n / 1e4, 1 + 1 / n, 1e-3, 1.0, 1e3, n * 0.1, 1.0, 10**9)
        for n in range(1, 100_001)
    )
    run.events_path.write_text("".join(f"{line(e)}\n" for e in (first, *steps)), "utf-8")
    page.reload()
    page.locator("#run input").click()
    page.get_by_role("option", name=run.id).click()
    expect(page.locator("#stats")).to_contain_text("100,000 of 100,000", timeout=SLOW)
    assert len(page.locator("#loss").inner_html()) < 100_000

    event_log.append(run.events_path, ev.Step(100_001, 10, 1, 0, 1, 1e3, 1e4, 0, 10**9))
    expect(page.locator("#stats")).to_contain_text("100,001 of")  # only the news is read
    page.get_by_role("tab", name="Compare").click()
    typed = "the page answers at once while the clock ticks"
    question = page.get_by_label("Question", exact=True)
    begin = time.monotonic()
    question.press_sequentially(typed)
    expect(question).to_have_value(typed)
    assert time.monotonic() - begin < 10
    page.get_by_role("tab", name="Train").click()
    expect(page.locator("#slot")).to_contain_text("ended unexpectedly")


@pytest.fixture
def trained(app: App, page: Any) -> runs.Run:
    """A run with an adapter and an evaluation, in view; trained once."""
    done = [run for run in app.runs() if run.status() == "finished" and run.evaluations()]
    if not done:
        start(page, max_steps=10, validation_rows=8, probe_rows=0, score_rows=6)
        expect(page.locator("#slot")).to_contain_text("ROUGE-L", timeout=SLOW)
        idle(page)
        done = [run for run in app.runs() if run.evaluations()]
    run = done[-1]
    if run.id not in page.locator("#run input").input_value():
        page.locator("#run input").click()
        page.get_by_role("option", name=run.id).click()
    expect(page.locator("#to-compare")).to_be_enabled()
    return run
