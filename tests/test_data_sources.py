"""Sources become tables with their text untouched, or one clear sentence."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from qa_lora.data import load
from qa_lora.data.parts import open_local
from qa_lora.data.readers import ENDINGS
from qa_lora.data.sources import parse
from qa_lora.errors import DataError

HEADER = b"question,answer\n"


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def read_table(source, max_bytes=None):
    (source,) = parse(source)
    (part,) = open_local(source, max_bytes)
    return list(part.table.rows())


def parquet_bytes(table):
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def test_refuses_what_is_no_file(tmp_path):
    for source, sentence in [
        (str(tmp_path), "holds no file that can be read"),
        (str(tmp_path / "gone.csv"), "There is no file"),
        ("gone.csv", "There is no file gone.csv"),
        ("gone.xlsx", "There is no file gone.xlsx"),
        ("no such thing", "There is no file no such thing"),
        ("", "No data is named"),
        ("a\0b.csv", "No data is named"),
        ("x" * 5000 + ".csv", "There is no file xxx"),
    ]:
        with pytest.raises(DataError, match=sentence):
            read_table(source)


def test_the_limit_is_stated(tmp_path):
    path = write(tmp_path, "big.csv", HEADER + b"a,b\n" * 1_000_000)
    with pytest.raises(DataError, match=r"big.csv has 4 MB, and at most 1 MB are accepted"):
        read_table(path, max_bytes=1024**2)
    with pytest.raises(DataError, match="at most 1 MB"):
        load(path, max_bytes=1024**2)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = write(tmp_path, "a.csv", HEADER)
    Path(path).chmod(0)
    with pytest.raises(DataError, match="permission denied"):
        read_table(path)


def test_an_unreachable_hub_is_one_sentence(tmp_path):
    script = (
        "import sys\n"
        "from qa_lora.data import load\n"
        "from qa_lora.errors import DataError\n"
        "for source in sys.argv[1:]:\n"
        "    try:\n"
        "        load(source)\n"
        "    except DataError as error:\n"
        "        print(error)\n"
    )
    sources = ["someone/questions", "questions:en", "hf://datasets/someone/questions/all.jsonl"]
    done = subprocess.run(
        [sys.executable, "-c", script, *sources],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stdout
    for line in lines:
        assert "HF_HUB_OFFLINE forbids to ask the Hub" in line
        assert "atlas" in line and ".csv" in line  # what works instead


class Hub:
    """Stands for the far end of the network: the Hub's answers."""

    def __init__(self, monkeypatch, tmp_path, parts=None, error=None):
        import datasets
        import huggingface_hub

        self.parts, self.error = parts or {}, error
        monkeypatch.setattr(datasets, "load_dataset", self.load_dataset)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: None)

    def load_dataset(self, repo, subset=None, split=None, revision=None, streaming=False):
        import datasets

        if self.error:
            raise self.error
        return datasets.DatasetDict(
            {name: datasets.Dataset.from_list(rows) for name, rows in self.parts.items()}
        )


def qa(*questions):
    return [{"question": question, "answer": ["a", "b"]} for question in questions]


def test_the_splits_of_a_hub_data_set_are_kept(monkeypatch, tmp_path):
    Hub(monkeypatch, tmp_path, {"train": qa("1", "2"), "dev": qa("3"), "unlabelled": qa("4")})
    data = load("someone/questions")
    assert [e.question for e in data.examples] == ["1", "1", "2", "2", "3", "3", "4", "4"]
    assert list(data.splits) == ["train"] * 4 + ["validation"] * 2 + [None] * 2
    assert data.source == "someone/questions"


def test_a_hub_data_set_of_one_split_is_a_plain_table(monkeypatch, tmp_path):
    Hub(monkeypatch, tmp_path, {"train": qa("1", "2")})
    data = load("someone/questions")
    assert data.column_names == ("question", "answer") and not data.given


def test_hub_splits_of_different_kinds(monkeypatch, tmp_path):
    Hub(monkeypatch, tmp_path, {"train": qa("1"), "test": [{"question": 1, "answer": 2}]})
    data = load("someone/q")
    assert [e.question for e in data.examples] == ["1", "1", "1"]
    assert list(data.splits) == ["train", "train", "test"]


def test_what_the_hub_says_reaches_the_user_in_one_sentence(monkeypatch, tmp_path):
    error = ValueError("Config name is missing.\nPlease pick one among ...")
    Hub(monkeypatch, tmp_path, error=error)
    with pytest.raises(DataError, match=r"from the Hub: Config name is missing\. ") as caught:
        load("someone/q")
    assert "someone/q subset=NAME" in caught.value.hint


@pytest.mark.parametrize(
    ("status", "sentence"),
    [(404, "the Hub has no data set someone/q"), (500, "the Hub has a fault of its own")],
)
def test_a_data_set_the_hub_does_not_have(monkeypatch, tmp_path, status, sentence):
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    Hub(monkeypatch, tmp_path)
    error = HfHubHTTPError.__new__(HfHubHTTPError)
    error.response = SimpleNamespace(status_code=status)

    def dataset_info(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    monkeypatch.setattr("qa_lora.hub_access.WAITS", ())
    with pytest.raises(DataError, match=sentence):
        load("someone/q")


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(ENDINGS),
    st.binary(max_size=60)
    | st.lists(
        st.sampled_from(
            [*'[]{},:\t;\n\r"1aé\ufeff', "null", '"answer"', "question,answer\n", "\\ud83d"]
        ),
        max_size=25,
    ).map(lambda parts: "".join(parts).encode()),
)
def test_no_file_ends_in_a_traceback(tmp_path, ending, content):
    path = write(tmp_path, f"any{ending}", content)
    sentence = "none."
    try:
        load(path)
    except DataError as error:
        sentence = str(error)
    assert sentence.endswith(".") and "\n" not in sentence
