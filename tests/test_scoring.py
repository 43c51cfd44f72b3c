from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qa_lora.scoring import (
    METRICS,
    exact_match,
    fact_recall,
    rouge_su4,
    score,
    token_f1,
)

TEXT = st.text(max_size=60)


# --- ROUGE-SU4: Lin (2004), section 6, whose example is S1 police killed the gunman ---


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        # 4 words: 6 skip-bigrams and 4 unigrams on each side, so F1 = matches / 10.
        # police, the, gunman; police-the, police-gunman, the-gunman
        ("police kill the gunman", 6 / 10),
        # the, gunman, police; the-gunman
        ("the gunman kill police", 4 / 10),
        # all 4 words; the-gunman, police-killed
        ("the gunman police killed", 6 / 10),
        ("police killed the gunman", 1.0),
    ],
)
def test_su4_on_the_papers_own_example(prediction, expected):
    assert rouge_su4(prediction, "police killed the gunman", stem=False) == pytest.approx(expected)


def test_su4_stems_like_the_other_rouge_scores():
    assert rouge_su4("police kills the gunman", "police killed the gunman") == 1.0


def test_su4_pairs_words_with_at_most_four_between():
    # a and f have four words between them, a and g five.
    # Reference: 2 words + 1 pair = 3 units. Prediction of 6: 6 words + 15 pairs = 21 units.
    assert rouge_su4("a b c d e f", "a f") == pytest.approx(2 * 3 / (3 + 21))
    # Prediction of 7: 7 words + 20 pairs (21 but a-g) = 27 units; only a and g match.
    assert rouge_su4("a b c d e f g", "a g") == pytest.approx(2 * 2 / (3 + 27))


def test_su4_counts_every_word_as_a_unigram():
    # The seventh word lies beyond a marker's reach of five, and still counts: 1 of 27 and of 1.
    assert rouge_su4("a b c d e f g", "g") == pytest.approx(2 * 1 / (27 + 1))


def test_su4_clips_repeats_to_the_smaller_count():
    # Prediction: x 3 times, x-x 3 times. Reference: x 2 times, x-x once. Overlap 2 + 1.
    assert rouge_su4("x x x", "x x") == pytest.approx(2 * 3 / (6 + 3))


@pytest.mark.parametrize(("a", "b"), [("", ""), ("", "word"), ("word", ""), ("?!", "word")])
def test_su4_of_nothing_is_zero(a, b):
    assert rouge_su4(a, b) == 0.0


@given(TEXT, TEXT)
def test_su4_is_symmetric_and_between_0_and_1(a, b):
    assert 0.0 <= rouge_su4(a, b) <= 1.0
    assert rouge_su4(a, b) == pytest.approx(rouge_su4(b, a))


# --- the rest of score() ---


def test_score_by_hand():
    scores = score("the cat sat", ["the cat sat down"])
    assert set(scores) == set(METRICS)
    assert scores["rouge1"] == pytest.approx(2 * 1 * 0.75 / 1.75)
    assert scores["rouge2"] == pytest.approx(2 * 1 * (2 / 3) / (5 / 3))
    assert scores["rougeL"] == pytest.approx(6 / 7)
    assert scores["rougeSU4"] == pytest.approx(2 * 6 / (6 + 10))
    assert scores["exact_match"] == 0.0
    assert scores["f1"] == pytest.approx(2 * 2 / (2 + 3))  # without the article


def test_rouge_stems():
    assert score("it was raining", ["it was rained"])["rouge1"] == 1.0


def test_lsum_takes_lines_as_sentences():
    scores = score("second line\nfirst line", ["first line\nsecond line"])
    assert scores["rougeLsum"] == 1.0
    assert scores["rougeL"] == pytest.approx(0.5)


def test_each_metric_takes_its_own_best_reference():
    # The first reference has the words in order, the second is longer and has the bigram b c.
    first, second = "a x b", "b c a q r s t"
    alone = [score("a b c", [reference]) for reference in (first, second)]
    both = score("a b c", [first, second])
    assert both == {m: max(alone[0][m], alone[1][m]) for m in METRICS}
    assert alone[0]["rougeL"] > alone[1]["rougeL"]
    assert alone[0]["rouge2"] < alone[1]["rouge2"]


def test_no_reference_is_an_error():
    with pytest.raises(ValueError, match="at least one reference"):
        score("a", [])


@pytest.mark.parametrize(
    ("prediction", "reference"), [("", "Lima"), ("Lima", ""), ("", ""), ("\n", " "), ("?", "Lima")]
)
def test_empty_texts_score_without_failing(prediction, reference):
    scores = score(prediction, [reference])
    assert all(scores[m] == 0.0 for m in METRICS if m.startswith("rouge"))
    assert scores["exact_match"] == scores["f1"]


@given(TEXT, st.lists(TEXT, min_size=1, max_size=3))
def test_scores_stay_between_0_and_1(prediction, references):
    assert all(0.0 <= value <= 1.0 + 1e-12 for value in score(prediction, references).values())


@pytest.mark.parametrize("other", ["the  LIMA!", "Lima", "a lima.", " lima\n"])
def test_squad_normalisation(other):
    assert exact_match("Lima", other) == 1.0
    assert token_f1("Lima", other) == 1.0


def test_token_f1_clips_repeats():
    assert token_f1("lima lima lima", "lima peru") == pytest.approx(2 * 1 / 5)


def test_articles_leave_only_as_whole_words():
    assert exact_match("another theory", "other ory") == 0.0


# --- facts ---


@pytest.mark.parametrize(
    ("prediction", "facts", "expected"),
    [
        ("The capital is  new\ndelhi.", ["New Delhi"], 1.0),
        ("Dial +51 for Peru.", ["+51"], 1.0),
        ("Dial +512.", ["+51"], 0.0),
        ("Dial +1-264.", ["+1"], 0.0),
        ("It uses .pe.", [".pe"], 1.0),
        ("Romania", ["Oman"], 0.0),
        ("atomic number 15", ["5"], 0.0),
        ("it is 5.5 long", ["5"], 0.0),
        ("it is 5.", ["5"], 1.0),
        ("Lima, Peru", ["lima", "peru"], 1.0),
        ("Lima", ["lima", "peru"], 0.0),
        ("C++ it is", ["C++"], 1.0),
        ("", ["x"], 0.0),
        ("STRASSE", ["Straße"], 1.0),
    ],
)
def test_fact_recall(prediction, facts, expected):
    assert fact_recall(prediction, facts) == expected


@pytest.mark.parametrize("facts", [[], [" "]])
def test_fact_recall_needs_facts(facts):
    with pytest.raises(ValueError, match="no facts"):
        fact_recall("x", facts)


def test_scoring_imports_no_torch():
    code = (
        "import sys, qa_lora.scoring as s; s.score('a', ['a']);"
        "sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
