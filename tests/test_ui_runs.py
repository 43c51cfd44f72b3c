"""What the Runs tab's handlers do, without a browser."""

from __future__ import annotations

import json
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qa_lora import runs
from qa_lora.errors import RunError
from qa_lora.labels import read_label, write_label
from qa_lora.report import save_report
from tests.lively import make_adapter, make_model
from tests.made_reports import make_report
from tests.made_runs import made_run, pretend_alive, started, step, story, with_adapter

pytest.importorskip("gradio")
from qa_lora.ui.build import build_app
from qa_lora.ui.engine import Engine, Job
from qa_lora.ui.header import MOST_OFFERED, run_choices
from qa_lora.ui.runs.comparison import comparison_html
from qa_lora.ui.runs.details import details_html, possible
from qa_lora.ui.runs.table import HEADERS, run_id_of

EVIL = "<img src=x onerror='window.broken=1'>"


class Page:
    """The tab's handlers as one page calls them, and what the page then shows."""

    def __init__(self, runs_dir: Path) -> None:
        self.engine = Engine(runs_dir)
        self.app = build_app(runs_dir, self.engine)
        self.view: dict[str, Any] = {
            "chosen": "", "other": None, "kind": "validation", "text": "", "status": "",
            "order": "newest", "most": 100, "seen": {},
        }  # fmt: skip

    def handler(self, name: str, module: str = "runs.events") -> Callable[..., Any]:
        return next(
            fn.fn
            for fn in self.app.fns.values()
            if fn.fn is not None
            and fn.fn.__module__ == f"qa_lora.ui.{module}"
            and fn.fn.__name__ == name
        )

    def call(self, name: str, *args: Any, module: str = "runs.events") -> dict[str, Any]:
        """What a handler updates, by the components' ids on the page."""
        self.engine.forget_list()
        update = self.handler(name, module)(*args)
        found = {getattr(c, "elem_id", None) or type(c).__name__: v for c, v in update.items()}
        return found

    def show(self, **view: Any) -> dict[str, Any]:
        self.view |= view
        self.engine.forget_list()
        update = self.handler("show", "runs.view")(*self.view.values())
        for fn in self.app.fns.values():  # gradio refuses whatever else is updated
            if fn.fn is not None and fn.fn.__name__ == "show" and "runs.view" in fn.fn.__module__:
                assert set(update) <= set(fn.outputs)
        states = [v for c, v in update.items() if type(c).__name__ == "State"]
        self.view["seen"] = next(v for v in states if isinstance(v, dict))
        if "" in states:
            self.view["chosen"] = ""
        return {c.elem_id: v for c, v in update.items() if getattr(c, "elem_id", None)}


@pytest.fixture
def page(tmp_path: Path) -> Page:
    runs_dir = tmp_path / "runs"
    made_run(runs_dir, "a", *story((2.0,), rouge=(0.2, 0.9)), lora_r=4)
    with_adapter(made_run(runs_dir, "b", *story((1.0, 0.5))))
    made_run(runs_dir, "c", started(), step(1))
    return Page(runs_dir)


def click(run_id: str) -> Any:
    return types.SimpleNamespace(row_value=[*[None] * (len(HEADERS) - 1), run_id])


def ids(update: dict[str, Any]) -> list[str]:
    return [row[-1] for row in update["runs-table"]["data"]]


def test_the_table_is_sent_once_and_again_when_it_changes(page: Page) -> None:
    first = page.show()
    assert ids(first) == ["c", "b", "a"] and "3 runs shown" in first["runs-count"]
    assert page.show() == {}  # nothing has changed
    assert ids(page.show(text="lora r 4")) == ["a"]
    assert ids(page.show(text="", status="finished", order="loss")) == ["b", "a"]
    write_label(page.engine.find("b"), title="Best")
    changed = page.show()
    assert list(changed) == ["runs-table"] and changed["runs-table"]["data"][0][0] == "Best"


def test_of_many_runs_the_first_are_shown_and_more_on_demand(page: Page) -> None:
    shown = page.show(most=2)
    assert ids(shown) == ["c", "b"] and shown["runs-more"].visible
    assert "3 runs shown, the first 2 of them" in shown["runs-count"]
    assert "sort only these" in shown["runs-count"]
    shown = page.show(most=102)
    assert ids(shown) == ["c", "b", "a"] and not shown["runs-more"].visible
    assert "sort only these" not in shown["runs-count"]


def test_no_run_says_what_to_do(tmp_path: Path) -> None:
    page = Page(tmp_path / "none")
    shown = page.show()
    assert "Press Start in the Train tab" in shown["runs-count"]
    assert "No run chosen" in shown["run-details"]


def test_a_click_chooses_by_the_rows_own_id(page: Page) -> None:
    write_label(page.engine.find("a"), title="First", note="why")
    chosen = page.call("choose", click("a"))
    assert chosen["run-title"] == "First" and chosen["run-note"] == "why"
    shown = page.show(chosen="a")
    assert "First" in shown["run-details"] and shown["run-acts"].visible
    for row in (click("../c"), click("none")):
        assert "is gone" in page.call("choose", row)["runs-message"]
    for broken in (None, "a", [], ["a"], [None] * len(HEADERS), [{}] * len(HEADERS)):
        assert run_id_of(broken) == ""


def test_buttons_follow_the_folder(page: Page) -> None:
    find = page.engine.find
    rests, done, new = possible(find("c")), possible(find("b")), possible(find("a"))
    assert (rests.resume, rests.stop, rests.go_on, rests.delete) == (True, False, False, True)
    assert (done.resume, done.go_on, done.download) == (False, True, True)
    assert not new.go_on
    pretend_alive(find("c"))
    busy = possible(find("c"))
    assert (busy.resume, busy.stop, busy.delete, busy.download) == (False, True, False, False)
    shown = page.show(chosen="c")
    assert shown["run-stop"].interactive and not shown["run-delete"].interactive
    page.handler("stop")("c")
    assert not page.show()["run-stop"].interactive


def test_open_puts_the_run_in_view(page: Page) -> None:
    update = page.call("open_run", "a")
    assert update["run"].value == "a" and update["tabs"].selected == "train"
    assert "is gone" in page.call("open_run", "../a")["runs-message"]


def test_going_on_fills_the_form_with_adapter_and_base(page: Page, monkeypatch) -> None:
    import gradio

    monkeypatch.setattr(gradio, "Info", lambda text: None)
    update = page.call("go_on", "b")
    assert update["set-init_adapter"] == "b" and update["set-model"] == "pocket"
    assert "no adapter" in page.call("go_on", "a")["runs-message"]


def test_a_name_is_saved_shown_and_escaped(page: Page) -> None:
    assert "Saved" in page.call("save", "a", EVIL, EVIL)["runs-message"]
    assert read_label(page.engine.runs_dir / "a").title == EVIL
    shown = page.show(chosen="a", other="b")
    assert "<img" not in shown["run-details"] + shown["run-comparison"]
    assert f"{EVIL} (a)" in [label for label, _ in run_choices(page.engine)]
    assert "at most 80" in page.call("save", "a", "x" * 81, "")["runs-message"]


def test_delete_restore_and_empty(page: Page) -> None:
    page.show(chosen="a")
    assert "in the trash" in page.call("delete", "a")["runs-message"]
    shown = page.show()
    assert ids(shown) == ["c", "b"] and "No run chosen" in shown["run-details"]
    assert page.view["chosen"] == "" and shown["runs-trash"].visible
    assert "is back" in page.call("restore", "a")["runs-message"]
    assert ids(page.show()) == ["c", "b", "a"]
    for name in ("../a", "", None):
        assert "no run" in page.call("restore", name)["runs-message"]
    page.call("delete", "a")
    assert page.call("ask")["runs-sure"].value == "Delete 1 run for good"
    assert page.engine.deleted.runs() and page.call("unask")["runs-empty"].visible
    assert "1 run deleted for good" in page.call("empty")["runs-message"]
    assert page.engine.deleted.runs() == []


def test_a_run_that_is_being_scored_is_not_deleted(page: Page) -> None:
    page.engine.jobs["b"] = Job("b", "answering", adapters=("a",))
    for run_id in ("a", "b"):
        assert "is being scored" in page.call("delete", run_id)["runs-message"]
    page.engine.jobs["b"].state = "done"
    page.call("delete", "b")
    assert page.engine.find("b") is None


def test_the_zip_is_offered_and_its_folder_removed(page: Page) -> None:
    update = page.call("download", "b", False)
    path = Path(update["run-file"])
    with zipfile.ZipFile(path) as file:
        assert "b/config.yaml" in file.namelist()
    for strange in ("", "..", "/", str(path.parent), "."):
        page.handler("clean")(strange)
    assert path.exists()
    page.handler("clean")(path.parent.name)
    assert not path.parent.exists() and path.parent.parent.exists()
    pretend_alive(page.engine.find("b"))
    assert "worked on" in page.call("download", "b", False)["runs-message"]


def test_two_runs_are_compared(page: Page) -> None:
    shown = page.show(chosen="a", other="b")
    told = shown["run-comparison"]
    assert "LoRA rank (r)" in told and "<td>4</td>" in told
    assert "a and b have not been scored" in told and "Validation loss" in shown["run-curves"].value
    find = page.engine.find
    save_report(make_report({"base": [0.1, 0.2], "tuned": [0.5, 0.7]}), find("a").evaluations_dir)
    other = make_report({"base": [0.1, 0.2], "tuned": [0.9, 0.9]}, text="else")
    save_report(other, find("b").evaluations_dir)
    assert "cannot be compared" in page.show()["run-comparison"]
    save_report(make_report({"base": [0.1, 0.2], "tuned": [0.2, 0.4]}), find("b").evaluations_dir)
    told = page.show()["run-comparison"]
    assert "same 2 questions" in told and "0.600 (+0.45)" in told and "0.300 (+0.15)" in told
    assert page.show(kind="train")["run-curves"].value.count("Train loss") == 1
    assert page.show(other="a")["run-comparison"] == ""


def test_two_states_of_a_base_are_told_apart(page: Page) -> None:
    for name, commit in (("a", "a" * 40), ("b", "b" * 40)):
        path = page.engine.find(name).path / "environment.json"
        path.write_text(json.dumps({"base": {"commit": commit}}))
    page.show()
    shown = page.show(chosen="a", other="b")["run-comparison"]
    assert "Commit of the base" in shown and "a" * 40 in shown and "b" * 40 in shown


def test_a_damaged_run_is_shown_compared_and_harms_nothing(page: Page) -> None:
    broken = page.engine.runs_dir / "b"
    (broken / "events.jsonl").unlink()
    (broken / "events.jsonl").mkdir()
    (broken / "config.yaml").write_text("[")
    shown = page.show(chosen="b", other="a")
    assert "no file" in shown["run-details"] and "damaged" in shown["runs-count"]
    assert "damaged" in comparison_html(*map(page.engine.find, "ab"), ("a", "b"))
    assert ids(shown) == ["c", "b", "a"]
    row = next(row for row in page.engine.rows() if row.id == "b")
    assert "can be deleted" in details_html(page.engine.find("b"), row)
    look = page.handler("look", "build")
    look("b", False, 0.5, ("", ""))


def test_the_selector_offers_the_newest_and_the_chosen_one(tmp_path: Path) -> None:
    for number in range(MOST_OFFERED + 20):
        (tmp_path / f"r{number:04d}" / "adapter").mkdir(parents=True)
    engine = Engine(tmp_path)
    assert len(run_choices(engine)) == MOST_OFFERED
    assert [each for _, each in run_choices(engine, "r0001")][-1] == "r0001"


def test_the_page_is_told_of_the_selectors_runs_only_when_they_change(page: Page) -> None:
    look = page.handler("look", "build")
    first = {getattr(c, "elem_id", None): v for c, v in look("a", False, 0.5, ("", "")).items()}
    state = first[None]
    assert len(first["run"].choices) == 3
    pretend_alive(page.engine.find("c"))
    page.engine.forget_list()
    again = {getattr(c, "elem_id", None): v for c, v in look("a", False, 0.5, state).items()}
    sent = again["run"]._constructor_args[0]
    assert "c · running" in dict(sent["choices"]) and "value" not in sent
    third = {getattr(c, "elem_id", None): v for c, v in look("a", True, 0.5, again[None]).items()}
    assert "choices" not in third["run"]


def test_a_deleted_run_in_memory_breaks_no_other_page(tiny_model: Path, tmp_path: Path) -> None:
    model = make_model(tiny_model, tmp_path / "model")
    engine = Engine(tmp_path / "runs")
    for seed, name in ((1, "one"), (2, "two")):
        run = made_run(engine.runs_dir, name, model=str(model), precision="fp32")
        make_adapter(model, run.adapter, seed=seed)
    one, two = (runs.Run(engine.runs_dir / name) for name in ("one", "two"))
    answerer = engine.answerer(one, ["two"])
    before = answerer.answer("Why?", variant="two").text
    engine.deleted.delete("one")
    assert answerer.answer("Why?").text  # a page that had asked it before goes on
    assert engine.answerer(two).answer("Why?").text == before
    with pytest.raises(RunError):
        engine.answerer(one)
    assert engine.deleted.restore("one").id == "one"
    assert engine.answerer(one, ["two"]).answer("Why?", variant="two").text == before
