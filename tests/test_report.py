from __future__ import annotations

import dataclasses
import errno
import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qa_lora.errors import RunError
from qa_lora.events import Scored
from qa_lora.report import (
    ExampleResult,
    Report,
    headline,
    list_reports,
    questions_fingerprint,
    read_report,
    save_report,
)
from qa_lora.scoring import METRICS

SYSTEMS = ("base", "tuned", "other")


def example(number: int, *, facts: bool) -> ExampleResult:
    scores = dict.fromkeys(METRICS, 0.25 * number)
    if facts:
        scores["fact_accuracy"] = 1.0
    traits = dict.fromkeys(("cut", "empty", "repeating", "prompt_cut"), 0.0) | {"length_ratio": 2.5}
    return ExampleResult(
        id=f"row-{number}",
        question="Which?\nThat «ß» 🙂",
        context="",
        references=("one", "two\nlines"),
        answers={"base": "b", "tuned": "", "other": "o"},
        scores={system: dict(scores) for system in SYSTEMS},
        traits={system: dict(traits) for system in SYSTEMS},
        source="a.csv",
    )


@pytest.fixture
def report() -> Report:
    means = dict.fromkeys(METRICS, 0.25) | {"fact_accuracy": 0.884}
    gain = {"mean": 0.5, "low": 0.4, "high": 0.6, "p_value": 1e-4}
    gain |= {"p_adjusted": 1e-3, "detectable": None}
    return Report(
        rows=2,
        split="test",
        scores=dict.fromkeys(SYSTEMS, means),
        differences=dict.fromkeys(SYSTEMS[1:], dict.fromkeys(means, gain)),
        seconds=1.5,
        fingerprint="abc",
        test_fingerprint="def",
        shares={"base": {"cut": 0.0}, "tuned": {"cut": 0.5}, "other": {"cut": 0.0}},
        settings={"max_new_tokens": 8},
        asked=2,
        examples=(example(1, facts=True), example(2, facts=False)),
    )


def test_what_is_saved_is_what_is_read(report, tmp_path):
    saved = save_report(report, tmp_path / "evaluations")
    assert saved == dataclasses.replace(report, number=1)
    assert read_report(tmp_path / "evaluations", 1) == saved
    assert sorted(p.name for p in (tmp_path / "evaluations").iterdir()) == ["1.json", "1.parquet"]


def test_json_is_the_contract(report, tmp_path):
    save_report(report, tmp_path)
    values = json.loads((tmp_path / "1.json").read_text("utf-8"))
    assert {"rows", "base", "tuned", "difference"} < set(values)
    assert values["base"] == values["scores"]["base"]
    assert values["difference"] == values["differences"]["tuned"]
    assert "examples" not in values
    assert values == json.loads(json.dumps(save_report(report, tmp_path).to_dict())) | {"number": 1}


def test_parquet_is_the_contract(report, tmp_path):
    save_report(report, tmp_path)
    table = pq.read_table(tmp_path / "1.parquet")
    names = [*METRICS, "fact_accuracy"]
    traits = ["cut", "empty", "repeating", "prompt_cut", "length_ratio"]
    assert table.column_names == [
        *("id", "question", "references", "base", "tuned"),
        *(f"{side}_{name}" for name in names for side in ("base", "tuned")),
        *("context", "source", "other"),
        *(f"other_{name}" for name in names),
        *(f"{system}_{name}" for system in SYSTEMS for name in traits),
    ]
    assert table.column("references").to_pylist()[0] == ["one", "two\nlines"]
    assert table.column("base_fact_accuracy").to_pylist() == [1.0, None]


def test_a_report_without_examples_keeps_its_columns(report, tmp_path):
    save_report(dataclasses.replace(report, examples=()), tmp_path)
    assert "tuned_rougeSU4" in pq.read_schema(tmp_path / "1.parquet").names


def test_numbers_go_up_and_are_never_taken_twice(report, tmp_path):
    assert [save_report(report, tmp_path).number for _ in range(3)] == [1, 2, 3]
    (tmp_path / "2.json").unlink()
    (tmp_path / "notes.json").write_text("{}")
    (tmp_path / "7.parquet").touch()  # another evaluation is being written
    assert save_report(report, tmp_path).number == 8
    assert list_reports(tmp_path) == [1, 3, 8]


def test_no_folder_has_no_reports(tmp_path):
    assert list_reports(tmp_path / "none") == []
    with pytest.raises(RunError, match="no evaluation 1"):
        read_report(tmp_path / "none", 1)


def test_a_full_disk_is_said_and_leaves_nothing(report, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(RunError, match="No space left on device"):
        save_report(report, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_said(report, tmp_path):
    (tmp_path / "evaluations").write_text("")
    with pytest.raises(RunError, match="cannot be saved"):
        save_report(report, tmp_path / "evaluations")


def test_nan_never_gets_into_a_file(report, tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_report(dataclasses.replace(report, seconds=float("nan")), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["1.json", "1.parquet"])
def test_damage_is_said(report, tmp_path, name):
    save_report(report, tmp_path)
    (tmp_path / name).write_text("{")
    with pytest.raises(RunError, match=r"Evaluation 1 .* damaged"):
        read_report(tmp_path, 1)


def test_newer_fields_are_ignored(report, tmp_path):
    saved = save_report(report, tmp_path)
    values = json.loads((tmp_path / "1.json").read_text("utf-8"))
    (tmp_path / "1.json").write_text(json.dumps(values | {"later": 1}))
    assert read_report(tmp_path, 1) == saved


def test_files_of_before_there_were_several_systems_still_open(report, tmp_path):
    """The JSON and the columns that the first version wrote."""
    old = {
        "rows": 2, "split": "test", "base": {"rougeL": 0.25}, "tuned": {"rougeL": 0.5},
        "difference": {"rougeL": {"mean": 0.25, "low": 0.1, "high": 0.4, "p_value": 0.01}},
        "cut_base": 0.0, "cut_tuned": 0.5, "seconds": 1.5, "fingerprint": "abc",
        "settings": {"limit": None}, "number": 1,
    }  # fmt: skip
    (tmp_path / "1.json").write_text(json.dumps(old))
    columns = {
        "id": ["a", "b"], "question": ["Who?", "What?"], "references": [["x", "y"], ["z"]],
        "base": ["b", "b"], "tuned": ["t", "t"], "base_rougeL": [0.0, 0.5],
        "tuned_rougeL": [0.5, 0.5], "context": ["", "c"],
    }  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "1.parquet")
    found = read_report(tmp_path, 1)
    assert (found.systems, found.metrics) == (("base", "tuned"), ("rougeL",))
    assert (found.asked, found.complete, found.cut_tuned) == (2, True, 0.5)
    assert found.difference["rougeL"]["mean"] == 0.25
    assert [row.gain("rougeL") for row in found.examples] == [0.5, 0.0]
    assert found.examples[1].answers == {"base": "b", "tuned": "t"}
    assert found.test_fingerprint == questions_fingerprint([("who", "xy"), ("what\nc", ["z"])])
    # Without its rows it is the same report, and what is saved of it now opens, too.
    assert read_report(tmp_path, 1, examples=False) == dataclasses.replace(found, examples=())
    again = save_report(found, tmp_path)
    assert read_report(tmp_path, 2) == again


def test_the_fingerprint_of_questions_is_of_what_is_asked_and_wanted():
    one = questions_fingerprint([("a", ["x", "y"]), ("b", ["z"])])
    assert questions_fingerprint([("b", ["z"]), ("a", ["y", "x"])]) == one
    others = ([("a", ["x", "y"])], [("a", ["x"]), ("b", ["z"])], [("a", ["x", "y"]), ("c", ["z"])])
    assert one not in [questions_fingerprint(other) for other in others]


def test_headline(report):
    expected = "ROUGE-L 0.25 -> 0.25, +0.50 [0.40, 0.60], right fact 88 %, 2 questions"
    assert headline(report) == expected
    assert headline(report.to_dict()) == expected
    scored = Scored(1, report.rows, report.base, report.tuned, report.difference)
    assert headline(scored) == expected


def test_headline_without_facts_and_with_a_loss():
    gain = {"mean": -0.004, "low": -0.1, "high": -0.001, "p_value": 0.3}
    one = {"rows": 1, "base": {"rougeL": 0.5}, "tuned": {"rougeL": 0.496}}
    assert (
        headline(one | {"difference": {"rougeL": gain}})
        == "ROUGE-L 0.50 -> 0.50, +0.00 [-0.10, 0.00], 1 question"
    )


def test_report_imports_neither_torch_nor_pandas():
    code = (
        "import sys, qa_lora.report;"
        "sys.exit(any(m in sys.modules for m in ('torch', 'pandas', 'pyarrow', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
