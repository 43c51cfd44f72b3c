"""Two commits of one base model of the Hub are two models: nobody answers on the wrong one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from qa_lora import runs
from qa_lora.base_names import same_base
from qa_lora.config import TrainConfig
from qa_lora.continuing import continue_adapter
from qa_lora.errors import ConfigError, ModelError
from qa_lora.importing import import_adapter
from qa_lora.merging import merge
from qa_lora.models import load_base
from qa_lora.ui.add_adapter import imported_html
from qa_lora.ui.engine import Engine
from qa_lora.ui.evaluate.ordering import make_order
from tests.lively import make_adapter, make_model
from tests.loopback_hub import Hub

BASE = "someone/base"
WEIGHTS = "model.safetensors"


@pytest.fixture
def commits(
    hub: Hub, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, str]:
    """Two states of a base on the Hub, of which the second is the newest."""
    folder = make_model(tiny_model, tmp_path / "lively")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    repo = hub.add("model", BASE, files)
    first = repo.sha
    weights = {name: 1.1 * tensor for name, tensor in load_file(folder / WEIGHTS).items()}
    second = repo.commit({**files, WEIGHTS: save(weights, {"format": "pt"})}, "trained further")
    hub.enter(monkeypatch, tmp_path / "home")
    return first, second


def pinned(runs_dir: Path, model: Path, name: str, commit: str | None) -> runs.Run:
    config = TrainConfig.build(model=BASE, precision="fp32", name=name)
    run = runs.create(config, runs_dir)
    make_adapter(model, run.adapter)
    base: dict[str, Any] = {"base": {"model": BASE, "commit": commit}} if commit else {}
    (run.path / "environment.json").write_text(json.dumps(base))
    return run


def test_runs_on_two_commits_share_no_base(commits: tuple[str, str], tmp_path: Path) -> None:
    first, second = commits
    engine, model = Engine(tmp_path / "runs"), tmp_path / "lively"
    engine.warm = True
    old, new, unknown = (
        pinned(engine.runs_dir, model, name, commit)
        for name, commit in (("old", first), ("new", second), ("unknown", None))
    )
    assert set(engine.other_runs(old)) == {unknown.id}
    assert set(engine.other_runs(unknown)) == {old.id, new.id}
    with pytest.raises(ConfigError, match="another state of its base"):
        make_order(engine, old, tmp_path, "test", [new.id], None, 1)

    answerer = engine.answerer(old, [unknown.id])
    assert answerer.commit == first
    with pytest.raises(ModelError, match=f"the commit {second[:8]} .* its commit {first[:8]}"):
        answerer.add(new)
    other = engine.answerer(new)
    assert other.commit == second and other.model is not answerer.model
    weights = [each.model.get_base_model().shared.weight for each in (answerer, other)]
    assert torch.allclose(weights[1], 1.1 * weights[0])


def test_an_imported_adapter_stands_on_the_commit_that_its_settings_name(
    commits: tuple[str, str], tmp_path: Path
) -> None:
    engine, model = Engine(tmp_path / "runs"), tmp_path / "lively"
    run = pinned(engine.runs_dir, model, "new", commits[1])
    folder = make_adapter(model, tmp_path / "foreign", seed=2)
    settings = json.loads((folder / "adapter_config.json").read_text())
    settings |= {"base_model_name_or_path": BASE.upper(), "revision": commits[0]}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    (folder / "SHA256SUMS").unlink()
    kept = import_adapter(folder, engine.runs_dir, name="foreign", base=BASE)
    assert kept.base_commit == commits[0]
    assert "foreign" not in engine.adapters.fitting(run)
    shown = imported_html([kept], (BASE, commits[1]))
    assert f"not now: the run in view stands on {BASE} at {commits[1][:8]}" in shown
    engine.warm = True
    from qa_lora.answering import load

    assert load("foreign", runs_dir=engine.runs_dir).commit == commits[0]


def test_an_adapter_is_merged_into_the_commit_it_was_trained_on(
    commits: tuple[str, str], tmp_path: Path
) -> None:
    run = pinned(tmp_path / "runs", tmp_path / "lively", "old", commits[0])
    merge(run, tmp_path / "merged")
    merged = load_file(tmp_path / "merged" / WEIGHTS)["shared.weight"]
    assert torch.equal(merged, load_file(tmp_path / "lively" / WEIGHTS)["shared.weight"])
    assert json.loads((tmp_path / "merged/merge.json").read_text())["commit"] == commits[0]


def test_going_on_on_another_commit_is_said(commits: tuple[str, str], tmp_path: Path) -> None:
    run = pinned(tmp_path / "runs", tmp_path / "lively", "old", commits[0])
    config = TrainConfig.build(model=BASE, init_adapter=run.id)
    base = load_base(BASE, precision="fp32", commit=commits[1])
    *_, notice = continue_adapter(base, config, tmp_path / "runs")
    assert commits[0] in notice and commits[1] in notice


def test_ids_of_the_hub_are_the_same_in_any_case(tmp_path: Path) -> None:
    assert same_base("Google/FLAN-t5-small", "google/flan-t5-small")
    for name in ("one", "ONE"):
        (tmp_path / name).mkdir(exist_ok=True)
    assert not same_base(str(tmp_path / "one"), str(tmp_path / "ONE"))
