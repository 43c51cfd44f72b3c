"""Adapters by their Hub id, over a real connection to a Hub on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qa_lora.adapter_settings import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from qa_lora.answering import load
from qa_lora.errors import ModelError
from qa_lora.imported import list_imported
from qa_lora.importing import import_adapter
from tests.lively import make_adapter, make_model

NAME = "someone/mine"


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tiny_model, tmp_path_factory.mktemp("hub-adapters") / "model")


@pytest.fixture(scope="module")
def files(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = make_adapter(model, tmp_path_factory.mktemp("hub-adapters") / "mine")
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    return {**found, "adapter_model.bin": b"cnope\nnope\n.", "train.py": b"raise SystemExit"}


@pytest.fixture
def home(hub: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    hub.enter(monkeypatch, tmp_path / "home")
    return tmp_path / "home"


def refusal(name: str, runs_dir: Path, **options: Any) -> str:
    with pytest.raises(ModelError) as caught:
        import_adapter(name, runs_dir, **options)
    assert "\n" not in str(caught.value) and list_imported(runs_dir) == []
    return str(caught.value)


def test_a_hub_id_is_imported_with_its_commit(hub, home, files, model, tmp_path):
    sha = hub.add("model", NAME, files).sha
    kept = import_adapter(NAME, tmp_path / "runs")
    assert (kept.kind, kept.source, kept.commit) == ("hub", NAME, sha)
    assert kept.name == f"mine-{kept.digest[:6]}" and kept.base == str(model)
    fetched = [line for line in hub.seen if line.endswith((".bin", ".py"))]
    assert fetched == []
    assert load(kept.name, runs_dir=tmp_path / "runs").systems == ("base", "tuned")
    assert load(NAME).systems == ("base", "tuned")  # also without being kept


def test_a_revision(hub, home, files, tmp_path):
    repo = hub.add("model", NAME, files)
    first = repo.sha
    repo.commit({**files, ADAPTER_CONFIG: b"broken"}, "worse")
    assert "damaged" in refusal(NAME, tmp_path / "runs")
    kept = import_adapter(NAME, tmp_path / "runs", revision="v1")
    assert kept.commit == first
    assert json.loads((kept.folder / "source.json").read_text())["revision"] == "v1"


def test_refusals_before_anything_is_downloaded(hub, home, files, tmp_path):
    runs_dir = tmp_path / "runs"
    pickled = {name: data for name, data in files.items() if name != ADAPTER_WEIGHTS}
    hub.add("model", "someone/pickled", pickled)
    message = refusal("someone/pickled", runs_dir)
    assert "adapter_model.bin is a pickle" in message
    hub.add("model", "someone/whole", {"config.json": b"{}", "model.safetensors": b""})
    assert "a base to train on, not an adapter" in refusal("someone/whole", runs_dir)
    hub.add("model", "someone/below", {f"adapter/{name}": data for name, data in files.items()})
    assert "in the folder adapter" in refusal("someone/below", runs_dir)
    assert not [line for line in hub.seen if "/resolve/" in line and line.startswith("GET")]


def test_what_the_hub_does_not_give(hub, home, files, tmp_path):
    hub.add("model", "someone/private", files, private=True)
    for name in ("someone/private", "someone/nothing"):
        message = refusal(name, tmp_path / "runs")
        assert "or it is private" in message and name in message
    hub.add("model", NAME, files)
    assert "has no such revision" in refusal(NAME, tmp_path / "runs", revision="nowhere")
