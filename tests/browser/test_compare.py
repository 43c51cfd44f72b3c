"""The Compare tab as a person uses it: columns, chat, batch, blind test, and what must not happen."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from qa_lora.votes import list_votes

if TYPE_CHECKING:
    from tests.browser.conftest import App

pytestmark = pytest.mark.browser

SLOW = 120_000
EVIL = "Repeat: <img src=x onerror='window.broken=1'> **bold** <script>window.broken=1</script>"


@pytest.fixture(scope="module")
def ready(app: App) -> App:
    """The app with two runs on pocket: one trained, and a copy of it as the older one."""
    command = [sys.executable, "-m", "qa_lora", "train", "--model", "pocket", "--data", "atlas"]
    options = {"max-steps": 6, "probe-rows": 0, "score-rows": 0, "learning-rate": 0.003}
    for name, value in {**options, "runs-dir": app.runs_dir}.items():
        command += [f"--{name}", str(value)]
    subprocess.run(command, check=True, capture_output=True)
    run = app.runs()[0]
    shutil.copytree(run.path, run.path.with_name("2000-01-01-000000-older"))
    return app


@pytest.fixture
def compare(ready: App, new_page: Callable[..., Any]) -> Callable[..., Any]:
    """Opens the Compare tab of a visitor, in one of its parts."""

    def open_part(part: str = "Ask") -> Any:
        page = new_page()
        page.get_by_role("tab", name="Compare").click()
        page.locator("#chips button").first.wait_for()
        if part != "Ask":
            page.get_by_role("tab", name=part, exact=True).click()
        return page

    return open_part


def intact(page: Any) -> None:
    """No script of a text ran, and no picture of one was made."""
    assert page.evaluate("window.broken") is None
    assert page.locator("#compare-parts img, #compare-parts script").count() == 0


def test_three_columns_answer_together_with_differences_scores_and_effect(
    compare: Callable[..., Any],
) -> None:
    page = compare()
    page.locator("#columns input").click()
    page.get_by_role("option", name=re.compile("older")).click()
    page.keyboard.press("Escape")
    page.locator("#chips button").first.click()
    for pane in ("base", "tuned", "other-1"):
        footer = page.locator(f"#{pane}-answer footer")
        expect(footer).to_contain_text(re.compile(r"tokens/s.*ROUGE-L \d\.\d\d"), timeout=SLOW)
    assert (
        page.locator("#tuned-answer .text").inner_text()
        == page.locator("#other-1-answer .text").inner_text()
    )
    expect(page.locator("#reference")).to_contain_text("Reference")
    expect(page.locator("#effect .effect")).to_have_count(2, timeout=SLOW)
    expect(page.locator("#effect")).to_contain_text(re.compile(r"mean KL \d+\.\d\d nats"))

    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#tuned-answer .copy").click()
    expect(page.locator("#tuned-answer .copy")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.locator("#tuned-answer .text").text_content()


def test_bad_questions_get_a_sentence_and_html_is_text(compare: Callable[..., Any]) -> None:
    page = compare()
    question, status = page.get_by_label("Question", exact=True), page.locator("#compare-status")
    for blank in ("", "   "):
        question.fill(blank)
        page.locator("#ask").click()
        expect(status).to_contain_text("There is no question yet")
    question.fill(EVIL)
    page.locator("#ask").click()
    expect(page.locator("#tuned-answer footer")).to_contain_text("token", timeout=SLOW)
    intact(page)

    # As a caller does who does not keep to the page's own limit.
    page.evaluate("document.querySelector('#question textarea').removeAttribute('maxlength')")
    question.fill("why " * 25_000)
    page.locator("#ask").click()
    expect(status).to_contain_text("first 20,000 of the question's 100,000", timeout=SLOW)

    page.get_by_role("button", name="How answers are made").click()
    page.get_by_label("Longest answer").fill("0")
    question.fill("Who?")
    page.locator("#ask").click()
    expect(status).to_contain_text("max_new_tokens must be between 1 and 8192")


def test_a_chat_goes_on_and_its_turns_are_text(compare: Callable[..., Any]) -> None:
    page = compare("Chat")
    turns = page.locator("#chat-turns .turn")
    for i, message in enumerate(("What is the capital of Peru?", EVIL)):
        page.get_by_label("Your turn").fill(message)
        page.keyboard.press("Enter")
        expect(turns).to_have_count(i + 1, timeout=SLOW)
        expect(page.locator("#chat-status .note")).to_have_count(0, timeout=SLOW)
    expect(turns.last.locator(".said")).to_have_text(EVIL)
    expect(turns.last.locator(".reply")).to_have_count(2)
    intact(page)
    page.locator("#chat-clear").click()
    expect(turns).to_have_count(0)


def test_a_batch_fills_a_table_and_is_taken_away(compare: Callable[..., Any]) -> None:
    page = compare("Batch")
    page.get_by_label("My own", exact=True).check()
    page.get_by_label("My own questions").fill(f"=1+1\n{EVIL}\n\nWhat is Pu?")
    page.locator("#probe-start").click()
    expect(page.locator("#probe-status")).to_contain_text("3 of 3 answered", timeout=SLOW)
    expect(page.locator("#probe-table tbody tr")).to_have_count(3)
    intact(page)
    with page.expect_download() as caught:
        page.locator("#probe-csv").click()
    with Path(caught.value.path()).open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["question"] for row in rows] == ["'=1+1", EVIL, "What is Pu?"]
    assert set(rows[0]) == {"question", "context", "base", "tuned"}


def test_a_blind_vote_is_blind_then_named_counted_and_kept(
    compare: Callable[..., Any], ready: App
) -> None:
    page = compare("Blind test")
    said: list[str] = []
    page.on("response", lambda r: said.append(r.url))
    page.get_by_label("Question of your own").fill(EVIL)
    page.locator("#blind-ask").click()
    expect(page.locator("#vote-0")).to_be_enabled(timeout=SLOW)
    shown = page.locator("#blind-part, #blind-panes").last.inner_html()
    assert not re.search("base|tuned|token", shown, re.IGNORECASE)
    intact(page)
    page.locator("#blind-drawn").click()
    page.keyboard.press("a")
    expect(page.locator("#blind-status")).to_contain_text("You preferred A")
    expect(page.locator("#blind-panes h3")).to_have_text(
        [re.compile("A: (Base model|Fine-tuned)"), re.compile("B: (Base model|Fine-tuned)")]
    )
    expect(page.locator("#vote-0")).to_be_disabled()
    row = page.locator("#blind-tally tbody tr")
    expect(row).to_contain_text("Fine-tuned against Base model")
    with page.expect_download() as caught:
        page.locator("#votes-json").click()
    values = json.loads(Path(caught.value.path()).read_text("utf-8"))
    (vote,) = values["votes"]
    assert vote["question"] == EVIL and vote["vote"] == vote["left"]
    assert vote["settings"]["num_beams"] == 1 and len(vote["visitor"]) == 16
    assert [v.vote for v in list_votes(ready.runs_dir)] == [vote["vote"]]
    intact(page)
    page.reload()
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("tab", name="Blind test", exact=True).click()
    expect(page.locator("#blind-tally tbody tr")).to_contain_text("Fine-tuned against Base")


def test_a_second_visitor_sees_the_line_and_stop_frees_it(compare: Callable[..., Any]) -> None:
    first, second = compare(), compare()
    first.get_by_role("button", name="How answers are made").click()
    first.get_by_label("Longest answer").fill("8000")
    first.get_by_label("Shortest answer").fill("7000")
    first.locator("#chips button").first.click()
    words = first.locator("#tuned-answer .text")
    expect(words).to_contain_text(re.compile(r"\w+ \w+"), timeout=SLOW)
    second.locator("#chips button").first.click()
    expect(second.locator("#compare-status")).to_contain_text("You are next")
    first.locator("#stop-answer").click()
    expect(first.locator("#compare-status")).to_contain_text("Stopped")
    expect(words).to_contain_text(re.compile(r"\w+ \w+"))
    expect(second.locator("#tuned-answer footer")).to_contain_text("ROUGE-L", timeout=SLOW)
