"""The data report counts what is there."""

import dataclasses
import json

from qa_lora.config import TrainConfig
from qa_lora.data import check, load_and_split, split_examples
from qa_lora.prompts import PromptTemplate

ROWS = [
    {"question": f"question {n}", "answer": "word " * (n + 1), "split": "train"} for n in range(16)
] + [
    {"question": "Question 0?", "answer": "another", "split": "train"},
    {"question": "question 1", "answer": "word word", "split": "train"},
    {"question": "", "answer": "lost"},
    {"question": "lost"},
    {"question": "lost too", "answer": []},
    {"question": "question 30", "answer": "a " * 50, "split": "test"},
    {"question": "question 30.", "answer": ["x", "y"], "split": "train"},
]


def words(texts):
    return [len(text.split()) for text in texts]


def report_of(tmp_path, rows=ROWS, count_tokens=words, **settings):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    loaded, split = load_and_split(TrainConfig(data=str(path), **settings))
    return check(
        loaded,
        split,
        count_tokens=count_tokens,
        template=PromptTemplate(),
        max_source_tokens=8,
        max_target_tokens=10,
    )


def test_counts(tmp_path):
    report = report_of(tmp_path)
    assert (report.rows_read, report.rows_used, report.examples) == (23, 19, 19)
    assert [(d.reason, d.count, d.first_rows) for d in report.dropped] == [
        ("empty answer", 2, (20, 21)),
        ("empty question", 1, (19,)),
        ("train question that stands in test too", 1, (23,)),
    ]
    assert (report.questions, report.duplicates, report.several_answers) == (17, 1, 1)
    assert report.sides["test"] == {"rows": 1, "questions": 1}
    assert sum(side["rows"] for side in report.sides.values()) == 19
    assert (report.given_split, report.overlap) == (True, 0)
    assert report.columns == {"question": "question", "answer": "answer", "split": "split"}


def test_lengths_and_cuts(tmp_path):
    report = report_of(tmp_path)
    prompts, answers = report.prompt_tokens, report.answer_tokens
    assert (prompts.median, prompts.longest, prompts.cut) == (5, 5, 0.0)
    # 1..16 words, "another", "word word" and 50 words
    assert (answers.median, answers.p95, answers.longest) == (8, 50, 50)
    assert answers.cut == 7 / 19
    assert report.cut == answers.cut


def test_it_can_be_read_by_people_and_machines(tmp_path):
    report = report_of(tmp_path)
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["rows_used"] == 19
    assert plain["answer_tokens"]["limit"] == 10
    assert plain["summary"] == "19 rows · 4 dropped · 37 % cut · test 1 question, no overlap"
    text = "\n".join(report.lines())
    assert "mine.jsonl: 23 rows read, 19 used" in text
    assert "dropped: 2 x empty answer (rows 20, 21)" in text
    assert "37 % cut at 10" in text
    assert all("\n" not in line for line in report.lines())


def test_without_a_model_nothing_is_said_about_lengths(tmp_path):
    report = report_of(tmp_path, count_tokens=None)
    assert report.prompt_tokens is None
    assert "cut" not in report.summary()
    assert "tokens" not in "\n".join(report.lines())


def test_a_small_share_is_not_rounded_to_nothing(tmp_path):
    rows = [{"question": f"q{n}", "answer": "a"} for n in range(399)]
    rows.append({"question": "long", "answer": "a " * 99})
    assert "under 1 % cut" in report_of(tmp_path, rows).summary()


def test_sampled_rows_are_said_to_be(tmp_path):
    rows = [{"question": f"q{n}", "answer": "a"} for n in range(100)]
    assert "10 rows read of 100, spread evenly" in report_of(tmp_path, rows, max_rows=10).lines()[0]


def test_a_leak_is_seen_whoever_made_the_split(tmp_path):
    rows = [{"question": f"q{n}", "answer": "a"} for n in range(30)]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    loaded, _ = load_and_split(TrainConfig(data=str(path)))
    good = split_examples(loaded.examples, validation_fraction=0.1, test_fraction=0.1, seed=0)
    leaky = dataclasses.replace(good, train=(*good.train, *good.test))
    report = check(
        loaded,
        leaky,
        count_tokens=None,
        template=PromptTemplate(),
        max_source_tokens=8,
        max_target_tokens=8,
    )
    assert report.overlap == 3
    assert "3 questions overlap" in report.summary()
