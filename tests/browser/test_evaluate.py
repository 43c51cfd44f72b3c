"""The Evaluate tab as a person uses it: score, cancel, a file, adapters, files, leaderboard."""

from __future__ import annotations

import csv
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from qa_lora import runs
from qa_lora.config import TrainConfig
from qa_lora.report import load_report, save_report
from tests.lively import make_adapter
from tests.made_reports import make_report

if TYPE_CHECKING:
    from tests.browser.conftest import App

pytestmark = pytest.mark.browser

SLOW = 120_000
EVIL = "<img src=x onerror='window.broken=1'> <script>window.broken=1</script>"


@pytest.fixture(scope="module")
def ready(app: App, tiny_model: Path) -> App:
    """The app over two runs of a tiny model that answer at once, and one of another base."""
    data = app.runs_dir / "things.csv"
    lines = [f"What is thing {i}?,It is thing {i}" for i in range(18_000)]
    data.write_text("question,answer\n" + "\n".join(lines))
    other = app.runs_dir / "other-base"
    shutil.copytree(tiny_model, other)
    for place, (name, base) in enumerate((("other", other), ("b", tiny_model), ("a", tiny_model))):
        config = TrainConfig.build(
            model=str(base), data=str(data), precision="fp32", name=name, test_fraction=0.45,
            max_new_tokens=32, lora_r=4 + place, near_duplicates=None,
        )  # fmt: skip
        run = runs.create(config, app.runs_dir)
        run.path.rename(run.path.with_name(f"2026-01-0{place + 1}-000000-{name}"))
        make_adapter(base, app.runs_dir / f"2026-01-0{place + 1}-000000-{name}" / "adapter")
    return app


def named(app: App, name: str) -> runs.Run:
    return next(run for run in app.runs() if run.id.endswith(f"-{name}"))


@pytest.fixture
def evaluate(ready: App, new_page: Callable[..., Any]) -> Any:
    """The Evaluate tab of a visitor who looks at run a."""
    page = new_page()
    page.get_by_role("tab", name="Evaluate").click()
    expect(page.locator("#run input")).to_have_value(re.compile("-a"))
    expect(page.locator("#score")).to_be_enabled()
    return page


def upload(page: Any, path: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.locator("#score-file").click()
    chooser.value.set_files(path)


def fill(page: Any, box: str, text: str) -> None:
    field = page.locator(f"{box} input")
    field.fill(text)
    field.press("Enter")


def test_scoring_with_another_adapter_is_shown_and_reopened(evaluate: Any, ready: App) -> None:
    page, run = evaluate, named(ready, "a")
    expect(page.locator("#headline")).to_contain_text("Nothing scored yet")
    option = page.get_by_role("option").first
    for _ in range(5):
        page.locator("#adapters input").click()
        page.wait_for_timeout(500)
        if option.is_visible():
            break
        # The list closed: a page that has just opened was told of its choices once more.
        page.locator("#headline").click()
    option.click()
    page.keyboard.press("Escape")
    page.get_by_label("At most, rows").fill("12")
    page.get_by_label("At most, rows").blur()
    page.locator("#score").click()
    expect(page.locator("#headline")).to_contain_text("On 12 held-out questions", timeout=SLOW)
    report = load_report(run, 1)
    assert report.systems == ("base", "tuned", named(ready, "b").id) and report.rows == 12
    expect(page.locator("#metrics tbody tr")).to_have_count(len(report.metrics))
    expect(page.locator("#beside")).to_contain_text("Perplexity")
    expect(page.locator("#row-table article")).to_have_count(12)

    page.locator("#by input").click()
    page.get_by_role("option", name="Source").click()
    expect(page.locator("#parts")).to_contain_text("ROUGE-L by source")
    page.locator("#system input").click()
    page.get_by_role("option", name=re.compile("-b$")).click()
    expect(page.locator("#metrics h3")).to_contain_text("-b from the base")

    with page.expect_download() as caught:
        page.locator("#as-report").click()
    with zipfile.ZipFile(caught.value.path()) as file:
        assert "report.md" in file.namelist() and "plots/gain-1.svg" in file.namelist()
    with page.expect_download() as caught:
        page.locator("#as-parquet").click()
    assert (
        Path(caught.value.path()).read_bytes() == (run.evaluations_dir / "1.parquet").read_bytes()
    )

    page.reload()
    page.get_by_role("tab", name="Evaluate").click()
    expect(page.locator("#headline")).to_contain_text("On 12 held-out questions")
    assert run.evaluations() == [1], "reopened, not scored again"


def test_a_cancelled_scoring_keeps_what_is_done_and_says_so(evaluate: Any, ready: App) -> None:
    page, run = evaluate, named(ready, "a")
    done = len(run.evaluations())
    page.get_by_label("At most, rows").fill("")
    page.locator("#score").click()
    expect(page.locator("#progress")).to_contain_text("questions answered", timeout=SLOW)
    page.locator("#cancel-score").click()
    expect(page.locator("#headline")).to_contain_text("these are a fair sample", timeout=SLOW)
    expect(page.locator("#score")).to_be_enabled()
    expect(page.locator("#cancel-score")).to_be_disabled()
    report = load_report(run, run.evaluations()[-1])
    assert len(run.evaluations()) == done + 1 and report.rows < report.asked == 8100


def test_a_file_is_scored_or_said_to_be_wrong(evaluate: Any, tmp_path: Path, ready: App) -> None:
    page, message = evaluate, evaluate.locator("#score-message")
    mine = tmp_path / "mine.csv"
    with mine.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [("question", "answer"), *((f"{EVIL} {i}", f"{EVIL} {i}") for i in range(5))]
        )
    upload(page, mine)
    expect(page.locator("#score-message")).to_contain_text("mine.csv: 5 questions to score")
    page.locator("#score").click()
    expect(page.locator("#headline")).to_contain_text(
        "On 5 questions of the file mine.csv", timeout=SLOW
    )
    expect(page.locator("#row-table article")).to_have_count(5)
    expect(page.locator("#row-table h4").first).to_contain_text("<img src=x")
    page.locator("#gain .chart-plot").hover()
    assert page.evaluate("window.broken") is None
    assert page.locator("#row-table img, #row-table script").count() == 0

    before = len(named(ready, "a").evaluations())
    for name, content, said in (
        ("noanswers.csv", b"question\nWho?\n", "noanswers.csv cannot be scored"),
        ("binary.csv", bytes(range(256)) * 9, "binary.csv"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        upload(page, path)
        expect(message.locator(".note.bad")).to_contain_text(said)
    page.get_by_label("At most, rows").fill("0")
    page.locator("#score").click()
    expect(message).to_contain_text("Rows must be a whole number of 1 or more")
    page.get_by_label("At most, rows").fill("5")
    fill(page, "#adapters", named(ready, "other").id)
    page.locator("#score").click()
    expect(message).to_contain_text("of another base")
    assert len(named(ready, "a").evaluations()) == before


def test_the_leaderboard_ranks_runs_on_the_same_questions(evaluate: Any, ready: App) -> None:
    low, high = [0.1, 0.2, 0.3], [0.5, 0.6, 0.9]
    for name, tuned in (("a", low), ("b", high)):
        report = make_report({"base": low, "tuned": tuned}, settings={"data": EVIL})
        save_report(report, named(ready, name).evaluations_dir)
    page = evaluate
    page.get_by_role("tab", name="Leaderboard").click()
    page.locator("#board input").click()
    page.get_by_role("option", name=re.compile(r", 3 questions: 2 runs")).click()
    rows = page.locator("#board-table tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("-b")
    expect(page.locator("#board-table thead")).to_contain_text("lora r")
    expect(page.locator("#board-curves .chart")).to_be_visible()
    assert page.evaluate("window.broken") is None
