"""Files become rows with their text untouched, or one clear sentence."""

import datetime
import gzip
import io
import itertools
import json
import os
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import openpyxl
import pyarrow as pa
import pytest
from pyarrow import parquet

from qa_lora.data.readers import ENDINGS, cell_texts, ending_of, open_table
from qa_lora.errors import DataError

HEADER = b"question,answer\n"
ROW = {"question": "Why?", "answer": "Because."}


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows_of(path):
    return list(open_table(path).rows())


def parquet_bytes(table, **options):
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink, **options)
    return sink.getvalue().to_pybytes()


def xlsx_bytes(*sheets):
    """A workbook with the sheets' rows."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets, 1):
        sheet = book.create_sheet(f"Sheet{number}")
        for row in rows:
            sheet.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def rezipped(content, added=None, **changed):
    """A workbook with a part put in, or parts under other names."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(out, "w", 8) as target:
        for name in source.namelist():
            target.writestr(name, changed.get(name, source.read(name)))
        if added is not None:
            target.writestr(*added)
    return out.getvalue()


def zstd(data):
    return pa.compress(data, codec="zstd", asbytes=True)


GOOD = [
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
    ("lines.json", 2 * '{"question": "Why?", "answer": "Because."}\n\n'),
    ("lines.ndjson", '{"question": "Why?", "answer": "Because."}'),
    ("object.json", '{"v": 1, "data": [{"question": "Why?", "answer": "Because."}]}'),
    ("utf16.csv", "question,answer\r\nWhy?,Because.\r\n".encode("utf-16")),
    ("big-endian.csv", "\ufeffquestion,answer\nWhy?,Because.\n".encode("utf-16-be")),
    ("utf16.json", '[{"question": "Why?", "answer": "Because."}]'.encode("utf-16")),
    ("semicolons.csv", "question;answer\nWhy?;Because.\n"),
    ("tabs.csv", 'question\t"answer"\nWhy?\tBecause.\n'),
    ("bars.csv", "question|answer\nWhy?|Because.\n"),
    ("commas.tsv", "question,answer\nWhy?,Because.\n"),
    ("packed.csv.gz", gzip.compress(HEADER + b"Why?,Because.\n")),
    ("two.csv.gz", gzip.compress(HEADER) + gzip.compress(b"Why?,Because.\n")),
    ("packed.jsonl.ZST", zstd(b'{"question": "Why?", "answer": "Because."}')),
    ("two.csv.zst", zstd(HEADER) + zstd(b"Why?,Because.\n")),
    ("book.xlsx", xlsx_bytes([list(ROW), list(ROW.values())])),
    ("second.xlsx", xlsx_bytes([["A title"], ["x"]], [[], list(ROW), list(ROW.values())])),
    (
        "plain.parquet",
        parquet_bytes(pa.table({"question": ["Why?"], "answer": ["Because."]})),
    ),
]


@pytest.mark.parametrize(("name", "content"), GOOD, ids=[name for name, _ in GOOD])
def test_reads(tmp_path, name, content):
    table = open_table(write(tmp_path, name, content))
    assert table.columns == ("question", "answer")
    assert next(table.rows()) == ROW
    assert list(table.rows()) == list(table.rows()), "each call begins with the first row"


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
    rows = rows_of(write(tmp_path, "a.csv", "question,answer\n" + quoted))
    assert [row["question"] for row in rows] == texts
    lines = "".join(json.dumps({"question": text, "answer": "x"}) + "\n" for text in texts)
    rows = rows_of(write(tmp_path, "a.jsonl", lines))
    assert [row["question"] for row in rows] == texts


def test_values_stay_as_they_are_and_become_texts_when_asked(tmp_path):
    rows = [
        {"q": 1, "a": ["x", 2, None]},
        {"q": 2.5, "a": "y"},
        {"q": True, "a": None},
        {"q": None, "extra": {"deep": [1]}},
        {"q": "z", "a": {"text": ["s", "t"], "answer_start": [1, 2]}},
    ]
    table = open_table(write(tmp_path, "a.json", json.dumps(rows)))
    assert table.columns == ("q", "a", "extra")
    assert list(table.rows()) == rows
    assert [cell_texts(row.get("q")) for row in rows] == [("1",), ("2.5",), ("true",), (), ("z",)]
    assert [cell_texts(row.get("a")) for row in rows] == [("x", "2"), ("y",), (), (), ("s", "t")]
    assert cell_texts({"deep": [1]}) == ('{"deep": [1]}',)
    assert cell_texts(float("nan")) == ()


def test_a_cell_longer_than_the_csv_module_likes(tmp_path):
    (row,) = rows_of(write(tmp_path, "a.csv", HEADER + b"q," + b"x" * 200_000))
    assert len(row["answer"]) == 200_000


BAD = [
    ("empty.csv", "", "empty.csv is empty"),
    ("blank.csv", "\ufeff \n\n", "blank.csv is empty"),
    ("quotes.csv", '""\n""\n', "quotes.csv is empty"),
    ("lines.csv", "a\x1cb,c\n", r"holds only a header: a\x1cb, c"),
    ("empty.jsonl", "", "empty.jsonl is empty"),
    ("empty.parquet", "", "empty.parquet is empty"),
    ("header.csv", "question,answer\n\n", "header.csv holds only a header: question, answer"),
    ("latin.csv", HEADER + "é,x\nWhy?,caf\xe9\n".encode("latin-1"), "not UTF-8: line 2 holds the"),
    ("late.csv", b"\xef\xbb\xbf" + HEADER + b"a,b\nWhy?,caf\xe9\n", "line 3 holds the byte 0xe9"),
    ("late2.csv", b"\xef\xbb\xbf" + HEADER + b"a,b\nWhy?,caf\xe9\n", "(byte 32 of the file)"),
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
        "half.jsonl, line 2: q holds half of a character",
    ),
    ("half.json", '[{"\\ud83d": "a"}]', "half.json, row 1: a key holds half of a character"),
    (
        "keys.json",
        json.dumps([{f"k{n}": 1, f"l{n}": 1} for n in range(600)]),
        "more than 1000 different keys",
    ),
    ("no.parquet", "question,answer\n", "no.parquet is no Parquet file, or not a whole one"),
    ("cut.parquet", parquet_bytes(pa.table({"a": ["b"]}))[:-9], "cut.parquet is no Parquet file"),
    ("zero.parquet", parquet_bytes(pa.table({"a": []})), "zero.parquet names columns but holds no"),
    ("data.ods", "x", "data.ods has the ending .ods, which cannot be read"),
    ("data", "x", "data has no ending"),
    ("semi.csv", "question;answer\na;b\nc\n", "separated by semicolons"),
    ("both.csv", "a;b|c\nd;e|f\n", "could be separated by semicolons or bars"),
    ("later.csv", 'a,b\n"c\nd","e\nf""g\n', "later.csv, line 3: a double quote is opened and"),
    ("cell.csv", 'a,b\nc"c,"e\nf""g\n', "never closed (in cell 2)"),
    ("nameless.csv", ",,\na,b,c\n", "no cell of the header holds a name"),
    ("wide.csv", "a," * 1_000_000 + "b\n", "wide.csv has 1,000,001 columns, and at most 1,000"),
    ("huge.csv", HEADER + b"q," + b"x" * 10_000_001, "huge.csv, line 2: a cell holds more than"),
    ("line.csv", b"x" * 21_000_000, "line.csv, line 1 has more than 20,000,000 characters"),
    ("half.csv", "a,b\nc,d\n".encode("utf-16")[:-1], "half.csv is not whole UTF-16: line 2"),
    ("late.csv", HEADER + b"a,b\n" * 300_000 + b"c,\xe9\n", "line 300,002 holds the byte 0xe9"),
    ("nan.jsonl", '{"q": 1}\n{"q": NaN}\n', "line 2: the column 'q' holds NaN"),
    ("inf.json", '[{"q": [1e999]}]', "row 1: the column 'q' holds an infinite number"),
    ("twice.json", '[{"q": 1}, {"q": 1, "q": 2}]', "row 2: the key 'q' stands twice"),
    (
        "nest.jsonl",
        '{"q": ' + "[" * 60 + "]" * 60 + "}",
        "column 'q' holds lists or objects nested",
    ),
    ("deep.jsonl", '{"q": ' * 100_000, "deep.jsonl, line 1 is not usable JSON: lists or objects"),
    ("cut.json", '[{"q": "a"}, {"q": "b', "cut.json is not valid JSON: line 1, column 20"),
    ("more.json", '[{"q": "a"}] x', "more.json is not valid JSON: line 1, column 14: extra data"),
    ("comma.json", '[{"q": "a"},', "comma.json is not valid JSON: line 1, column 13"),
    ("lists.json", '{"a": [{"q": 1}], "b": [{"q": 2}]}', "several lists of rows: a, b"),
    ("zero.json", '[{"q": "a"},\n\0]', "zero.json is no text file: line 2 holds a zero byte"),
    ("empty.csv.gz", "", "empty.csv.gz is empty"),
    ("nothing.csv.gz", gzip.compress(b""), "nothing.csv.gz is empty"),
    ("plain.csv.gz", HEADER, "plain.csv.gz ends in .gz and is not compressed with gzip"),
    ("plain.csv.zst", HEADER, "is not compressed with Zstandard"),
    ("cut.csv.gz", gzip.compress(os.urandom(999).hex().encode())[:-200], "cut.csv.gz is cut off"),
    ("cut.csv.zst", zstd(os.urandom(999).hex().encode())[:-200], "cut.csv.zst is cut off"),
    ("twice.csv.gz", gzip.compress(gzip.compress(HEADER)), "is a gzip archive, not .csv.gz text"),
    ("text.xlsx", "x", "text.xlsx is no Excel workbook"),
    ("empty.xlsx", "", "empty.xlsx is empty"),
    ("old.xlsx", b"\xd0\xcf\x11\xe0rest", "old.xlsx is an old Excel workbook, or has a password"),
    ("cut.xlsx", xlsx_bytes([["q", "a"], ["b", "c"]])[:-60], "cut.xlsx is cut off or damaged"),
    ("blank.xlsx", xlsx_bytes([], [["A title"]]), "holds a table (its sheets: Sheet1, Sheet2)"),
    ("double.xlsx", xlsx_bytes([["q", "q"], ["b", "c"]]), "Sheet1 has two columns named 'q'"),
    (
        "wide.xlsx",
        xlsx_bytes([["q", "a"], ["b", "c"], ["d", "e", "f"]]),
        "wide.xlsx, sheet Sheet1, row 3: 3 cells where the header has 2",
    ),
    (
        "twice.parquet",
        parquet_bytes(pa.table([["a"], ["b"]], names=["q", "q"])),
        "two columns named 'q'",
    ),
    (
        "wide.parquet",
        parquet_bytes(pa.table({f"c{n}": ["x"] for n in range(1001)})),
        "wide.parquet has 1,001 columns",
    ),
]


@pytest.mark.parametrize(("name", "content", "sentence"), BAD, ids=[case[0] for case in BAD])
def test_refuses(tmp_path, name, content, sentence):
    with pytest.raises(DataError) as caught:
        rows_of(write(tmp_path, name, content))
    assert sentence in str(caught.value)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_squad_comes_out_flat(tmp_path):
    questions = [
        {"id": "1", "question": "Who?", "answers": [{"text": "I", "answer_start": 3}]},
        {"id": "2", "question": "Where?", "answers": [], "is_impossible": True},
    ]
    articles = [{"title": "T", "paragraphs": [{"context": "C", "qas": questions}]}]
    content = json.dumps({"version": "v2.0", "data": articles})
    table = open_table(write(tmp_path, "squad.json.gz", gzip.compress(content.encode())))
    first, second = table.rows()
    assert table.columns == ("id", "title", "context", "question", "answers", "is_impossible")
    assert first["answers"] == {"text": ["I"], "answer_start": [3]}
    assert second["is_impossible"] is True and cell_texts(second["answers"]) == ()
    assert (second["title"], second["context"], second["question"]) == ("T", "C", "Where?")

    del questions[1]["question"]
    broken = write(tmp_path, "broken.json", json.dumps({"data": articles}))
    with pytest.raises(
        DataError, match="article 1, paragraph 1, question 2 has no text 'question'"
    ):
        rows_of(broken)


def test_an_array_is_read_in_pieces(tmp_path):
    """Records lie across the borders of what is read at once, and errors keep their place."""
    rows = [{"question": f"Why {n}? " + "é" * n, "answer": [n, "🙂"]} for n in range(2500)]
    text = json.dumps(rows, ensure_ascii=False, indent=2)
    assert len(text) > 3 * 1024**2
    assert rows_of(write(tmp_path, "a.json", text)) == rows
    broken = write(tmp_path, "b.json", text[:-1] + ",]")
    with pytest.raises(DataError) as caught:
        rows_of(broken)
    line = text.count("\n") + 1
    assert f"line {line:,}, column 2: expecting value" in str(caught.value)


def test_rows_after_a_broken_one_are_not_needed(tmp_path):
    """The error comes when the row is reached, so a head can be looked at."""
    table = open_table(write(tmp_path, "a.csv", HEADER + b"a,b\n" * 10 + b"c\n"))
    assert len(list(itertools.islice(table.rows(), 10))) == 10
    with pytest.raises(DataError, match="line 12: 1 cell where"):
        list(table.rows())


def test_the_cells_of_a_workbook(tmp_path):
    day = datetime.datetime(2020, 1, 2, 3, 4)
    content = xlsx_bytes(
        [["question", "answer", "n"], ["a\nb", "=SUM(C2:C3)", 7], [], [day, True, 1.5]]
    )
    table = open_table(write(tmp_path, "a.xlsx", content))
    assert list(table.rows()) == [
        {"question": "a\nb", "answer": "=SUM(C2:C3)", "n": 7},
        {"question": "2020-01-02T03:04:00", "answer": True, "n": 1.5},
    ]


def test_the_values_of_a_parquet_file(tmp_path):
    table = pa.table(
        {
            "text": ["a", None],
            "list": [["x", None], []],
            "number": [1.5, float("nan")],
            "day": [datetime.date(2020, 1, 2), None],
            "struct": [{"text": ["s"]}, None],
        }
    )
    first, second = rows_of(write(tmp_path, "a.parquet", parquet_bytes(table)))
    assert first == {
        "text": "a",
        "list": ["x", None],
        "number": 1.5,
        "day": "2020-01-02",
        "struct": {"text": ["s"]},
    }
    assert second["text"] is None and cell_texts(second["number"]) == ()


@pytest.mark.parametrize("path", ["../../evil.txt", "/etc/evil.txt", "C:\\evil.txt", "a/../../b"])
def test_a_workbook_whose_parts_lead_out_of_it(tmp_path, path):
    content = rezipped(xlsx_bytes([["q", "a"], ["b", "c"]]), (path, "x"))
    with pytest.raises(DataError, match="a part whose path leads out of it"):
        open_table(write(tmp_path, "a.xlsx", content))


def test_a_workbook_with_a_link(tmp_path):
    link = zipfile.ZipInfo("xl/media/a.png")
    link.external_attr = 0o120777 << 16
    content = rezipped(xlsx_bytes([["q", "a"], ["b", "c"]]), (link, "/etc/passwd"))
    with pytest.raises(DataError, match="holds a symbolic link"):
        open_table(write(tmp_path, "a.xlsx", content))


def test_a_workbook_of_millions_of_empty_cells(tmp_path):
    sheet = "xl/worksheets/sheet1.xml"
    cells = b"<sheetData><row>" + b"<c/>" * 5_000_000 + b"</row></sheetData>"
    content = rezipped(xlsx_bytes([["q", "a"], ["b", "c"]]), **{sheet: cells})
    with pytest.raises(DataError, match="more than 5,000,000 XML tags"):
        open_table(write(tmp_path, "a.xlsx", content))


def bomb(kind):
    """Much more than fits, of nothing but zeros or one row."""
    piece = b"a," + b"b" * 2**20 + b"\n"
    if kind == "gz":
        packer = zlib.compressobj(9, wbits=31)
        return b"".join([*(packer.compress(piece) for _ in range(200)), packer.flush()])
    if kind == "zst":
        return b"".join([zstd(piece)] * 200)
    return rezipped(xlsx_bytes([["q", "a"], ["b", "c"]]), ("xl/x.xml", bytes(300 * 1024**2)))


@pytest.mark.parametrize("name", ["bomb.csv.gz", "bomb.csv.zst", "bomb.xlsx", "bomb.json.gz"])
def test_bombs_stop_before_memory_grows(tmp_path, name):
    path = write(tmp_path, name, bomb(name.rsplit(".")[-1]))
    assert path.stat().st_size < 2 * 1024**2
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from qa_lora.data.readers import open_table\n"
        "from qa_lora.errors import DataError\n"
        "import openpyxl, pyarrow\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n"
        "    for row in open_table(Path(sys.argv[1])).rows(): pass\n"
        "except DataError as error:\n"
        "    print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    sentence, grown = done.stdout.splitlines()
    assert "expands to more than" in sentence or "more than 100,000,000 characters" in sentence
    assert int(grown) < 300 * 1024, "kilobytes"


def test_a_pipe_a_device_and_a_folder_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "null.jsonl").symlink_to("/dev/null")
    for name, sentence in [
        ("pipe.csv", "is no file but a pipe"),
        ("folder.csv", "is a folder"),
        ("null.jsonl", "is no file but a device"),
        ("gone.parquet", "cannot be read: no such file"),
    ]:
        with pytest.raises(DataError, match=sentence):
            open_table(tmp_path / name)


def test_a_link_may_not_lead_out_of_the_folder_it_was_found_in(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    write(tmp_path, "outside.csv", HEADER + b"a,b\n")
    write(folder, "inside.csv", HEADER + b"a,b\n")
    (folder / "out.csv").symlink_to(tmp_path / "outside.csv")
    (folder / "in.csv").symlink_to(folder / "inside.csv")
    assert len(list(open_table(folder / "out.csv").rows())) == 1, "a person named it"
    assert len(list(open_table(folder / "in.csv", inside=folder).rows())) == 1
    with pytest.raises(DataError, match="leads out of the folder"):
        open_table(folder / "out.csv", inside=folder)


def test_endings():
    assert {".csv", ".xlsx", ".parquet", ".ndjson", ".json.gz", ".tsv.zst"} <= set(ENDINGS)
    assert ending_of("a.b.CSV.GZ") == ".csv.gz" and ending_of(Path("x/a.json")) == ".json"
    assert ending_of("a.gz") is None and ending_of("csv") is None and ending_of(".csv/a") is None
    assert ending_of("a.parquet.gz") is None
