"""Sources by lines: the grammar, folders, several at once, weights and limits."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qa_lora import runs
from qa_lora.config import TrainConfig
from qa_lora.data import ColumnsError, load, load_and_split, load_split
from qa_lora.data.example import QAExample
from qa_lora.data.mixture import weighted
from qa_lora.data.picking import picks
from qa_lora.data.sources import (
    Source,
    absolute,
    local_files,
    parse,
    short_name,
    without_folders,
)
from qa_lora.errors import DataError


def qa_file(folder: Path, name: str, count: int, **more: Any) -> str:
    folder.mkdir(exist_ok=True)
    stem = name.split(".")[0]
    rows = [
        {"question": f"{stem} {n}?", "answer": f"{stem} says {n}", **more} for n in range(count)
    ]
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(folder / name)


def test_the_parts_of_a_line() -> None:
    assert parse("owner/name subset=en split=train[:10%] revision=v1 rows=50 weight=0.5") == (
        Source("owner/name", "en", "train[:10%]", "v1", 0.5, 50, repo="owner/name"),
    )
    assert parse("  squad:plain text \n\n atlas weight=2\n") == (
        Source("squad:plain text", subset="plain text", repo="squad"),
        Source("atlas", weight=2.0),
    )
    (file,) = parse("hf://datasets/owner/name@a%2Fb/data/all one.jsonl rows=3")
    assert (file.repo, file.revision, file.file, file.rows) == (
        "owner/name",
        "a/b",
        "data/all one.jsonl",
        3,
    )
    assert file.label == "name/all one.jsonl"


def test_a_file_whose_name_is_the_whole_line_wins(tmp_path: Path) -> None:
    odd = qa_file(tmp_path, "a b rows=2.jsonl", 3)
    assert parse(odd) == (Source(odd),)
    assert parse(f"{odd} rows=2") == (Source(odd, rows=2),)
    assert len(load(f"{odd} rows=2").examples) == 2


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            "atlas weight=0",
            "The weight of atlas must be a number above 0 and at most 100 (it is 0)",
        ),
        ("atlas weight=nan", "(it is nan)"),
        ("atlas weight=1e3", "(it is 1e3)"),
        ("atlas weight=twice", "(it is twice)"),
        ("atlas rows=0", "The rows of atlas must be a whole number from 1 (it is 0)"),
        ("atlas rows=1.5", "(it is 1.5)"),
        ("atlas rows=2 rows=3", "names rows twice"),
        ("atlas split=train", "atlas is a file, which has no split"),
        ("hf://datasets/a/b/c.csv subset=x", "b/c.csv is a file, which has no subset"),
        ("a/b:en subset=de", "a/b:en names its subset already"),
        ("hf://datasets/a/b@v1/c.csv revision=v2", "names its revision already"),
        ("hf://datasets/a/b/c.exe", "c.exe on the Hub cannot be read"),
        (
            "gone.csv weigth=2",
            "There is no file gone.csv weigth=2. Behind a source may stand subset",
        ),
        ("gone.csv weight=2", "There is no file gone.csv."),
        ("one thing", "There is no file one thing."),
        ("\n \n", "No data is named."),
    ],
)
def test_a_wrong_line_is_one_sentence(line: str, says: str) -> None:
    with pytest.raises(DataError) as caught:
        parse(line)
    assert says in str(caught.value) and "\n" not in str(caught.value)


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_text_is_sources_or_one_sentence(text: str) -> None:
    try:
        parse(text)
        short_name(text)
        absolute(text)
    except DataError:
        pass


def test_lists_in_settings_are_lines() -> None:
    assert TrainConfig.build(data=["a/b weight=2", " c/d "]).data == "a/b weight=2\nc/d"
    assert TrainConfig.build(data="a/b\nc/d").data == "a/b\nc/d"


def test_the_flag_may_be_repeated() -> None:
    from qa_lora import cli

    parsed = cli.build_parser().parse_args(["train", "--data", "a/b rows=5", "--data", "c/d"])
    config = TrainConfig.build(data=vars(parsed)[f"{cli.KNOB}data"])
    assert config.data == "a/b rows=5\nc/d"


def test_a_run_has_a_short_name_and_whole_paths(tmp_path: Path, monkeypatch: Any) -> None:
    qa_file(tmp_path, "mine.jsonl", 3)
    monkeypatch.chdir(tmp_path)
    lines = "mine.jsonl weight=2\nowner/other data rows=2\nhf://datasets/a/HC3/all.jsonl"
    config = TrainConfig(data=lines, test_data="mine.jsonl")
    run = runs.create(config, tmp_path / "runs")
    assert run.id.endswith("-mine-and-2-more-pocket")
    kept = run.config()
    assert kept.data.splitlines() == [
        f"{tmp_path.resolve()}/mine.jsonl weight=2",
        *lines.splitlines()[1:],
    ]
    assert kept.test_data == str(tmp_path.resolve() / "mine.jsonl")
    assert without_folders(kept.data).splitlines()[0] == "mine.jsonl weight=2"
    assert short_name("hf://datasets/a/HC3/all.jsonl") == "HC3-all"
    assert short_name("my.csv") == "my" and short_name("owner/name:en") == "name:en"


def test_several_files_at_once(tmp_path: Path) -> None:
    one = qa_file(tmp_path, "one.jsonl", 3)
    two = tmp_path / "two.csv"
    two.write_text("Prompt,Completion\na,b\n,c\nd,e\n", "utf-8")
    data = load(f"{one}\n{two}\n{one}")
    assert data.source == "one.jsonl and 2 more"
    assert data.form == "question and answer and prompt and completion"
    assert [each.name for each in data.sources] == ["one.jsonl", "two.csv", "one.jsonl#2"]
    assert list(data.origins) == ["one.jsonl"] * 3 + ["two.csv"] * 2 + ["one.jsonl#2"] * 3
    assert [(d.file, d.row, d.reason) for d in data.dropped] == [("two.csv", 2, "empty question")]
    ids = [example.id for example in data.examples]
    assert ids[3:5] == ["two.csv:row-1", "two.csv:row-3"] and len(set(ids)) == 8
    assert (data.rows_read, data.rows_in_source) == (9, 9)


def test_a_named_column_counts_where_it_is(tmp_path: Path) -> None:
    one = qa_file(tmp_path, "one.jsonl", 1, better="kept")
    two = qa_file(tmp_path, "two.jsonl", 1)
    data = load(f"{one}\n{two}", answer_column="better")
    assert [e.answer for e in data.examples] == ["kept", "two says 0"]
    with pytest.raises(ColumnsError, match="No source has a column 'best' for the answer"):
        load(f"{one}\n{two}", answer_column="best")


def test_a_folder_whose_files_name_the_sides(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    qa_file(folder, "train-00000-of-00002.jsonl", 6)
    qa_file(folder, "train-00001-of-00002.jsonl", 4)
    qa_file(folder, "dev_v2.jsonl", 2)
    qa_file(folder, "test.jsonl", 3)
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# Mine\n", "utf-8")
    (folder / ".hidden.csv").write_text("x", "utf-8")
    (folder / "below").mkdir()
    config = TrainConfig(data=str(folder))
    data, split = load_and_split(config)
    assert data.source == "mine" and data.given and set(data.origins) == {"mine"}
    assert data.sources[0].licence == "cc-by-4.0"
    assert (len(split.train), len(split.validation), len(split.test)) == (10, 2, 3)
    assert [e.question for e in data.examples[:3]] == [f"dev_v2 {n}?" for n in range(2)] + [
        "test 0?"
    ]
    assert len(local_files(str(folder))) == 5


def test_names_that_leave_nothing_to_train_on_mean_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    qa_file(folder, "test.jsonl", 30)
    data, split = load_and_split(TrainConfig(data=str(folder)))
    assert not data.given and len(split.train) == 24


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    outside = qa_file(tmp_path, "secret.jsonl", 3)
    folder = tmp_path / "mine"
    qa_file(folder, "a.jsonl", 3)
    (folder / "inside.jsonl").symlink_to(folder / "a.jsonl")
    assert len(load(str(folder)).examples) == 6
    (folder / "z.jsonl").symlink_to(outside)
    with pytest.raises(DataError, match=r"z.jsonl is a link that leads out of the folder"):
        load(str(folder))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"empty holds no file that can be read\."):
        load(str(empty))


def test_given_sides(tmp_path: Path) -> None:
    train = qa_file(tmp_path, "mine.jsonl", 20)
    held = qa_file(tmp_path, "held.jsonl", 4, split="train")
    config = TrainConfig(data=train, test_data=held, validation_fraction=0.1)
    data, split = load_and_split(config)
    assert list(data.splits) == [None] * 20 + ["test"] * 4
    assert {e.question for e in split.test} == {f"held {n}?" for n in range(4)}
    assert (len(split.train), len(split.validation)) == (18, 2)


def test_atlas_keeps_its_licence() -> None:
    assert load("atlas rows=5").sources[0].licence == "cc-by-4.0"


@given(
    sizes=st.lists(
        st.tuples(st.integers(1, 40), st.none() | st.integers(1, 40)), min_size=1, max_size=5
    ),
    most=st.none() | st.integers(3, 100),
    streams=st.lists(st.booleans(), min_size=5, max_size=5),
)
@settings(max_examples=300, deadline=None)
def test_limits_hold_and_every_number_is_a_row(
    sizes: list[tuple[int, int | None]], most: int | None, streams: list[bool]
) -> None:
    lengths = [
        None if s and (limit or most) else n for (n, limit), s in zip(sizes, streams, strict=False)
    ]
    limits = [limit for _, limit in sizes]
    if not any(limits) and not most:
        return
    found = [list(numbers) for numbers in picks(lengths, limits, most)]
    for length, limit, numbers in zip(lengths, limits, found, strict=True):
        assert numbers == sorted(set(numbers)) and len(numbers) <= (limit or 10**9)
        if length is None:
            assert numbers == list(range(len(numbers)))
        else:
            assert all(0 <= number < length for number in numbers)
    total = sum(
        min(x for x in (n, k, most if n is None else None) if x)
        for n, k in zip(lengths, limits, strict=True)
    )
    assert sum(map(len, found)) == min(total, most or total)


def test_rows_are_spread_over_each_source_and_over_all(tmp_path: Path) -> None:
    one, two = qa_file(tmp_path, "one.jsonl", 100), qa_file(tmp_path, "two.jsonl", 300)
    data = load(f"{one} rows=10\n{two}")
    assert Counter(data.origins) == {"one.jsonl": 10, "two.jsonl": 300}
    assert list(data.rows[:10]) == list(range(1, 101, 10))
    assert data.rows_in_source == 400 and data.rows_read == 310
    data = load(f"{one}\n{two}", max_rows=20)
    assert Counter(data.origins) == {"one.jsonl": 5, "two.jsonl": 15}


def mixture(*counts: int) -> tuple[list[QAExample], list[str]]:
    names = [name for name, count in zip("abc", counts, strict=False) for _ in range(count)]
    examples = [
        QAExample(f"{n}", f"{name} {n // 2}?", f"answer {n}") for n, name in enumerate(names)
    ]
    return examples, names


def test_weights_repeat_rows_and_thin_questions() -> None:
    examples, origins = mixture(20, 40, 10)
    drawn = weighted(examples, origins, {"a": 2, "b": 0.5, "c": 1}, 1)
    times = Counter(drawn)
    assert [times[i] for i in range(20)] == [2] * 20
    assert sum(times[i] for i in range(20, 60)) == 20  # half of its 20 questions, both answers
    assert all(times[i] == times[i + 1] for i in range(20, 60, 2))
    assert [times[i] for i in range(60, 70)] == [1] * 10
    assert list(drawn) == sorted(drawn)


def test_which_questions_come_follows_from_the_seed_and_the_text_alone() -> None:
    examples, origins = mixture(60)

    def questions(rows: list[QAExample], seed: int, weight: float) -> Counter[str]:
        drawn = weighted(rows, origins, {"a": weight}, seed)
        return Counter(rows[i].question for i in drawn)

    assert questions(examples, 1, 0.5) == questions(examples[::-1], 1, 0.5)
    assert questions(examples, 1, 0.5) != questions(examples, 2, 0.5)
    smaller, larger = questions(examples, 1, 0.2), questions(examples, 1, 0.6)
    assert set(smaller) < set(larger) and sum(larger.values()) == 36
    assert sum(questions(examples, 1, 1.5).values()) == 90
    assert sum(questions(examples, 1, 0.001).values()) == 2  # never none at all


def test_weights_leave_validation_and_test_alone(tmp_path: Path) -> None:
    one, two = qa_file(tmp_path, "one.jsonl", 40), qa_file(tmp_path, "two.jsonl", 40)
    plain = load_split(TrainConfig(data=f"{one}\n{two}"))
    mixed = load_split(TrainConfig(data=f"{one} weight=3\n{two} weight=0.5"))
    assert (mixed.validation, mixed.test) == (plain.validation, plain.test)
    assert mixed.fingerprint == plain.fingerprint

    def count(rows: Any) -> Counter[str]:
        return Counter(example.question.split()[0] for example in rows)

    before, after = count(plain.train), count(mixed.train)
    assert after == {"one": 3 * before["one"], "two": round(before["two"] / 2)}
