"""No question stands on two sides, whatever the rows, their order or the split they came with."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qa_lora.data.example import QAExample, normalise_question, question_key
from qa_lora.data.split import SIDES, fingerprint, split_examples
from qa_lora.errors import DataError

WORDS = ["Peru", "peru?", "Chile", "?", "!!", "🙂", "🙃", "2+3", "2 - 3", "नीला", "", "\n"]
questions = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join)
rows = st.lists(
    st.tuples(
        questions | st.text(max_size=12), st.sampled_from(["a", "b"]), st.sampled_from(["", "c"])
    ),
    max_size=40,
)


def examples_of(triples):
    return [QAExample(f"row-{n}", q, a, c) for n, (q, a, c) in enumerate(triples, 1)]


def key(example):
    return question_key(example.question, example.context)


def sides(split):
    return {"train": split.train, "validation": split.validation, "test": split.test}


def contents(examples):
    return [(e.question, e.context, e.answer) for e in examples]


def split(examples, seed=0, given=None, validation=0.1, test=0.1):
    return split_examples(
        examples, validation_fraction=validation, test_fraction=test, seed=seed, given=given
    )


@settings(deadline=None, max_examples=100)
@given(
    rows,
    st.integers(0, 5),
    st.floats(0.01, 0.49),
    st.floats(0.01, 0.4),
    st.randoms(use_true_random=False),
)
def test_every_row_on_one_side_and_every_question_too(triples, seed, validation, test, rng):
    examples = examples_of(triples)
    different = len({key(e) for e in examples})
    if different < 3:
        with pytest.raises(DataError, match="at least 3"):
            split(examples, seed, None, validation, test)
        return
    made = split(examples, seed, None, validation, test)
    parts = sides(made)
    assert Counter(e.id for part in parts.values() for e in part) == Counter(e.id for e in examples)
    keys = {side: {key(e) for e in part} for side, part in parts.items()}
    assert sum(map(len, keys.values())) == different

    assert all(keys.values())
    wanted_validation = max(1, round(different * validation))
    wanted_test = max(1, round(different * test))
    if wanted_validation + wanted_test < different:
        assert len(keys["validation"]) == wanted_validation
        assert len(keys["test"]) == wanted_test

    shuffled = rng.sample(examples, len(examples))
    again = split(shuffled, seed, None, validation, test)
    for side, part in sides(again).items():
        assert contents(part) == contents(parts[side])
    assert again.fingerprint == made.fingerprint


@settings(deadline=None, max_examples=100)
@given(rows, st.randoms(use_true_random=False))
def test_a_given_split_is_kept_and_leaks_nothing(triples, rng):
    examples = examples_of(triples)
    labels = [rng.choice([*SIDES, "train", None]) for _ in examples]
    try:
        made = split(examples, given=labels)
    except DataError:
        return
    parts = sides(made)
    placed = {e.id: side for side, part in parts.items() for e in part}
    removed = {r.id for r in made.removed}
    assert placed.keys() | removed == {e.id for e in examples}
    assert not placed.keys() & removed
    keys = [{key(e) for e in part} for part in parts.values()]
    assert all(keys)
    assert sum(map(len, keys)) == len(set().union(*keys))
    for example, label in zip(examples, labels, strict=True):
        if label == "test":
            assert placed[example.id] == "test"
        if label == "validation":
            assert placed.get(example.id, "validation") == "validation"


def numbered(count):
    return [QAExample(f"row-{n}", f"question {n}", "answer") for n in range(count)]


def test_the_nearer_to_training_gives_way():
    examples = [*numbered(10), QAExample("copy", "Question 9!", "answer")]
    given = ["train"] * 7 + ["validation", "test", "test", "train"]
    made = split(examples, given=given)
    assert [(r.id, r.reason) for r in made.removed] == [
        ("copy", "train question that stands in test too")
    ]
    assert (len(made.train), len(made.validation), len(made.test)) == (7, 1, 2)


def test_a_side_that_is_not_given_comes_from_training():
    examples = numbered(100)
    made = split(examples, given=["train"] * 60 + ["test"] * 40)
    assert {e.id for e in made.test} == {f"row-{n}" for n in range(60, 100)}
    assert (len(made.train), len(made.validation)) == (54, 6)
    made = split(examples, given=["train"] * 60 + ["validation"] * 40)
    assert (len(made.train), len(made.validation), len(made.test)) == (54, 40, 6)
    assert (
        split(examples, given=["train"] * 100)
        == split(examples)
        == split(examples, given=[None] * 100)
    )


def test_a_given_split_without_training_rows_is_refused():
    with pytest.raises(DataError, match="split column leaves 0 questions"):
        split(numbered(9), given=["test"] * 5 + ["validation"] * 4)
    with pytest.raises(DataError, match="leaves 1 question for training, and needs at least 2"):
        split(numbered(9), given=["train"] + ["test"] * 8)


def test_a_given_test_side_does_not_depend_on_the_seed():
    examples = numbered(50)
    given = ["train"] * 30 + ["test"] * 20
    one, other = split(examples, 1, given), split(examples, 2, given)
    assert one.test == other.test
    assert one.fingerprint == other.fingerprint
    assert one.validation != other.validation


def test_one_question_with_two_passages_is_two_questions():
    examples = [QAExample(str(n), "Who is it?", "x", context=f"It is {n}.") for n in range(10)]
    made = split(examples)
    assert (len(made.train), len(made.validation), len(made.test)) == (8, 1, 1)


def test_the_head_of_a_side_is_a_fair_sample():
    examples = [
        QAExample(str(n), f"{'early' if n < 500 else 'late'} {n}", "x") for n in range(1000)
    ]
    head = split(examples, test=0.4).test[:100]
    assert 30 < sum("early" in e.question for e in head) < 70


def test_a_hundred_thousand_rows_are_no_trouble():
    examples = numbered(100_000)
    random.Random(0).shuffle(examples)
    made = split(examples)
    assert (len(made.validation), len(made.test)) == (10_000, 10_000)


def test_the_fingerprint_is_of_the_content():
    one, two = numbered(2)
    renamed = QAExample("other", one.question, one.answer)
    assert fingerprint([one, two]) == fingerprint([two, renamed])
    assert fingerprint([one]) != fingerprint([one, two]) != fingerprint([])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the capital of Peru?", "what is  the CAPITAL of peru"),
        ("What's up?", "What’s up"),
        ("well-known?", "Well known"),
        ("GPT-4 or COVID–19?", "gpt 4 or covid 19"),
        ("2+3", "2 + 3 ?"),
        ("5-3", "5 − 3"),
        ("café", "cafe\u0301"),
        ("Straße", "STRASSE"),
        ("so\u00adft", "soft"),
        ("❤️", "❤"),
    ],
)
def test_the_same_question(one, other):
    assert normalise_question(one) == normalise_question(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is C?", "What is C++?"),
        ("What is C#?", "What is C++?"),
        ("2 + 3", "2 - 3"),
        ("6/3", "6 3"),
        ("x < 1", "x > 1"),
        ("What means 🙂?", "What means 🙃?"),
        ("नीला", "नीली"),
        ("5 %", "5"),
    ],
)
def test_another_question(one, other):
    assert normalise_question(one) != normalise_question(other)


def test_a_question_of_punctuation_is_told_from_another():
    assert normalise_question("?") == ""
    assert question_key("?") != question_key("!")
    assert question_key(" ?! ") == question_key("?!")
    assert question_key("a", "b") != question_key("a b") != question_key("a", "", (("b", "c"),))
