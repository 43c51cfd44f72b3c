"""The Compare tab as a person uses it: columns, chat, batch, blind test, and what must not happen."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from qa_lora import runs
from qa_lora.config import TrainConfig
from qa_lora.votes import list_votes
from tests.browser.conftest import ROOT
from tests.lively import make_adapter

if TYPE_CHECKING:
    from tests.browser.conftest import App

pytestmark = pytest.mark.browser

SLOW = 60_000
EVIL = "Repeat: <img src=x onerror='window.broken=1'> **bold** <script>window.broken=1</script>"


@pytest.fixture(scope="module")
def ready(app: App) -> App:
    """The app with two runs on pocket that have adapters of different weights."""
    for name, seed in (("older", 1), ("newer", 2)):
        run = runs.create(TrainConfig(name=name), app.runs_dir)
        make_adapter(ROOT / "qa_lora" / "bundled" / "pocket", run.adapter, seed=seed)
    return app


@pytest.fixture(scope="module")
def visitors(ready: App, browser: Any) -> Iterator[list[Any]]:
    """The Compare tabs of two visitors; each test goes on where the one before it stopped."""
    pages = []
    for _ in range(2):
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.goto(ready.url)
        page.locator("#data-card .card").wait_for()
        page.get_by_role("tab", name="Compare").click()
        page.locator("#chips button").first.wait_for()
        pages.append(page)
    yield pages
    for page in pages:
        page.context.close()


@pytest.fixture
def compare(visitors: list[Any]) -> Callable[..., Any]:
    """Shows a part of the first visitor's Compare tab."""

    def show(part: str) -> Any:
        visitors[0].get_by_role("tab", name=part, exact=True).click()
        return visitors[0]

    return show


def ask(page: Any, question: str) -> None:
    """Ask, and wait for the whole answer."""
    page.get_by_label("Question", exact=True).fill(question)
    page.evaluate("document.querySelector('#compare-panes .panes').removeAttribute('data-done')")
    page.locator("#ask").click()
    expect(page.locator("#compare-panes .panes[data-done]")).to_be_visible(timeout=SLOW)


def intact(page: Any) -> None:
    """No script of a text ran, and no picture of one was made."""
    assert page.evaluate("window.broken") is None
    assert page.locator("#compare-parts img, #compare-parts script").count() == 0


def put(page: Any, label: str, value: str) -> None:
    """Fill a field that has just been unfolded: until it is all there, what is typed may be lost."""
    field = page.get_by_label(label)
    for _ in range(20):
        field.fill(value)
        field.blur()
        page.wait_for_timeout(500)
        if field.input_value() == value:
            return
    raise AssertionError(f"{label} stays {field.input_value()}.")


def test_three_columns_answer_together_with_differences_scores_and_effect(
    compare: Callable[..., Any],
) -> None:
    page = compare("Ask")
    page.locator("#columns input").click()
    page.get_by_role("option", name=re.compile("-(older|newer)")).click()
    page.keyboard.press("Escape")
    page.locator("#chips button").first.click()
    for pane in ("base", "tuned", "other-1"):
        footer = page.locator(f"#{pane}-answer footer")
        expect(footer).to_contain_text(re.compile(r"tokens/s.*ROUGE-L \d\.\d\d"), timeout=SLOW)
    texts = page.locator("#compare-panes .answer .text").all_inner_texts()
    assert len(set(texts)) == 3, "three systems, three answers"
    expect(page.locator("#reference")).to_contain_text("Reference")
    expect(page.locator("#effect .effect")).to_have_count(2, timeout=SLOW)
    expect(page.locator("#effect")).to_contain_text(re.compile(r"mean KL \d+\.\d\d nats"))

    page.locator("#tuned-answer .copy").click()
    expect(page.locator("#tuned-answer .copy")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.locator("#tuned-answer .text").text_content()

    page.locator("#columns .token-remove").nth(2).click()
    expect(page.locator("#effect .effect")).to_have_count(1)


def test_bad_questions_get_a_sentence_and_html_is_text(compare: Callable[..., Any]) -> None:
    page = compare("Ask")
    question, status = page.get_by_label("Question", exact=True), page.locator("#compare-status")
    for blank in ("", "   "):
        question.fill(blank)
        page.locator("#ask").click()
        expect(status).to_contain_text("There is no question yet")
    ask(page, EVIL)
    intact(page)

    # As a caller does who does not keep to the page's own limit.
    page.evaluate("document.querySelector('#question textarea').removeAttribute('maxlength')")
    ask(page, "why " * 25_000)
    expect(status).to_contain_text("first 20,000 of the question's 100,000")

    page.get_by_role("button", name="How answers are made").click()
    put(page, "Longest answer", "0")
    question.fill("Who?")
    page.locator("#ask").click()
    expect(status).to_contain_text("max_new_tokens must be between 1 and 8192")
    put(page, "Longest answer", "40")
    ask(page, "Who?")
    expect(page.locator("#compare-status .note")).to_have_count(0)


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
    page.get_by_label("Question of your own").fill(EVIL)
    page.locator("#blind-ask").click()
    expect(page.locator("#vote-0")).to_be_enabled(timeout=SLOW)
    shown = page.locator("#blind-panes").inner_html()
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


def test_another_visitor_sees_the_line_and_stop_frees_it(
    compare: Callable[..., Any], visitors: list[Any]
) -> None:
    page, other = compare("Ask"), visitors[1]
    other.get_by_role("button", name="How answers are made").click()
    put(other, "Longest answer", "8000")
    put(other, "Shortest answer", "7000")
    other.locator("#chips button").first.click()
    words = other.locator("#tuned-answer .text")
    # More than any answer that may end by itself: this one goes on for long.
    expect(words).to_contain_text(re.compile(r"[\s\S]{400}"), timeout=SLOW)
    page.locator("#chips button").first.click()
    expect(page.locator("#compare-status")).to_contain_text("You are next")
    other.locator("#stop-answer").click()
    expect(other.locator("#compare-status")).to_contain_text("Stopped")
    expect(words).to_contain_text(re.compile(r"\w+ \w+"))
    expect(page.locator("#tuned-answer footer")).to_contain_text("ROUGE-L", timeout=SLOW)
