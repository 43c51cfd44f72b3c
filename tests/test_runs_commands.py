"""The commands runs, rename, delete, restore and export: what they print, and their exit codes."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from qa_lora.cli import main
from tests.made_runs import made_run, pretend_alive, started, step, story, with_adapter


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    made_run(folder, "a", *story((2.0,), rouge=(0.2, 0.9)), lora_r=4)
    with_adapter(made_run(folder, "b", *story((1.0,))))
    made_run(folder, "c", started(), step(1))
    return folder


def call(capsys: pytest.CaptureFixture[str], runs_dir: Path, *words: str) -> dict[str, Any]:
    """What a command prints as JSON."""
    assert main([*words, "--runs-dir", str(runs_dir), "--json"]) == 0
    values: dict[str, Any] = json.loads(capsys.readouterr().out)
    return values


def said(capsys: pytest.CaptureFixture[str], runs_dir: Path, *words: str, code: int = 0) -> str:
    """What a command prints for a person."""
    assert main([*words, "--runs-dir", str(runs_dir)]) == code
    shown = capsys.readouterr()
    return shown.err if code else shown.out + shown.err


def test_runs_are_listed_sorted_and_filtered(runs_dir: Path, capsys) -> None:
    def ids(*words: str) -> list[str]:
        return [row["run"] for row in call(capsys, runs_dir, "runs", *words)["runs"]]

    assert ids() == ["c", "b", "a"] and ids("--sort", "loss") == ["b", "a", "c"]
    assert ids("--status", "interrupted") == ["c"] and ids("--filter", "lora r 4") == ["a"]
    assert ids("--filter", "zebra") == []
    rows = call(capsys, runs_dir, "runs")["runs"]
    assert (rows[2]["rougeL_base"], rows[2]["rougeL_tuned"]) == (0.2, 0.9)
    assert rows[1]["has_adapter"] and rows[0]["can_resume"]
    shown = said(capsys, runs_dir, "runs")
    for text in ("finished", "interrupted", "1/1", "0.20 -> 0.90", "12 s"):
        assert text in shown
    assert "None of 3 runs" in said(capsys, runs_dir, "runs", "--filter", "zebra")


def test_a_name_and_a_note_are_given_and_shown(runs_dir: Path, capsys) -> None:
    done = call(capsys, runs_dir, "rename", "a", "My run", "--note", "best yet")
    assert done == {"run": "a", "title": "My run", "note": "best yet"}
    assert call(capsys, runs_dir, "runs", "--filter", "best")["runs"][0]["title"] == "My run"
    assert "My run" in said(capsys, runs_dir, "runs")
    assert "called by its id, with a note" in said(capsys, runs_dir, "rename", "a", "")
    assert (runs_dir / "a" / "config.yaml").exists()


def test_a_run_goes_to_the_trash_and_comes_back(runs_dir: Path, capsys) -> None:
    done = call(capsys, runs_dir, "delete", "a")
    assert done["in_trash"] == "a" and Path(done["path"]).is_dir()
    assert [row["run"] for row in call(capsys, runs_dir, "runs")["runs"]] == ["c", "b"]
    assert call(capsys, runs_dir, "restore", "a")["run"] == "a"
    assert call(capsys, runs_dir, "delete", str(runs_dir / "a"), "--for-good")["path"] is None
    assert not (runs_dir / "a").exists() and not list((runs_dir / ".trash").iterdir())
    assert "qa-lora restore b takes it out" in said(capsys, runs_dir, "delete", "b")


def test_a_run_is_named_by_its_folder_wherever_that_is(
    runs_dir: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs_dir / "a")
    shown = said(capsys, tmp_path / "others", "delete", ".")
    assert f"The run a is in the trash; qa-lora restore a --runs-dir {runs_dir} takes" in shown
    assert (runs_dir / ".trash" / "a" / "config.yaml").is_file()
    assert "The run a is back" in said(capsys, runs_dir, "restore", "a")


def test_a_damaged_run_is_listed_and_deleted(runs_dir: Path, capsys) -> None:
    (runs_dir / "c" / "config.yaml").unlink()
    row = call(capsys, runs_dir, "runs", "--status", "damaged")["runs"][0]
    assert row["run"] == "c" and row["damage"] == "config.yaml is missing."
    shown = said(capsys, runs_dir, "runs")
    assert "damaged: config.yaml" in shown and "is missing." in shown
    assert call(capsys, runs_dir, "delete", "c")["in_trash"] == "c"


def test_a_run_is_exported(runs_dir: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "b.zip"
    done = call(capsys, runs_dir, "export", "b", "--out", str(out))
    with zipfile.ZipFile(out) as file:
        assert set(file.namelist()) == {f"b/{name}" for name in done["files"]}
    assert "adapter/adapter_config.json" in done["files"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("rename", "none", "x"), "no run none"),
        (("rename", "a"), "nothing to change"),
        (("rename", "a", "x" * 81), "at most 80"),
        (("delete", "none"), "no run none"),
        (("delete", "busy"), "worked on"),
        (("restore", "none"), "The trash is empty"),
        (("restore", "../a"), "no run ../a in the trash"),
        (("export", "none", "--out", "x.zip"), "no run none"),
        (("export", "busy", "--out", "x.zip"), "worked on"),
        (("export", "a", "--out", "."), "is a folder"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_what_cannot_be_is_said_in_one_sentence(
    runs_dir: Path, capsys, words: tuple[str, ...], expected: str
) -> None:
    pretend_alive(made_run(runs_dir, "busy", started(), step(1)))
    shown = said(capsys, runs_dir, *words, code=2).strip()
    assert expected in shown and len(shown.splitlines()) == 1 and shown.endswith(".")
