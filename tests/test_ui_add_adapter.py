"""Adapters from elsewhere on the page: added, offered, chosen, scored, removed."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from qa_lora import runs
from qa_lora.config import TrainConfig
from qa_lora.errors import ConfigError
from qa_lora.imported import list_imported
from qa_lora.importing import import_adapter
from qa_lora.serving import ServerSettings
from tests.lively import make_adapter, make_model

pytest.importorskip("gradio")
from qa_lora.ui.add_adapter import imported_html
from qa_lora.ui.build import build_app
from qa_lora.ui.engine import Engine
from qa_lora.ui.evaluate.ordering import make_order
from qa_lora.ui.visitors import Visitor, acting_as

STRANGERS = ServerSettings(public=True)


class Page:
    """An app over one run, and its handlers."""

    def __init__(self, runs_dir: Path, model: Path) -> None:
        self.engine = Engine(runs_dir)
        self.engine.warm = True  # the libraries are there
        config = TrainConfig.build(model=str(model), precision="fp32", max_new_tokens=8)
        self.run = runs.create(config, runs_dir)
        make_adapter(model, self.run.adapter)
        self.app = build_app(runs_dir, self.engine)

    def call(self, part: str, name: str, *values: Any) -> list[dict[str, Any]]:
        """What a handler of one tab's accordion shows, by the ids of elements."""
        (handler,) = [
            fn.fn
            for fn in self.app.fns.values()
            if fn.fn is not None
            and (fn.fn.__module__, fn.fn.__name__) == ("qa_lora.ui.add_adapter", name)
            and any(str(each.elem_id).startswith(part) for each in fn.outputs)
        ]
        said = handler(*values)
        updates = [said] if isinstance(said, dict) else list(said)
        return [{part.elem_id: shown(value) for part, value in each.items()} for each in updates]


def shown(value: Any) -> Any:
    """What a component is changed to, by the names of its properties."""
    if isinstance(value, (str, dict)):
        return value
    return {n: getattr(value, n, None) for n in ("value", "choices", "visible", "interactive")}


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tiny_model, tmp_path_factory.mktemp("add-adapter") / "model")


@pytest.fixture(scope="module")
def made(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(model, tmp_path_factory.mktemp("add-adapter") / "mine", seed=7)


@pytest.fixture
def page(model: Path, tmp_path: Path) -> Page:
    return Page(tmp_path / "runs", model)


CHOSEN = {"compare": ("columns", ["base", "tuned"]), "evaluate": ("adapters", [])}


@pytest.mark.parametrize("part", ["compare", "evaluate"])
def test_what_is_added_is_chosen_and_what_is_removed_is_offered_no_more(page, made, part):
    elem_id, before = CHOSEN[part]
    *_, last = page.call(part, "add", page.run.id, before, str(made), "mine", "")
    assert last[elem_id]["value"] == [*before, "mine"]
    assert ("mine (imported)", "mine") in last[elem_id]["choices"]
    assert "Added mine: for" in last[f"{part}-add-message"]
    assert "can be chosen" in last[f"{part}-imported"]
    assert last[f"{part}-which"]["choices"] == [("mine", "mine")]
    assert last[f"{part}-which"]["visible"]
    (gone,) = page.call(part, "remove", page.run.id, [*before, "mine"], "mine")
    assert list_imported(page.engine.runs_dir) == []
    assert "mine" not in gone[elem_id]["value"]
    (again,) = page.call(part, "remove", page.run.id, before, "../../mine")
    assert "no imported adapter named ../../mine" in again[f"{part}-add-message"]


def test_an_upload_is_taken_and_its_copy_deleted(page, made, tmp_path):
    archive = tmp_path / "upload.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for path in made.iterdir():
            opened.write(path, f"adapter/{path.name}")
    *_, last = page.call("compare", "upload", page.run.id, ["base", "tuned"], str(archive), "", "")
    (kept,) = list_imported(page.engine.runs_dir)
    assert last["columns"]["value"] == ["base", "tuned", kept.name]
    assert kept.source == "upload.zip" and not archive.exists()


def test_a_refusal_stands_at_the_control(page, tmp_path):
    first, last = page.call("compare", "add", page.run.id, ["base"], "<b>no</b>", "", "")
    assert not first["compare-add"]["interactive"] and last["compare-add"]["interactive"]
    assert 'role="alert"' in last["compare-add-message"]
    assert "&lt;b&gt;no&lt;/b&gt;" in last["compare-add-message"]
    assert "columns" not in last


def test_strangers_name_no_folder_and_remove_nothing(page, made, monkeypatch):
    kept = import_adapter(made, page.engine.runs_dir, name="mine")
    monkeypatch.setattr(page.engine.access, "settings", STRANGERS)
    monkeypatch.setattr(page.engine, "serving", STRANGERS)
    with acting_as(Visitor("word")):
        *_, last = page.call("evaluate", "add", page.run.id, [], str(made), "two", "")
        assert "cannot be a Hub id" in last["evaluate-add-message"]
    (said,) = page.call("evaluate", "remove", page.run.id, [], "mine")
    assert "no imported adapter named mine to remove" in said["evaluate-add-message"]
    (shown,) = page.call("evaluate", "show", page.run.id)
    assert not shown["evaluate-remove"]["visible"] and not shown["evaluate-which"]["visible"]
    assert list_imported(page.engine.runs_dir) == [kept]


def test_an_adapter_of_another_base_is_listed_and_says_why_it_cannot_be_chosen(
    page, model, tmp_path
):
    other = Path(shutil.copytree(model, tmp_path / "other"))
    adapter = make_adapter(other, tmp_path / "theirs")
    *_, last = page.call(
        "compare", "add", page.run.id, ["base", "tuned"], str(adapter), "theirs", ""
    )
    assert last["columns"]["value"] == ["base", "tuned"]
    assert "theirs" not in str(last["columns"]["choices"])
    assert f"the run in view stands on {model}" in last["compare-add-message"]
    assert f"not now: the run in view stands on {model}" in last["compare-imported"]
    assert "a run of this base is needed" in imported_html(page.engine.adapters.listed(), None)
    with pytest.raises(ConfigError, match="no run theirs with an adapter here"):
        make_order(page.engine, page.run, tmp_path, "test", ["theirs"], 5, 0)


def test_what_strangers_wrote_is_shown_as_text(page, made, tmp_path):
    adapter = Path(shutil.copytree(made, tmp_path / "<img src=x>"))
    settings = json.loads((adapter / "adapter_config.json").read_text())
    settings["target_modules"] = [*settings["target_modules"], "<script>"]
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    *_, last = page.call("compare", "add", page.run.id, [], str(adapter), "mine", "")
    assert "<script>" not in str(last) and "<img" not in str(last)


def test_an_imported_adapter_answers_and_is_scored_beside_a_run(page, made, tmp_path):
    import_adapter(made, page.engine.runs_dir, name="mine")
    answerer = page.engine.answerer(page.run, ["mine"])
    assert answerer.systems == ("base", "tuned", "mine")
    before = answerer.answer("Why?", variant="mine").text
    order = make_order(page.engine, page.run, tmp_path, "test", ["mine"], 3, 0)
    assert order.adapters == ("mine",)
    # Another one of the same name is another adapter.
    shutil.rmtree(page.engine.runs_dir / ".adapters" / "mine")
    import_adapter(page.run.path, page.engine.runs_dir, name="mine")
    answerer = page.engine.answerer(page.run, ["mine"])
    assert answerer.answer("Why?", variant="mine").text == answerer.answer("Why?").text != before
