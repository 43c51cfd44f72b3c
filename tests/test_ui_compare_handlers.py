"""What the Compare tab's handlers do with a tiny model, without a browser."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qa_lora import runs
from qa_lora.answering import answerer
from qa_lora.config import TrainConfig
from qa_lora.data import DataSplit
from qa_lora.errors import ModelError
from qa_lora.votes import Vote, add_vote, list_votes
from tests.lively import make_adapter, make_model

pytest.importorskip("gradio")
from qa_lora.ui.build import build_app
from qa_lora.ui.compare import shown_votes
from qa_lora.ui.compare.blind import Ballot, build_blind
from qa_lora.ui.compare.chat import Talk
from qa_lora.ui.engine import Engine

COLUMNS = ["base", "tuned"]


class Page:
    """The app's handlers as one page calls them."""

    def __init__(self, runs_dir: Path, model: Path, data: Path) -> None:
        self.engine = Engine(runs_dir)
        self.engine.warm = True  # the libraries are there
        config = TrainConfig.build(
            model=str(model), precision="fp32", data=str(data), max_new_tokens=12
        )
        self.run = runs.create(config, runs_dir)
        make_adapter(model, self.run.adapter)
        self.engine.forget_list()
        self.app = build_app(runs_dir, self.engine)
        self.request = types.SimpleNamespace(session_hash="page")

    def handler(self, part: str, name: str) -> Callable[..., Any]:
        """The function of that name in a part of the tab."""
        return next(
            fn.fn
            for fn in self.app.fns.values()
            if fn.fn is not None
            and fn.fn.__module__ == f"qa_lora.ui.{part}"
            and fn.fn.__name__ == name
        )

    def settings(self, **other: Any) -> list[Any]:
        """Values of the controls."""
        from qa_lora.ui.compare.controls import SETTINGS

        return [other.get(name) for name in SETTINGS]


@pytest.fixture(scope="module")
def page(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    folder = tmp_path_factory.mktemp("compare")
    data = folder / "qa.csv"
    rows = "".join(f"What is thing {i}?,It is {i}.\n" for i in range(40))
    data.write_text("question,answer\n" + rows)
    return Page(folder / "runs", make_model(tiny_model, folder / "model"), data)


def with_turns(page: Page, monkeypatch: pytest.MonkeyPatch, alone: int) -> DataSplit:
    """The run's data, in which only the first few test questions go on no earlier turns."""
    split = page.engine.split(page.run)
    test = [
        e if i < alone else dataclasses.replace(e, history=(("Hello?", "Hi."),))
        for i, e in enumerate(split.test)
    ]
    split = dataclasses.replace(split, test=test)
    monkeypatch.setattr(page.engine, "split", lambda run: split)
    return split


def said(update: dict[Any, Any], elem_id: str) -> Any:
    """What an update holds for a component."""
    return next((value for part, value in update.items() if part.elem_id == elem_id), None)


def until(updates: Iterator[dict[Any, Any]], elem_id: str, text: str) -> None:
    """Go on until a component shows a text."""
    for update in updates:
        if text in (said(update, elem_id) or ""):
            return
    raise AssertionError(f"It never showed {text}.")


def test_a_new_chat_is_not_overwritten_by_the_answer_that_it_ended(page):
    send, clear = page.handler("compare.chat", "send"), page.handler("compare.chat", "clear")
    for frames in (1, 3):  # before the model's turn, and in it
        going = send(page.request, Talk(), page.run.id, "Why?", "", COLUMNS, *page.settings())
        for _ in range(frames):
            next(going)
        clear(page.request, page.run.id, COLUMNS)
        assert list(going) == []


def test_a_closed_page_ends_its_batch(page):
    start, leave = page.handler("compare.probes", "start"), page.handler("compare", "leave")
    going = start(page.request, page.run.id, "all", "", COLUMNS, *page.settings())
    until(going, "probe-status", "0 of 40")
    leave(page.request)
    assert "0 of 40 answered; stopped" in said(list(going)[-1], "probe-status")


def test_a_visitors_own_length_stays_until_another_run_has_another_one(page):
    open_tab = page.handler("compare", "open_tab")
    for before, sent in ((128, 12), (12, None)):
        opened = open_tab(page.run.id, COLUMNS, before)
        value = said(opened, "make-max_new_tokens")
        assert (value if isinstance(value, int) else None) == sent
        assert 12 in opened.values()  # what the page was last set to


def test_questions_that_go_on_earlier_turns_are_not_asked_without_them(page, monkeypatch):
    only = with_turns(page, monkeypatch, alone=1).test[0]
    assert len(page.engine.split(page.run).test) > 2
    pick, ask = page.handler("compare.ask", "pick"), page.handler("compare.blind", "ask")
    opened = page.handler("compare", "open_tab")(page.run.id, COLUMNS, 128)
    chips = next(v for part, v in opened.items() if part.elem_id == "chips")
    assert [list(sample) for sample in chips.raw_samples] == [[only.question]]
    assert pick(page.run.id, 5)[0] == only.question
    for _ in range(4):
        assert page.handler("compare.ask", "surprise")(page.run.id)[0] == only.question
    drawn = next(ask(page.request, page.run.id, "", COLUMNS, *page.settings()))
    assert only.question in said(drawn, "blind-drawn")
    start = page.handler("compare.probes", "start")
    batch = list(start(page.request, page.run.id, "held-out", "", COLUMNS, *page.settings()))[-1]
    assert "1 of 1 answered." in said(batch, "probe-status")
    with_turns(page, monkeypatch, alone=0)
    assert pick(page.run.id, None) == ("", "")
    (refused,) = ask(page.request, page.run.id, "", COLUMNS, *page.settings())
    assert "no held-out questions that can be asked" in said(refused, "blind-status")


def test_a_second_vote_on_the_same_two_answers_is_said_not_to_count(page):
    ask, vote = page.handler("compare.blind", "ask"), page.handler("compare.blind", "vote")
    *_, last = ask(page.request, page.run.id, "Why?", COLUMNS, *page.settings())
    ballot = next(value for value in last.values() if isinstance(value, Ballot))
    assert "You preferred A" in said(vote(ballot, "", "left"), "blind-status")
    again = vote(ballot, "", "right")
    assert "the first vote counts" in said(again, "blind-status")
    assert [v.vote for v in list_votes(page.engine.runs_dir)] == [ballot.systems[0]]
    same = dataclasses.replace(ballot, id="other", systems=("tuned", "tuned"))
    assert "two systems" in said(vote(same, "", "left"), "blind-status")


@pytest.mark.parametrize("part", ["ask", "blind"])
def test_an_answer_of_the_run_that_was_in_view_before_is_not_shown(page, part):
    name = {"ask": "answer", "blind": "ask"}[part]
    inputs = {"ask": ["Why?", ""], "blind": ["Why?"]}[part]
    begin, changed = (page.handler(f"compare.{part}", each) for each in (name, "changed"))
    for frames in (1, 2):  # before the model's turn, and in it
        going = begin(page.request, page.run.id, *inputs, COLUMNS, *page.settings())
        for _ in range(frames):
            next(going)
        cleared = changed(page.request)
        assert "answer will appear" in said(
            cleared, {"ask": "compare-panes"}.get(part, "blind-panes")
        )
        assert list(going) == []


@pytest.mark.parametrize(("good", "kept"), [(1, 8), (0, 0)])
def test_a_batch_that_fails_midway_keeps_what_is_done(page, monkeypatch, good, kept):
    lines = "\n".join(["\u200b", *(f"What is {i}?" for i in range(10))])
    asked = (page.request, page.run.id, "own", lines, COLUMNS, *page.settings())
    groups = []
    answer_rows = answerer.answer_rows

    def fails(*args: Any, **options: Any) -> Iterator[Any]:
        groups.append(0)
        if len(groups) > good:
            raise ModelError("The memory does not suffice.")
        return answer_rows(*args, **options)

    monkeypatch.setattr(answerer, "answer_rows", fails)
    *_, last = page.handler("compare.probes", "start")(*asked)
    status, table = said(last, "probe-status"), said(last, "probe-table")
    assert f"does not suffice. {kept} of 10 answered." in status and "note bad" in status
    assert table.count('<th scope="row">') == kept and "…" not in table
    assert said(last, "probe-csv").interactive == (kept > 0)


def test_files_of_votes_that_are_being_copied_stay_whole(page, monkeypatch, tmp_path):
    import gradio as gr

    with gr.Blocks():
        blind = build_blind()
    vote = Vote(page.run.id, "base", "tuned", "Why?", "", "a", "b", "tie")
    add_vote(page.engine.runs_dir, vote)
    shown_votes.shown_tally(page.engine, blind, page.run.id, tmp_path)
    for make in ("votes_csv", "votes_json"):
        (path,) = tmp_path.glob(f"*.{make.removeprefix('votes_')}")
        whole = path.read_text("utf-8")
        monkeypatch.setattr(shown_votes, make, lambda votes: "new")
        with path.open(encoding="utf-8") as copied:
            shown_votes.shown_tally(page.engine, blind, page.run.id, tmp_path)
            assert copied.read() == whole and path.read_text("utf-8-sig") == "new"
    assert len(list(tmp_path.iterdir())) == 2
