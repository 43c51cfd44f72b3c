"""The Runs tab as a person uses it: find, sort, choose, rename, compare, delete, many runs."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from qa_lora import event_log, runs
from qa_lora.labels import read_label
from qa_lora.report import save_report
from tests.made_reports import make_report
from tests.made_runs import made_run, pretend_alive, started, step, story, with_adapter

if TYPE_CHECKING:
    from tests.browser.conftest import App

pytestmark = pytest.mark.browser

EVIL = "<img src=x onerror='window.broken=1'>"
SLOW = 120_000


@pytest.fixture(scope="module")
def ready(app: App) -> App:
    """The app over three runs that ended, one that can go on, and a damaged one."""
    folder = app.runs_dir
    scores = {"low": (2.0, 0.3), "high": (1.0, 0.9), "middle": (1.5, 0.6)}
    for place, (name, (loss, rouge)) in enumerate(scores.items()):
        run = made_run(
            folder, f"2026-01-0{place + 1}-000000-{name}", *story((3.0, loss), rouge=(0.2, rouge)),
            lora_r=4 * (place + 1),
        )  # fmt: skip
        with_adapter(run)
        save_report(make_report({"base": [0.2] * 3, "tuned": [rouge] * 3}), run.evaluations_dir)
    made_run(folder, "2026-01-04-000000-cut", started(9), step(1))
    made_run(folder, "2026-01-05-000000-broken")
    (folder / "2026-01-05-000000-broken" / "config.yaml").write_text("[")
    return app


@pytest.fixture
def tab(ready: App, new_page: Callable[..., Any]) -> Any:
    """The Runs tab of a visitor."""
    page = new_page()
    page.get_by_role("tab", name="Runs").click()
    expect(page.locator("#runs-count")).to_contain_text("runs shown")
    expect(rows(page).first).to_be_visible()
    return page


def rows(page: Any) -> Any:
    return page.locator("#runs-table .virtual-row")


def choose(page: Any, name: str) -> None:
    """Click the status in the row of a run."""
    row = rows(page).filter(has_text=name).first
    row.locator(".body-cell").nth(1).click()
    expect(page.locator("#run-details")).to_contain_text(name)


def pick(page: Any, box: str, name: str | re.Pattern[str]) -> None:
    page.locator(f"{box} input").click()
    page.get_by_role("option", name=name).click()


def find_run(app: App, name: str) -> runs.Run:
    return next(run for run in app.runs() if run.id.endswith(f"-{name}"))


def test_runs_are_filtered_sorted_and_the_right_one_is_chosen(tab: Any) -> None:
    page = tab
    expect(rows(page)).to_have_count(5)
    pick(page, "#runs-status", "Finished")
    expect(rows(page)).to_have_count(3)
    pick(page, "#runs-order", "ROUGE-L tuned, highest first")
    expect(rows(page).first).to_contain_text("high")
    choose(page, "middle")
    expect(page.locator("#run-details")).to_contain_text("0.20 → 0.60 (+0.40)")
    # The table's own sorting moves rows under the places that they had.
    head = page.locator("#runs-table .header-table th").filter(has_text="Best val. loss")
    head.hover()
    head.get_by_role("button").click()
    page.get_by_text("Sort descending").click()
    expect(rows(page).first).to_contain_text("low")
    rows(page).first.locator(".body-cell").nth(2).click()
    expect(page.locator("#run-details h3")).to_have_text("2026-01-01-000000-low")
    page.locator("#runs-find textarea").fill("lora r 12")
    expect(rows(page)).to_have_count(1)
    rows(page).first.locator(".body-cell").nth(2).click()
    expect(page.locator("#run-details h3")).to_have_text("2026-01-03-000000-middle")
    page.locator("#runs-find textarea").fill("nothing like it")
    expect(page.locator("#runs-count")).to_contain_text("change the filter")


def test_a_run_is_named_opened_and_continued_from(tab: Any, ready: App) -> None:
    page = tab
    choose(page, "low")
    page.locator("#run-title textarea").fill(f"Best {EVIL}")
    page.locator("#run-note textarea").fill("first line")
    page.locator("#run-save").click()
    expect(page.locator("#runs-message")).to_contain_text("Saved")
    expect(page.locator("#run-details h3")).to_contain_text("Best <img")
    expect(rows(page).filter(has_text="Best <img")).to_have_count(1)
    assert read_label(find_run(ready, "low").path).note == "first line"
    page.locator("#run-open").click()
    expect(page.locator("#run input")).to_have_value(re.compile(r"Best <img.*-low"))
    expect(page.locator("#loss")).to_be_visible()
    page.get_by_role("tab", name="Runs").click()
    choose(page, "high")
    page.locator("#run-continue").click()
    expect(page.locator("#set-init_adapter textarea")).to_have_value("2026-01-02-000000-high")
    assert page.evaluate("window.broken") is None


def test_on_a_phone_a_click_moves_nothing_sideways(tab: Any) -> None:
    page = tab
    page.set_viewport_size({"width": 390, "height": 844})
    choose(page, "high")
    expect(page.locator("#run-details")).to_be_in_viewport()
    scrolled = "table => table.querySelector('.virtual-table-viewport').scrollLeft"
    assert page.locator("#runs-table").evaluate(scrolled) == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    # Without a mouse: to the next row, and Enter.
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#run-details h3")).not_to_contain_text("high")


def test_a_chosen_run_is_compared_downloaded_and_published(tab: Any) -> None:
    page = tab
    choose(page, "high")
    pick(page, "#run-other", re.compile("-middle"))
    told = page.locator("#run-comparison")
    expect(told).to_contain_text("LoRA rank (r)")
    expect(told).to_contain_text("same 3 questions")
    expect(told).to_contain_text("0.900 (+0.70)")
    curves = page.locator("#run-curves")
    expect(curves.locator(".key")).to_have_count(2)
    page.locator("#run-kind").get_by_text("Train").click()
    expect(curves).to_contain_text("Train loss")

    choose(page, "broken")  # it can only be looked at or deleted
    expect(page.locator("#run-details .note.bad")).to_contain_text("not valid YAML")
    expect(page.locator("#run-continue")).to_be_disabled()
    expect(page.locator("#run-stop")).to_be_disabled()
    expect(page.locator("#run-delete")).to_be_enabled()

    choose(page, "middle")
    with page.expect_download() as caught:
        page.locator("#run-download").click()
    assert caught.value.suggested_filename == "2026-01-03-000000-middle.zip"
    with zipfile.ZipFile(caught.value.path()) as file:
        assert "2026-01-03-000000-middle/evaluations/1.parquet" in file.namelist()

    page.locator("#run-publish").click()
    expect(page.locator("#run input")).to_have_value(re.compile("-middle"))
    expect(page.locator("#publish-fold button").first).to_contain_text("-middle, the run in view")
    expect(page.locator("#publish-look")).to_be_in_viewport()


def test_a_run_is_deleted_while_another_page_looks_at_it_and_restored(
    tab: Any, ready: App, new_page: Callable[..., Any]
) -> None:
    page, other = tab, new_page()
    pick(other, "#run", re.compile("-middle"))
    choose(page, "middle")
    page.locator("#run-delete").click()
    expect(page.locator("#runs-message")).to_contain_text("in the trash")
    expect(rows(page)).to_have_count(4)
    expect(page.locator("#run-details")).to_contain_text("No run chosen")
    expect(other.locator("#run input")).not_to_have_value(re.compile("-middle"))
    expect(other.locator("#slot .headline, #slot .note").first).to_be_visible()
    page.get_by_text("Trash · 1 run").click()
    page.locator("#runs-restore").click()
    expect(page.locator("#runs-message")).to_contain_text("is back")
    expect(rows(page)).to_have_count(5)

    choose(page, "middle")
    page.locator("#run-delete").click()
    expect(rows(page)).to_have_count(4)
    page.locator("#runs-empty").click()
    page.locator("#runs-sure").click()
    expect(page.locator("#runs-message")).to_contain_text("1 run deleted for good")
    assert not list((ready.runs_dir / ".trash").iterdir())


def test_a_run_at_work_moves_on_while_the_chosen_one_stays(tab: Any, ready: App) -> None:
    page = tab
    choose(page, "high")
    run = made_run(ready.runs_dir, "2026-01-06-000000-busy", started(10), step(1))
    pretend_alive(run)
    try:
        expect(rows(page).filter(has_text="running 10 %")).to_have_count(1)
        expect(page.locator("#run-details h3")).to_have_text("2026-01-02-000000-high")
        page.locator("#run-note textarea").fill("half a sen")
        event_log.append(run.events_path, step(5))
        expect(rows(page).filter(has_text="running 50 %")).to_have_count(1)
        expect(page.locator("#run-note textarea")).to_have_value("half a sen")
    finally:
        (run.path / "process.json").unlink()


def test_a_thousand_runs_are_found_and_the_page_stays_usable(
    tab: Any, ready: App, new_page: Callable[..., Any]
) -> None:
    source = find_run(ready, "low")
    for number in range(1000):
        target = ready.runs_dir / f"2025-01-01-000000-many-{number:04d}"
        target.mkdir()
        for name in ("config.yaml", "events.jsonl"):
            shutil.copyfile(source.path / name, target / name)
    busy = made_run(ready.runs_dir, "2026-01-07-000000-busy", started(10), step(1))
    pretend_alive(busy)
    page = tab
    try:
        expect(page.locator("#runs-count")).to_contain_text("runs shown", timeout=SLOW)
        expect(page.locator("#runs-count")).to_contain_text(re.compile("1,00[0-9] runs"))
        page.locator("#runs-find textarea").press_sequentially("many-0777")
        expect(rows(page)).to_have_count(1, timeout=SLOW)
        choose(page, "many-0777")
        page.locator("#run-open").click()
        expect(page.locator("#run input")).to_have_value("2025-01-01-000000-many-0777")
        page.reload()
        expect(page.locator("#run input")).to_have_value("2025-01-01-000000-many-0777")
        name = page.locator("#set-name textarea")
        page.get_by_text("Advanced").first.click()
        name.press_sequentially("typed while the clock runs")
        expect(name).to_have_value("typed while the clock runs")
    finally:
        (busy.path / "process.json").unlink()
