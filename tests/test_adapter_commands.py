"""The commands about adapters, as a person types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from qa_lora.cli import main
from tests.lively import make_adapter, make_model


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tiny_model, tmp_path_factory.mktemp("commands") / "model")


def run(capsys: Any, *words: str) -> dict[str, Any]:
    assert main([*words, "--json"]) == 0
    said: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return said


def test_bring_in_ask_merge_and_remove(model, tmp_path, capsys):
    adapter = make_adapter(model, tmp_path / "mine")
    kept = run(capsys, "import-adapter", str(adapter), "--name", "it")
    assert (kept["name"], kept["base"], kept["kind"]) == ("it", str(model), "folder")
    shutil.rmtree(adapter)
    assert [each["name"] for each in run(capsys, "adapters")["adapters"]] == ["it"]
    answers = run(capsys, "ask", "Why is it so?", "--run", "it", "--max-new-tokens", "8")
    done = run(capsys, "merge", "it", "--out", str(tmp_path / "merged"), "--precision", "bf16")
    assert done["precision"] == "bfloat16" and (tmp_path / "merged" / "model.safetensors").is_file()
    assert answers["tuned"] != answers["base"]
    assert run(capsys, "remove-adapter", "it") == {"removed": "it"}
    assert run(capsys, "adapters") == {"adapters": []}


def test_what_a_person_reads(model, tmp_path, capsys):
    adapter = make_adapter(model, tmp_path / "mine")
    assert main(["adapters"]) == 0
    assert "There are no imported adapters in" in capsys.readouterr().out
    assert main(["import-adapter", str(adapter)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Imported mine-") and "r 4, alpha 8, on q, v, wo" in said
    assert main(["adapters"]) == 0
    assert "(folder mine, " in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["import-adapter", "/nowhere"],
        ["remove-adapter", "it"],
        ["merge", "it", "--out", "merged"],
        ["ask", "Why?", "--run", "it"],
    ],
    ids=lambda words: words[0],
)
def test_one_sentence_when_there_is_none(words, capsys):
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.err.startswith("qa-lora: ") and said.err.count("\n") == 1 and not said.out
