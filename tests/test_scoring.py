from __future__ import annotations

import re
import string
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer
from sacrebleu.metrics import BLEU, CHRF

from qa_lora.scoring import (
    METRICS,
    CorpusStats,
    exact_match,
    rouge_su4,
    score,
    score_all,
    token_f1,
)
from qa_lora.scoring.words import STOP_WORDS, bleu_words, rouge_words, squad_words

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


@settings(deadline=None)
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


# --- agreement with the libraries ---

WORDS = st.sampled_from(
    "the a running runs ran generously generous of in x x2 3.5 C++ don't Lima, (Peru) <b> &amp; "
    "naïve 日本語 🙂 \n \n\n - skipped-over".split(" ")
)
SENTENCES = st.lists(WORDS, max_size=40).map(" ".join)
REAL = [
    "The capital of Peru is Lima. It lies on the coast.\nIts people speak Spanish.",
    "Lima is the capital of Peru.\n\nIt lies on the coast, and people there speak Spanish.",
    "It is because of the way that light is scattered: blue light is scattered more than red.",
    "Because blue light scatters more than red light does.\nThat is called Rayleigh scattering.",
    "",
    "  \n",
    "?!",
    "Lima",
]


def rouge_score_says(prediction: str, reference: str) -> dict[str, float]:
    names = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    found = RougeScorer(names, use_stemmer=True).score(reference, prediction)
    return {name: found[name].fmeasure for name in names}


def sacrebleu_says(prediction: str, references: list[str]) -> dict[str, float]:
    bleu = BLEU(effective_order=True)
    return {
        "bleu": max(bleu.sentence_score(prediction, [each]).score for each in references) / 100,
        "chrf": CHRF().sentence_score(prediction, references).score / 100,
    }


def all_say(prediction: str, references: list[str]) -> dict[str, float]:
    by_one = [
        rouge_score_says(prediction, each)
        | {
            "rougeSU4": rouge_su4(prediction, each),
            "exact_match": exact_match(prediction, each),
            "f1": token_f1(prediction, each),
        }
        for each in references
    ]
    best = {name: max(each[name] for each in by_one) for name in by_one[0]}
    return best | sacrebleu_says(prediction, references)


@settings(deadline=None)
@given(st.lists(st.tuples(SENTENCES, st.lists(SENTENCES, min_size=1, max_size=3)), max_size=4))
def test_scores_are_those_of_rouge_score_squad_and_sacrebleu(rows):
    found = score_all([p for p, _ in rows], [r for _, r in rows]).rows
    for scores, (prediction, references) in zip(found, rows, strict=True):
        assert scores == pytest.approx(all_say(prediction, references), abs=1e-9)


@settings(deadline=None)
@given(TEXT, TEXT)
def test_scores_agree_on_any_characters(prediction, reference):
    assert score(prediction, [reference]) == pytest.approx(
        all_say(prediction, [reference]), abs=1e-9
    )


PIECES = st.lists(
    st.sampled_from(["a.", ".", ",", "5", "1.5", "-", "x", " ", "  ", "\n", "\t", "-\n", "\u00a0", "&lt;",
                     "<skipped>", "The", "(", "\u2014", "an", "'", "\u03a3", "\u0130", "$", "_", "\x85"])
).map("".join)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(PIECES)
def test_words_are_those_of_the_libraries_wherever_spaces_stand(text):
    assert bleu_words(text) == BLEU().tokenizer(text.rstrip()).split()
    assert rouge_words(text) == DefaultTokenizer(use_stemmer=True).tokenize(text)
    bare = "".join(char for char in text.lower() if char not in string.punctuation)
    assert squad_words(text) == re.sub(r"\b(a|an|the)\b", " ", bare).split()


def test_scores_agree_on_real_texts_whatever_is_scored_beside_them(monkeypatch):
    pairs = [(one, other) for one in REAL for other in REAL]
    expected = [all_say(one, [other]) for one, other in pairs]
    for tokens in (1, 200, 32_000):
        monkeypatch.setattr("qa_lora.scoring.overlap.CHUNK_TOKENS", tokens)
        found = score_all([one for one, _ in pairs], [[other] for _, other in pairs]).rows
        for scores, wanted in zip(found, expected, strict=True):
            assert scores == pytest.approx(wanted, abs=1e-9)


def test_texts_with_more_characters_than_fit_a_number_are_counted_all_the_same():
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 3000)))
    other = text[::-1][:1500] + text[:800]
    assert score(text, [other]) == pytest.approx(all_say(text, [other]), abs=1e-9)
    together = score_all([text, "Lima"], [[other], ["Lima."]]).rows
    assert together == [score(text, [other]), score("Lima", ["Lima."])]


@settings(deadline=None)
@given(st.lists(st.tuples(SENTENCES, st.lists(SENTENCES, min_size=2, max_size=2)), min_size=1))
def test_corpus_scores_are_sacrebleus(rows):
    predictions = [p for p, _ in rows]
    columns = [[references[i] for _, references in rows] for i in range(2)]
    found = score_all(predictions, [references for _, references in rows]).corpus()
    assert found["bleu"] == pytest.approx(
        BLEU().corpus_score(predictions, columns).score / 100, abs=1e-9
    )
    assert found["chrf"] == pytest.approx(
        CHRF().corpus_score(predictions, columns).score / 100, abs=1e-9
    )


def test_corpus_scores_of_parts_add_up():
    whole = score_all(REAL[:4], [[REAL[1], REAL[2]]] * 4)
    parts = [score_all([text], [[REAL[1], REAL[2]]]).stats[0] for text in REAL[:4]]
    assert sum(parts, start=CorpusStats()).scores() == whole.corpus()


def test_stop_words_are_left_out_of_rouge_alone():
    prediction, references = "It is the coast of Peru", ["The coast is in Peru, they say"]
    kept = score(prediction, references)
    found = score(prediction, references, remove_stopwords=True)
    bare = score("coast Peru", ["coast Peru say"])
    for name in METRICS:
        expected = bare if name.startswith("rouge") else kept
        assert found[name] == expected[name]
    assert score("of the", ["of the"], remove_stopwords=True)["rouge1"] == 0.0
    assert all(word == word.lower() for word in STOP_WORDS)


# SQuAD's script, by hand: lower case, no punctuation, no articles; then words in common.
@pytest.mark.parametrize(
    ("prediction", "reference", "exact", "f1"),
    [
        ("The Denver Broncos", "Denver Broncos", 1.0, 1.0),
        ("Denver Broncos of Colorado", "Denver Broncos", 0.0, 2 * (2 / 4) * 1 / (2 / 4 + 1)),
        ("Carolina", "Denver Broncos", 0.0, 0.0),
        ("in the late 1990s", "late 1990s.", 0.0, 2 * (2 / 3) * 1 / (2 / 3 + 1)),
        ("$5 million", "5 million", 1.0, 1.0),
        ("5-10", "510", 1.0, 1.0),
        ("the", "a", 1.0, 1.0),
    ],
)
def test_squad_by_hand(prediction, reference, exact, f1):
    scores = score(prediction, [reference])
    assert (scores["exact_match"], scores["f1"]) == (exact, pytest.approx(f1))


def test_references_must_match_the_answers():
    with pytest.raises(ValueError, match="for each answer"):
        score_all(["a", "b"], [["a"]])
    assert score_all([], []).rows == []


def test_scoring_imports_no_torch():
    code = (
        "import sys, qa_lora.scoring as s; s.score('a', ['a']);"
        "sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
