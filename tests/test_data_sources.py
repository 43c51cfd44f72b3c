"""Sources become tables with their text untouched, or one clear sentence."""

import gzip
import json
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
from qa_lora.data.readers import ENDINGS, read_file
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
    assert part.table.columns
    return read_file(Path(source.name))


def parquet_bytes(table):
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plain.csv", "question,answer\nWhy?,Because.\n"),
        ("no-end.csv", "question,answer\nWhy?,Because."),
        ("bom.csv", "\ufeffquestion,answer\nWhy?,Because.\n"),
        ("crlf.csv", "question,answer\r\nWhy?,Because.\r\n"),
        ("cr.csv", "question,answer\rWhy?,Because.\r"),
        ("blank-lines.csv", "\n\nquestion,answer\n\nWhy?,Because.\n  \n\n"),
        ("spaced.CSV", " question , answer \nWhy?,Because.\n"),
        ("plain.tsv", "question\tanswer\nWhy?\tBecause.\n"),
        ("plain.json", '[{"question": "Why?", "answer": "Because."}]'),
        ("bom.jsonl", '\ufeff{"question": "Why?", "answer": "Because."}\r\n\r\n'),
        ("lines.json", '{"question": "Why?", "answer": "Because."}\n' * 1 + "\n"),
        (
            "plain.parquet",
            parquet_bytes(pa.table({"question": ["Why?"], "answer": ["Because."]})),
        ),
    ],
)
def test_reads(tmp_path, name, content):
    if name == "lines.json":
        content += '{"question": "Who?", "answer": "I."}\n'
    table = read_table(write(tmp_path, name, content))
    assert table.column_names == ["question", "answer"]
    assert table.slice(0, 1).to_pylist() == [{"question": "Why?", "answer": "Because."}]


def test_text_stays_as_it_is(tmp_path):
    texts = [
        "two\nlines, and a comma",
        'a "quoted" word',
        " 007 ",
        "NA",
        "1.50",
        "日本 🙂",
        "\u2028x",
    ]
    quoted = "".join('"' + text.replace('"', '""') + '",x\n' for text in texts)
    table = read_table(write(tmp_path, "a.csv", "question,answer\n" + quoted))
    assert table.column("question").to_pylist() == texts
    lines = "".join(json.dumps({"question": text, "answer": "x"}) + "\n" for text in texts)
    table = read_table(write(tmp_path, "a.jsonl", lines))
    assert table.column("question").to_pylist() == texts


def test_numbers_nulls_and_lists_become_texts(tmp_path):
    rows = [
        {"q": 1, "a": ["x", 2, None]},
        {"q": 2.5, "a": "y"},
        {"q": True, "a": None},
        {"q": None, "extra": {"deep": [1]}},
        {"q": float("nan"), "a": {"text": ["s", "t"], "answer_start": [1, 2]}},
    ]
    table = read_table(write(tmp_path, "a.json", json.dumps(rows)))
    assert table.column("q").to_pylist() == ["1", "2.5", "true", None, None]
    assert table.column("a").to_pylist() == [["x", "2"], ["y"], [], [], ["s", "t"]]
    assert table.column("extra").to_pylist() == [None, None, None, '{"deep": [1]}', None]


def test_a_cell_longer_than_the_csv_module_likes(tmp_path):
    table = read_table(write(tmp_path, "a.csv", HEADER + b"q," + b"x" * 200_000))
    assert len(table.column("answer")[0].as_py()) == 200_000


BAD = [
    ("empty.csv", "", "empty.csv is empty"),
    ("blank.csv", "\ufeff \n\n", "blank.csv is empty"),
    ("quotes.csv", '""\n""\n', "quotes.csv is empty"),
    ("empty.jsonl", "", "empty.jsonl is empty"),
    ("empty.parquet", "", "empty.parquet is empty"),
    ("header.csv", "question,answer\n\n", "header.csv holds only a header: question, answer"),
    ("latin.csv", HEADER + "é,x\nWhy?,caf\xe9\n".encode("latin-1"), "not UTF-8: line 2 holds the"),
    ("late.csv", b"\xef\xbb\xbf" + HEADER + b"a,b\nWhy?,caf\xe9\n", "line 3 holds the byte 0xe9"),
    ("late2.csv", b"\xef\xbb\xbf" + HEADER + b"a,b\nWhy?,caf\xe9\n", "(byte 32 of the file)"),
    ("utf16.csv", "question,answer\nWhy?,x\n".encode("utf-16"), "UTF-16"),
    ("utf16le.csv", "question,answer\nWhy?,x\n".encode("utf-16-le"), "line 1 holds a zero byte"),
    ("excel.csv", b"PK\x03\x04rest", "excel.csv is a zip archive or an Excel workbook"),
    ("gzip.csv", gzip.compress(HEADER), "gzip.csv is a gzip archive"),
    ("binary.csv", HEADER + b"a,\0\1\2", "binary.csv is no text file: line 2"),
    ("parquet.csv", b"PAR1....PAR1", "parquet.csv is a Parquet file"),
    (
        "long.csv",
        "question,answer\na,b\nc,d,e\n",
        "long.csv, line 3: 3 cells where the header has 2",
    ),
    ("short.csv", 'question,answer\n"a\na",b\nc\n', "short.csv, line 4: 1 cell where"),
    ("open.csv", 'question,answer\na,b\n"c,d\ne,f\n', "open.csv, line 3: a double quote is opened"),
    (
        "after.csv",
        'question,answer\n"He" said,b\n',
        "line 2: text follows the closing double quote",
    ),
    ("double.csv", "answer,question,answer\na,b,c\n", "two columns named 'answer'"),
    ("semi.csv", "question;answer\na;b\n", "separated by semicolons"),
    ("tabs.csv", "question\tanswer\na\tb\n", "separated by tabs"),
    ("commas.tsv", "question,answer\na,b\n", "separated by commas"),
    ("broken.json", '[{"question": 1,\n "answer" 2}]', "line 2, column 11: expecting ':'"),
    ("object.json", '{"question": "a"}', "object.json holds one object, not a list of rows"),
    ("text.json", '"question"', "text.json holds a text, not a list of rows"),
    ("mixed.json", '[{"question": "a"}, 3]', "mixed.json, row 2 is a number, not an object"),
    ("none.json", "[]", "none.json holds an empty list"),
    ("deep.json", "[" * 100_000, "deep.json is not usable JSON"),
    ("digits.json", "[" + "1" * 5000 + "]", "digits.json"),
    (
        "broken.jsonl",
        '{"question": 1}\n\n{"question": \n',
        "broken.jsonl, line 3 is not valid JSON",
    ),
    ("list.jsonl", '{"question": 1}\n["a"]\n', "list.jsonl, line 2 holds a list, not an object"),
    (
        "half.jsonl",
        '{"q": "a"}\n{"q": "\\ud83d"}\n',
        "half.jsonl, row 2: q holds half of a character",
    ),
    ("half.json", '[{"\\ud83d": "a"}]', "half.json: a key holds half of a character"),
    ("keys.json", json.dumps([{f"k{n}": 1} for n in range(1200)]), "more than 1000 different keys"),
    ("no.parquet", "question,answer\n", "no.parquet is no Parquet file, or not a whole one"),
    ("cut.parquet", parquet_bytes(pa.table({"a": ["b"]}))[:-9], "cut.parquet is no Parquet file"),
    ("zero.parquet", parquet_bytes(pa.table({"a": []})), "zero.parquet names columns but holds no"),
    ("data.xlsx", "x", "data.xlsx has the ending .xlsx, which cannot be read"),
    ("data", "x", "data has no ending"),
]


@pytest.mark.parametrize(("name", "content", "sentence"), BAD, ids=[case[0] for case in BAD])
def test_refuses(tmp_path, name, content, sentence):
    with pytest.raises(DataError) as caught:
        read_table(write(tmp_path, name, content))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


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
        assert "Hub could not be reached" in line
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
    [(404, "the Hub has no data set someone/q"), (500, "the Hub answered 500")],
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
