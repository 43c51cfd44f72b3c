"""Rows become examples; what does not is counted with its reason."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from qa_lora.config import TrainConfig
from qa_lora.data import ColumnsError, load, load_and_split, load_split
from qa_lora.errors import DataError

ROOT = Path(__file__).parent.parent


def csv_file(folder, text, name="rows.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return str(path)


def json_file(folder, rows, name="rows.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_prompt_completion_csv_from_a_spreadsheet(tmp_path):
    text = '\ufeffPrompt,Completion\r\n"Two\r\nlines?"," - one\r\n - two\r\n"\r\nWhy?,7\r\n'
    data = load(csv_file(tmp_path, text))
    assert [(e.id, e.question, e.answer) for e in data.examples] == [
        ("row-1", "Two\nlines?", "- one\n - two"),
        ("row-2", "Why?", "7"),
    ]
    assert data.columns.question == "Prompt"
    assert data.source == "rows.csv"
    assert data.column_names == ("Prompt", "Completion")
    assert (data.rows_read, len(data.dropped)) == (2, 0)


def test_empty_cells_are_dropped_and_counted(tmp_path):
    rows = ["question,answer", "a,1", ",2", "b,  ", ",", "c,3"]
    data = load(csv_file(tmp_path, "\n".join(rows)))
    assert [e.id for e in data.examples] == ["row-1", "row-5"]
    assert [(d.row, d.reason) for d in data.dropped] == [
        (2, "empty question"),
        (3, "empty answer"),
        (4, "empty question"),
    ]
    assert data.rows_read == 5


def test_several_answers_give_an_example_each(tmp_path):
    rows = [
        {"id": "x", "question": "q1", "answer": ["a", "b", "a ", "", None], "fact": ["f", "g"]},
        {"id": "x", "question": "q2", "answer": "c", "context": ["p1", "p2"], "fact": "f"},
        {"id": None, "question": ["q3", "q4"], "answer": "d"},
        {"id": 7, "question": ["q5"], "answer": [], "context": "p"},
        {"question": 5, "answer": True},
    ]
    data = load(json_file(tmp_path, rows))
    assert [(e.id, e.question, e.answer, e.context, e.facts) for e in data.examples] == [
        ("x", "q1", "a", "", ("f", "g")),
        ("x#2", "q1", "b", "", ("f", "g")),
        ("x#3", "q2", "c", "p1\np2", ("f",)),
        ("row-5", "5", "true", "", ()),
    ]
    assert list(data.rows) == [1, 1, 2, 5]
    assert [(d.row, d.reason) for d in data.dropped] == [
        (3, "several questions in one cell"),
        (4, "empty answer"),
    ]


def test_nothing_usable_says_why(tmp_path):
    with pytest.raises(
        DataError, match=r"rows.csv holds no usable row: all 2 .* row 1 for its emp"
    ):
        load(csv_file(tmp_path, "question,answer\na,\n,b\n"))


def test_unknown_columns_name_the_file_and_the_columns(tmp_path):
    path = csv_file(tmp_path, "Frage,Antwort,Quelle\na,1,x\n")
    with pytest.raises(ColumnsError, match=r"rows.csv .* Frage, Antwort, Quelle") as caught:
        load(path)
    assert caught.value.columns == ["Frage", "Antwort", "Quelle"]
    data = load(path, question_column="frage", answer_column="Antwort", context_column="Quelle")
    assert data.examples[0].context == "x"


def test_max_rows_takes_rows_from_all_over_a_sorted_file(tmp_path):
    rows = [
        {"question": f"q{n}", "answer": "a", "split": "train" if n < 80 else "test"}
        for n in range(100)
    ]
    data = load(json_file(tmp_path, rows), max_rows=10)
    assert (data.rows_read, data.rows_in_source) == (10, 100)
    assert data.splits.count("test") == 2
    assert [e.id for e in data.examples] == [f"row-{n}" for n in range(1, 101, 10)]
    assert load(json_file(tmp_path, rows), max_rows=1000).rows_read == 100


def test_a_split_column_of_other_values_is_none(tmp_path):
    rows = [{"question": "q", "answer": "a", "split": value} for value in ("A", "B", None)]
    data = load(json_file(tmp_path, rows))
    assert list(data.splits) == [None, None, None]
    assert data.columns.split is None


def test_a_split_column_must_be_understood_as_a_whole(tmp_path):
    rows = [
        {"question": "q", "answer": "a", "split": value}
        for value in ("Train", "dev", "", "holdout")
    ]
    path = json_file(tmp_path, rows)
    with pytest.raises(DataError, match=r"rows.jsonl, row 4: the column split says 'holdout'"):
        load(path)
    assert list(load(json_file(tmp_path, rows[:3])).splits) == ["train", "validation", None]


def test_too_few_questions_name_the_file(tmp_path):
    path = csv_file(tmp_path, "question,answer\nWhy?,a\nwhy,b\n")
    with pytest.raises(
        DataError, match=r"rows.csv holds 1 different question, and needs at least 3"
    ):
        load_split(TrainConfig(data=path))


def test_the_config_decides(tmp_path):
    rows = [{"frage": f"q{n}", "antwort": "a"} for n in range(40)]
    config = TrainConfig(
        data=json_file(tmp_path, rows),
        question_column="frage",
        answer_column="antwort",
        max_rows=20,
        test_fraction=0.25,
        validation_fraction=0.05,
    )
    loaded, split = load_and_split(config)
    assert len(loaded.examples) == 20
    assert (len(split.train), len(split.validation), len(split.test)) == (14, 1, 5)
    assert load_split(config) == split
    assert load_split(config.model_copy(update={"seed": 1})) != split


def test_the_split_is_the_same_in_another_process(tmp_path):
    rows = [{"question": f"Was ist {n}?", "answer": "a"} for n in range(30)]
    path = json_file(tmp_path, rows)
    script = (
        "import sys; from qa_lora.config import TrainConfig; from qa_lora.data import load_split\n"
        "print(load_split(TrainConfig(data=sys.argv[1])).fingerprint)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=True, cwd=ROOT
    )
    fingerprint = load_split(TrainConfig(data=path)).fingerprint
    assert done.stdout.strip() == fingerprint == "9f4b8ff9a32f98f2"


def test_reading_loads_no_heavy_library():
    script = (
        "import sys, qa_lora.data\n"
        "print(sorted({'torch', 'datasets', 'pandas', 'pyarrow', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"
