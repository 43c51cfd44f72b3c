"""What an evaluation is said to mean."""

from __future__ import annotations

import pytest

from qa_lora.report.verdict import verdict
from tests.made_reports import make_report

LOW = [0.1, 0.2, 0.1, 0.3, 0.2, 0.1, 0.2, 0.3] * 5
HIGH = [score + 0.4 + 0.01 * (i % 3) for i, score in enumerate(LOW)]
MIXED = [score + (0.05 if i % 2 else -0.05) for i, score in enumerate(LOW)]


@pytest.mark.parametrize(
    ("base", "tuned", "kind", "title"),
    [
        (LOW, HIGH, "better", "Tuning paid."),
        (HIGH, LOW, "worse", "Tuning made it worse."),
        (LOW, MIXED, "unclear", "No clear difference."),
    ],
)
def test_the_sign_and_the_p_value_decide(base, tuned, kind, title):
    found = verdict(make_report({"base": base, "tuned": tuned}))
    assert (found.kind, found.title) == (kind, title)
    assert "between" in found.text and "95 % confidence" in found.text


def test_an_unclear_one_says_what_so_many_questions_could_show():
    report = make_report({"base": LOW, "tuned": MIXED})
    least = report.difference["rougeL"]["detectable"]
    assert f"a difference of {least:.2f} or more" in verdict(report).text


def test_no_difference_is_said_to_be_too_small_to_show_beside_a_larger_one_that_did_not():
    report = make_report({"base": LOW[:7], "tuned": HIGH[:7]})
    gain = report.difference["rougeL"]
    assert gain["detectable"] < gain["mean"] and gain["p_value"] < 0.05 < gain["p_adjusted"]
    found = verdict(report)
    assert found.kind == "unclear"
    assert "or more would show" not in found.text


def test_few_questions_prove_nothing_however_large_the_difference():
    for count, said in ((1, "on 1 question, too few"), (5, "on 5 questions, too few")):
        found = verdict(make_report({"base": LOW[:count], "tuned": HIGH[:count]}))
        assert found.kind == "unclear"
        assert said in found.text and "confidence" not in found.text
    # Of facts, only the questions count that name one.
    report = make_report({"base": LOW, "tuned": HIGH}, facts={"base": [0] * 4, "tuned": [1] * 4})
    assert "on 4 questions, too few" in verdict(report, metric="fact_accuracy").text


def test_an_interval_of_no_width_is_no_certainty():
    same = verdict(make_report({"base": LOW, "tuned": LOW}))
    assert same.kind == "unclear"
    assert "On every question ROUGE-L is the same with and without tuning" in same.text
    up = verdict(make_report({"base": [0.25] * 20, "tuned": [0.75] * 20}))
    assert up.kind == "better" and "by 0.50 on every question" in up.text
    for found in (same, up):
        assert "confidence" not in found.text and "chance" not in found.text


def test_lost_facts_are_told_beside_a_gain():
    many = [1.0] * 40
    few = [float(i % 2) for i in range(40)]
    report = make_report({"base": LOW, "tuned": HIGH}, facts={"base": many, "tuned": few})
    found = verdict(report)
    assert found.title == "Tuning paid, but facts were lost."
    assert "50 % of the answers, 100 % of the base's" in found.text


def test_a_fact_lost_on_one_question_is_no_loss_of_facts():
    report = make_report({"base": LOW, "tuned": HIGH}, facts={"base": [1.0], "tuned": [0.0]})
    found = verdict(report)
    assert found.title == "Tuning paid."
    assert "The right fact is in 0 % of the answers to the 1 question that names one" in found.text
    facts = {"base": [1.0] * 10, "tuned": [0.0] * 10}
    found = verdict(make_report({"base": LOW, "tuned": HIGH}, facts=facts))
    assert found.title == "Tuning paid, but facts were lost."
    assert "to the 10 questions that name one, 100 % of the base's" in found.text


def test_of_several_the_best_is_named_and_held_against_the_second():
    third = [score - 0.2 - 0.01 * (i % 5) for i, score in enumerate(HIGH)]
    report = make_report({"base": LOW, "tuned": third, "run-b": HIGH})
    found = verdict(report, names={"tuned": "run-a"})
    assert found.system == "run-b" and "the best of 2 adapters is run-b" in found.title
    assert "It beats the second, run-a, by +0.2" in found.text
    same = make_report({"base": LOW, "tuned": HIGH, "run-b": HIGH})
    assert "not clearly better than the second" in verdict(same).text


def test_a_steady_gain_goes_before_a_higher_mean_that_may_be_luck():
    steady = [score + 0.1 + 0.01 * (i % 3) for i, score in enumerate(LOW)]
    lucky = [score + (3.0 if i % 20 == 0 else 0.0) for i, score in enumerate(LOW)]
    report = make_report({"base": LOW, "tuned": lucky, "run-b": steady})
    assert report.tuned["rougeL"] > report.scores["run-b"]["rougeL"]
    found = verdict(report, names={"tuned": "run-a"})
    assert (found.kind, found.system) == ("better", "run-b")
    assert "of 2 adapters the best that is surely better than the base is run-b" in found.title
    assert "The mean of run-a is higher, by +0.0" in found.text


def test_none_is_called_worse_while_one_is_unclear():
    worse = [score - 0.05 - 0.001 * (i % 3) for i, score in enumerate(LOW)]
    wild = [score - 0.06 + (0.5 if i % 2 else -0.5) for i, score in enumerate(LOW)]
    both = verdict(make_report({"base": LOW, "tuned": worse, "b": worse})).title
    assert both == "None of 2 adapters is better than the base."
    one = verdict(make_report({"base": LOW, "tuned": worse, "b": wild})).title
    assert one == "None of 2 adapters is clearly better than the base."
