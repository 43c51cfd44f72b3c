from __future__ import annotations

import pytest

from qa_lora.rouge_metric import QARouge
from qa_lora.scoring import METRICS, score


@pytest.fixture
def metric(tmp_path) -> QARouge:
    return QARouge(cache_dir=str(tmp_path))


def test_the_mean_of_the_scores(metric):
    predictions, references = ["the cat sat", "it rained"], ["the cat sat down", "it was raining"]
    result = metric.compute(predictions=predictions, references=references)
    rows = [score(p, [r]) for p, r in zip(predictions, references, strict=True)]
    assert result == pytest.approx({m: (rows[0][m] + rows[1][m]) / 2 for m in METRICS})


def test_several_references_give_the_best(metric):
    result = metric.compute(predictions=["Lima"], references=[["Quito", "lima."]])
    assert result["exact_match"] == result["rouge1"] == 1.0


def test_it_adds_up_batches(metric):
    metric.add_batch(predictions=["a b", "c"], references=["a b", "d"])
    metric.add(prediction="e", reference="e")
    assert metric.compute()["f1"] == pytest.approx(2 / 3)


def test_line_ends_and_empty_answers_survive(metric):
    result = metric.compute(predictions=["second\nfirst", ""], references=["first\nsecond", "x"])
    assert result["rougeLsum"] == pytest.approx(0.5)
    assert result["rougeL"] == pytest.approx(0.25)


def test_it_agrees_with_rouge_score(metric):
    from rouge_score.rouge_scorer import RougeScorer

    expected = RougeScorer(["rougeL"], use_stemmer=True).score("cats sat down", "a cat was sitting")
    result = metric.compute(predictions=["a cat was sitting"], references=["cats sat down"])
    assert result["rougeL"] == pytest.approx(expected["rougeL"].fmeasure)
