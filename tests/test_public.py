"""A server that strangers can reach: what one visitor's page can do to another's runs.

The handlers are those of the app as it is, found by looking: one that is added later is called
here, too.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qa_lora import processes, runs
from qa_lora.config import TrainConfig
from qa_lora.owners import OWNER, owner_of
from qa_lora.report import save_report
from qa_lora.ui.visitors import new_cookie
from qa_lora.votes import Vote, add_vote
from tests.lively import make_adapter, make_model
from tests.made_reports import make_report

pytest.importorskip("gradio")
from tests.visiting import Place, Visit, open_place

SECRET = "canary"
SCORES = {"base": [0.1, 0.2], "tuned": [0.5, 0.2]}
TEXTS = ("Textbox", "Dropdown", "Radio", "BrowserState", "HTML", "Dataset")


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tiny_model, tmp_path_factory.mktemp("lively-t5"))


@pytest.fixture(autouse=True)
def _nothing_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers may start a run of the visitor's own; its process is not what is looked at."""
    monkeypatch.setattr(processes, "spawn", lambda folder: None)


def make_run(runs_dir: Path, model: Path, name: str, text: str, owner: str = "") -> runs.Run:
    """A finished run whose every text says `text`."""
    data = runs_dir.parent / f"{text}.csv"
    rows = "".join(f"What is {text} {i}?,It is {text} {i}.\n" for i in range(40))
    data.write_text("question,answer\n" + rows)
    config = TrainConfig.build(
        model=str(model), data=str(data), name=name, precision="fp32", max_new_tokens=4
    )
    run = runs.create(config, runs_dir, owner)
    make_adapter(model, run.adapter)
    save_report(make_report(SCORES, text=text), run.evaluations_dir)
    (run.path / "worker.log").write_text(text)
    (run.path / "checkpoint").mkdir()
    (run.path / "events.jsonl").write_text("")
    add_vote(runs_dir, Vote(run.id, "base", "tuned", text, text, text, text, "tie", visitor=text))
    return run


def state(folder: Path) -> dict[str, str]:
    """Every file below a folder with what is in it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def attempts(place: Place, run: runs.Run) -> Iterator[tuple[int, list[Any]]]:
    """Each handler, with what a page that names the run in one way or another may send."""
    for index, fn in place.demo.fns.items():
        if fn.fn is None:
            continue
        plain = place.inputs(index, run=run.id, columns=["base", "tuned"], question="Why?")
        yield index, plain
        texts = [i for i, part in enumerate(fn.inputs) if type(part).__name__ in TEXTS]
        lists = [i for i in texts if getattr(fn.inputs[i], "multiselect", False)]
        if not texts:
            continue
        for name in (run.id, str(run.path), str(run.adapter)):
            data = list(plain)
            for i in texts:
                data[i] = ["base", "tuned", name] if i in lists else name
            yield index, data
            # The run in view is the visitor's choice; what is named beside it is another's.
            yield index, [run.id if part.elem_id == "run" else value
                          for part, value in zip(fn.inputs, data, strict=True)]  # fmt: skip


def named(place: Place, index: int) -> str:
    fn = place.demo.fns[index].fn
    return f"{fn.__module__}.{fn.__qualname__}"


class Scene:
    """A visitor's run, a run of the server's own, and somebody else at the other end."""

    def __init__(self, place: Place, model: Path) -> None:
        runs_dir = place.engine.runs_dir
        self.place = place
        self.ann, self.bob = place.visitor(), place.visitor()
        self.anns = make_run(runs_dir, model, "anns", SECRET, self.ann.word)
        self.shared = make_run(runs_dir, model, "shared", "common")
        place.engine.forget_list()

    def call(self, who: Visit, module: str, name: str, **given: Any) -> str:
        index = self.place.index(module, name)
        return who.call(index, self.place.inputs(index, **given))


@pytest.fixture
def scene(model: Path, tmp_path: Path) -> Iterator[Scene]:
    with open_place(tmp_path / "runs", public=True) as place:
        yield Scene(place, model)


def test_no_handler_gives_or_changes_anything_of_another_visitors_run(scene: Scene) -> None:
    before = state(scene.anns.path), state(scene.shared.path)
    leaks = set()
    for index, data in attempts(scene.place, scene.anns):
        said = scene.bob.call(index, data)
        # What was sent may come back; what is in the run may not.
        if SECRET in said.replace(json.dumps(data)[1:-1], ""):
            leaks.add(named(scene.place, index))
        assert state(scene.anns.path) == before[0], named(scene.place, index)
    assert not leaks
    assert state(scene.shared.path) == before[1]
    assert scene.place.engine.job(scene.anns.id) is None


def test_no_handler_tells_that_another_visitors_run_is_there(scene: Scene) -> None:
    (scene.anns.path / "stop-requested").touch()
    for index, fn in scene.place.demo.fns.items():
        if fn.fn is not None:
            data = scene.place.inputs(index, run=scene.shared.id, columns=["base", "tuned"])
            assert scene.anns.id not in scene.bob.call(index, data), named(scene.place, index)
    for path in ("/", "/config", "/gradio_api/info", "/gradio_api/openapi.json"):
        assert scene.anns.id not in scene.bob.http.get(path).text


def test_where_all_see_all_runs_others_change_none(model: Path, tmp_path: Path) -> None:
    with open_place(tmp_path / "runs", public=True, visibility="all") as place:
        scene = Scene(place, model)
        assert "anns" in scene.call(scene.bob, "build", "open_page")
        before = state(scene.anns.path), state(scene.shared.path)
        for run in (scene.anns, scene.shared):
            for index, data in attempts(place, run):
                scene.bob.call(index, data)
                now = state(scene.anns.path), state(scene.shared.path)
                assert now == before, named(place, index)


def test_in_a_read_only_demo_nothing_changes_at_all(model: Path, tmp_path: Path) -> None:
    with open_place(tmp_path / "runs", read_only=True) as place:
        scene = Scene(place, model)
        before = state(place.engine.runs_dir)
        for index, data in attempts(place, scene.shared):
            scene.bob.call(index, data)
            assert state(place.engine.runs_dir) == before, named(place, index)
        assert "note bad" in scene.call(scene.bob, "train_events", "start")
