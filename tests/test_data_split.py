"""No question stands on two sides, whatever the rows, their order or the split they came with."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qa_lora.data.example import QAExample, normalise_question, question_key
from qa_lora.data.split import (
    SIDES,
    DataSplit,
    Overlap,
    fingerprint,
    overlaps,
    split_examples,
)
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


ASKED = ["What is the capital of {}?", "capital of {}, please", "Tell me: {}'s capital?"]
PLACES = ["Peru", "Chile", "Ecuador", "Norway", "Sweden", "Latvia", "Kenya", "Ghana", "Malawi"]


def near_key(example):
    """The cluster that a question of `asked` belongs to."""
    return next(place for place in PLACES if place in example.question), example.context


asked = st.lists(
    st.tuples(
        st.builds(str.format, st.sampled_from(ASKED), st.sampled_from(PLACES)),
        st.sampled_from(["a", "b"]),
        st.sampled_from(["", "", "", "A passage.", "Another text."]),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=40)
@given(asked, st.integers(0, 5), st.floats(0.01, 0.4), st.randoms(use_true_random=False))
def test_near_questions_stand_on_one_side(triples, seed, fraction, rng):
    examples = examples_of(triples)

    def divide(rows):
        return split_examples(
            rows,
            validation_fraction=fraction,
            test_fraction=fraction,
            seed=seed,
            near_duplicates=0.8,
        )

    clusters = {near_key(e): set() for e in examples}
    for e in examples:
        clusters[near_key(e)].add(key(e))
    if len(clusters) < 3:
        with pytest.raises(DataError):
            divide(examples)
        return
    made = divide(examples)
    parts = sides(made)
    assert Counter(e.id for part in parts.values() for e in part) == Counter(e.id for e in examples)
    on = [{near_key(e) for e in part} for part in parts.values()]
    assert all(on)
    assert sum(map(len, on)) == len(clusters)
    assert overlaps(made, 0.8) == []
    # The fractions hold to within one cluster.
    questions = sum(map(len, clusters.values()))
    largest = max(map(len, clusters.values()))
    for side in ("validation", "test"):
        held = len({key(e) for e in parts[side]})
        assert abs(held - max(1, round(questions * fraction))) <= largest

    again = sides(divide(rng.sample(examples, len(examples))))
    assert {side: contents(part) for side, part in again.items()} == {
        side: contents(part) for side, part in parts.items()
    }


def test_without_near_questions_the_split_is_that_of_equal_ones():
    examples = [QAExample(str(n), f"What is thing {n}?", "x") for n in range(200)]
    assert split(examples) == split_examples(
        examples, validation_fraction=0.1, test_fraction=0.1, seed=0, near_duplicates=0.8
    )
    assert split(examples, 0).test != split(examples, 1).test


def test_near_questions_of_given_sides_stay_and_are_told():
    questions = ["What is the capital of Peru?", "Who is it?", "Capital of Peru, please", "2 + 3"]
    examples = [QAExample(f"id{n}", question, "x") for n, question in enumerate(questions)]
    labels = ["train", "train", "test", "validation"]
    made = split_examples(
        examples, validation_fraction=0.1, test_fraction=0.1, seed=0, given=labels,
        near_duplicates=0.8,
    )  # fmt: skip
    assert (len(made.train), len(made.validation), len(made.test)) == (2, 1, 1)
    found = overlaps(made, 0.8)
    assert found == [
        Overlap("train", "id0", questions[0], "test", "id2", questions[2], found[0].similarity)
    ]
    assert 0.8 <= found[0].similarity < 1
    assert found.total == 1
    assert overlaps(made, None) == []


def test_equal_questions_on_two_sides_are_told_first_and_all_are_counted():
    def side(name, questions):
        return tuple(QAExample(f"{name}{n}", q, "x") for n, q in enumerate(questions))

    made = DataSplit(
        train=side("a", ["Capital of Chile", "What is gold?", "what is GOLD", "Who?"]),
        validation=side("b", ["What is gold?"]),
        test=side("c", ["The capital of Chile?", "Who", "Where?"]),
        fingerprint="",
    )
    found = overlaps(made, 0.8)
    assert [(o.id, o.other_id, o.similarity == 1) for o in found] == [
        ("a1", "b0", True),
        ("a3", "c1", True),
        ("a0", "c0", False),
    ]
    assert found.total == 3
    assert [o.id for o in overlaps(made, 0.8, limit=1)] == ["a1"]
    assert overlaps(made, 0.8, limit=1).total == 3
    assert overlaps(made, None).total == 2


def test_a_chain_of_near_questions_does_not_eat_the_sides():
    """Each question shares all but one word with the next, so the first leads to the last."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abdefgklmnoprtuv", k=8)) for _ in range(120)]
    chain = [QAExample(f"c{n}", " ".join(words[n : n + 20]), "x") for n in range(100)]
    examples = [*chain, *numbered(20)]
    made = split_examples(
        examples, validation_fraction=0.2, test_fraction=0.2, seed=0, near_duplicates=0.8
    )
    assert (len(made.validation), len(made.test)) == (24, 24)
    (note,) = made.notes
    assert note.startswith("100 questions hang together as near-duplicates")


def test_what_cannot_be_cut_trains():
    same = [QAExample(f"s{n}", f"{'please ' * n}tell me Peru's capital", "x") for n in range(60)]
    made = split_examples(
        [*same, *numbered(40)],
        validation_fraction=0.1,
        test_fraction=0.1,
        seed=0,
        near_duplicates=0.8,
    )
    assert (len(made.validation), len(made.test)) == (10, 10)
    assert {e.id for e in same} <= {e.id for e in made.train}
    assert "60 of them stay together" in made.notes[0]


def test_questions_that_are_all_near_cannot_be_divided():
    examples = [QAExample(str(n), f"{'please ' * n}tell me Peru's capital", "x") for n in range(9)]
    with pytest.raises(
        DataError, match="9 questions are so much alike that they make only 1 group"
    ):
        split_examples(
            examples, validation_fraction=0.1, test_fraction=0.1, seed=0, near_duplicates=0.8
        )
    split(examples)
