from __future__ import annotations

import pytest

from qa_lora.scoring.traits import fact_recall, is_repeating, length_ratio, reference_words


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
        ("首都是北京市。", ["北京"], 1.0),
        ("首都は東京です", ["東京"], 1.0),
        ("答えはParisです", ["Paris"], 1.0),
        ("เมืองหลวงคือกรุงเทพครับ", ["กรุงเทพ"], 1.0),
        ("5年です", ["5"], 1.0),
        ("15年です", ["5"], 0.0),
        ("๑๕", ["๕"], 0.0),
        ("-5", ["5"], 0.0),
        ("It is (-5) or \u22125 degrees.", ["5"], 0.0),
        ("It is \u22125 degrees.", ["-5"], 1.0),
        ("気温は-5度", ["5"], 0.0),
        ("See page-5.", ["5"], 1.0),
        ("1\u20135", ["5"], 0.0),
        ("STRASSE", ["Straße"], 1.0),
    ],
)
def test_fact_recall(prediction, facts, expected):
    assert fact_recall(prediction, facts) == expected


@pytest.mark.parametrize("facts", [[], [" "]])
def test_fact_recall_needs_facts(facts):
    with pytest.raises(ValueError, match="no facts"):
        fact_recall("x", facts)


@pytest.mark.parametrize(
    ("answer", "loops"),
    [
        ("no " * 8, True),
        ("no " * 7, False),
        ("It is Yes yes YES yes yes yes yes yes.", False),  # the last one has a full stop
        ("is it " * 4, True),
        ("is it " * 3 + "is", False),
        ("The capital is Lima. " * 3, True),
        ("The capital is Lima. The capital is Lima. And the capital is Lima.", False),
        ("Well, so it goes on and on and on and on and so on", True),
        (" ".join(str(i) for i in range(32)) * 3, False),  # joined without a space: 94 words
        ((" ".join(str(i) for i in range(32)) + " ") * 3, True),
        ((" ".join(str(i) for i in range(33)) + " ") * 3, False),
        ("", False),
    ],
)
def test_loops(answer, loops):
    assert is_repeating(answer) is loops


def test_length_is_that_of_the_nearest_reference():
    references = ["one two", "one two three four five six"]
    assert reference_words("a b c", references) == 2
    assert reference_words("a b c d", references) == 2  # both are as near; the shorter counts
    assert length_ratio("a b c d e", references) == pytest.approx(5 / 6)
    assert length_ratio("", references) == 0.0
    assert length_ratio("a b", [""]) == 2.0
