from __future__ import annotations

import csv
import dataclasses
import json
import math
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from qa_lora import runs
from qa_lora.answering import Answerer, GenerationSettings, load
from qa_lora.answering.effect import measure_effect
from qa_lora.batching import encode
from qa_lora.config import TrainConfig
from qa_lora.data import QAExample, load_split, question_key
from qa_lora.errors import ConfigError, DataError, RunError
from qa_lora.evaluation import Progress, asked, evaluate, evaluate_stream
from qa_lora.report import Report, beside, load_report
from qa_lora.scoring import METRICS, score
from tests.lively import make_adapter, make_model


def write_rows(path: Path, rows: list[tuple[str, ...]], *columns: str) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns or ("question", "answer"))
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def lively_model(tiny_model, tmp_path_factory) -> Path:
    return make_model(tiny_model, tmp_path_factory.mktemp("lively-t5"))


@pytest.fixture(scope="module")
def run(lively_model, tmp_path_factory) -> runs.Run:
    """A run over thirty questions, each with two right answers."""
    folder = tmp_path_factory.mktemp("evaluation")
    rows = [
        (f"What colour is thing {'very ' * (i % 7)}{i}?", answer, f"fact{i}")
        for i in range(30)
        for answer in (f"It is fact{i}", f"I think: fact{i}!")
    ]
    data = write_rows(folder / "rows.csv", rows, "question", "answer", "fact")
    config = TrainConfig.build(
        model=str(lively_model), data=str(data), precision="fp32", test_fraction=0.4,
        max_new_tokens=6,
    )  # fmt: skip
    made = runs.create(config, folder / "runs")
    make_adapter(lively_model, made.adapter)
    return made


@pytest.fixture(scope="module")
def answerer(run) -> Answerer:
    return load(run)


@pytest.fixture(scope="module")
def report(run, answerer) -> Report:
    return evaluate(run, answerer=answerer)


def test_it_tells_how_far_it_is_and_ends_with_the_report(run, answerer):
    *progress, last = evaluate_stream(run, answerer=answerer, save=False)
    assert isinstance(last, Report)
    assert progress[0] == Progress(0, 12, progress[0].elapsed_seconds, None)
    assert (progress[-1].done, progress[-1].total, progress[-1].eta_seconds) == (12, 12, 0.0)
    assert [p.done for p in progress] == sorted({p.done for p in progress})
    assert last.number is None


def test_a_question_with_several_answers_counts_once(report, run):
    test = load_split(run.config()).test
    assert len(test) == 24
    assert report.rows == len(report.examples) == 12
    for row in report.examples:
        assert len(row.references) == 2
        assert row.base_scores == score(row.base, row.references) | {
            "fact_accuracy": row.base_scores["fact_accuracy"]
        }


def test_rows_are_in_the_order_of_the_split(report, run):
    order = list(dict.fromkeys(example.question for example in load_split(run.config()).test))
    assert [row.question for row in report.examples] == order


def test_both_columns_hold_what_single_questions_get(report, answerer):
    for row in report.examples[:4]:
        assert row.base == answerer.answer(row.question, variant="base").text
        assert row.tuned == answerer.answer(row.question).text


def test_only_held_out_questions_are_scored(report, run):
    split = load_split(run.config())
    seen = {question_key(e.question) for e in (*split.train, *split.validation)}
    assert not seen & {question_key(row.question) for row in report.examples}
    assert report.fingerprint == split.fingerprint


def test_means_and_differences_agree_with_the_rows(report):
    assert set(report.base) == set(report.tuned) == {*METRICS, "fact_accuracy"}
    assert set(report.difference) == set(report.base)
    for metric in report.base:
        base = [row.base_scores[metric] for row in report.examples]
        tuned = [row.tuned_scores[metric] for row in report.examples]
        assert report.base[metric] == pytest.approx(sum(base) / len(base))
        assert report.tuned[metric] == pytest.approx(sum(tuned) / len(tuned))
        gain = report.difference[metric]
        assert gain["mean"] == pytest.approx(report.tuned[metric] - report.base[metric])
        assert gain["low"] <= gain["mean"] <= gain["high"]
        assert 0 < gain["p_value"] <= 1


def test_the_report_says_how_it_was_made(report, run):
    assert report.settings["data"] == run.config().data
    assert report.settings["model"] == run.config().model
    assert report.settings["max_new_tokens"] == 6
    assert report.settings["precision"] == "float32"
    assert report.cut_base > 0


def test_it_is_saved_as_the_contract_says(report, run):
    assert report.number is not None
    assert run.evaluations() == [report.number]
    assert load_report(run, report.number) == report
    values = json.loads((run.evaluations_dir / f"{report.number}.json").read_text("utf-8"))
    assert {"rows", "base", "tuned", "difference"} < set(values)
    columns = pq.read_schema(run.evaluations_dir / f"{report.number}.parquet").names
    assert {"id", "question", "references", "base", "tuned", "context"} < set(columns)
    assert {f"{side}_{m}" for side in ("base", "tuned") for m in METRICS} < set(columns)


def test_the_same_evaluation_again_gives_the_same(report, run, answerer):
    again = evaluate(run, answerer=answerer, save=False)
    assert again.examples == report.examples
    assert (again.base, again.tuned, again.difference) == (
        report.base,
        report.tuned,
        report.difference,
    )


def test_a_limit_draws_a_sample_that_depends_on_the_seed_alone(report, run, answerer):
    def asked(**options):
        found = evaluate(run, answerer=answerer, limit=4, save=False, **options)
        return [row.id for row in found.examples]

    whole = [row.id for row in report.examples]
    assert asked() == asked()
    assert len(asked()) == 4
    assert asked() == [i for i in whole if i in asked()]
    assert len({tuple(asked(seed=seed)) for seed in range(4)}) > 1
    # Scores of a question do not depend on what else is asked.
    one = evaluate(run, answerer=answerer, limit=1, save=False)
    assert one.examples[0] in report.examples
    assert one.difference["rougeL"]["p_value"] == 1.0


def test_other_splits(run, answerer):
    split = load_split(run.config())
    found = evaluate(run, answerer=answerer, split="validation", save=False)
    assert {row.question for row in found.examples} == {e.question for e in split.validation}


def test_settings_can_be_given(run, answerer):
    settings = GenerationSettings(max_new_tokens=1)
    found = evaluate(run, answerer=answerer, limit=3, settings=settings, save=False)
    assert found.cut_base > 0
    assert found.settings["max_new_tokens"] == 1


@pytest.mark.parametrize("wrong", [{"split": "tests"}, {"limit": 0}])
def test_impossible_requests_are_refused(run, answerer, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        evaluate(run, answerer=answerer, **wrong)


def test_an_adapter_of_no_run_needs_data(run, answerer, tmp_path):
    alone = Answerer(
        answerer.model, answerer.tokenizer, template=answerer.template, max_source_tokens=64
    )
    with pytest.raises(DataError, match="belongs to no run"):
        evaluate("somewhere", answerer=alone)
    data = write_rows(tmp_path / "own.csv", [(f"Which {i}?", "this") for i in range(20)])
    found = evaluate("somewhere", answerer=alone, data=str(data))
    assert (found.rows, found.number) == (2, None)
    assert set(found.base) == set(METRICS)
    assert list(tmp_path.glob("**/*.json")) == []


def test_other_data_never_brings_trained_questions_back(run, answerer, tmp_path):
    trained = load_split(run.config()).train
    rows = [(e.question.upper(), "x") for e in trained]
    fresh = [(f"Fresh {i}?", "x") for i in range(10)]
    data = write_rows(tmp_path / "mixed.csv", [*rows, *fresh])
    found = evaluate(run, answerer=answerer, data=str(data), save=False)
    assert found.examples
    assert all(row.question.startswith("Fresh") for row in found.examples)
    only = write_rows(tmp_path / "only.csv", rows)
    with pytest.raises(DataError, match="no questions to score"):
        evaluate(run, answerer=answerer, data=str(only), save=False)


def test_facts_are_counted_where_rows_name_some(run, answerer, tmp_path):
    rows = [(f"Which {i}?", "a", "") for i in range(20)]
    data = write_rows(tmp_path / "empty.csv", rows, "question", "answer", "fact")
    found = evaluate(run, answerer=answerer, data=str(data), save=False)
    assert "fact_accuracy" not in found.base
    assert "fact_accuracy" not in found.difference


def test_leaving_early_saves_nothing(run, answerer):
    before = run.evaluations()
    stream = evaluate_stream(run, answerer=answerer)
    next(stream)
    stream.close()
    assert run.evaluations() == before


def test_a_run_without_an_adapter(run, tmp_path):
    bare = runs.create(run.config(), tmp_path / "runs")
    with pytest.raises(RunError, match="no adapter"):
        evaluate(bare)


def test_an_adapter_folder_inside_a_run_is_the_run(run, report):
    found = evaluate(run.adapter, limit=2)
    assert found.number == report.number + 1
    assert run.evaluations() == [report.number, found.number]


def test_dora_is_scored_in_two_passes_against_the_same_base(run, report, lively_model):
    """Its rows cannot share a batch with the base's, so they come one after the other."""
    made = runs.create(run.config(), run.path.parent)
    make_adapter(lively_model, made.adapter, use_dora=True)
    answerer = load(made)
    assert not answerer._adapters["tuned"].mixes
    dora = evaluate(made, answerer=answerer, save=False)
    assert [row.base for row in dora.examples] == [row.base for row in report.examples]
    assert dora.base == report.base
    assert [row.tuned for row in dora.examples] != [row.base for row in dora.examples]


@pytest.fixture(scope="module")
def other(run, lively_model, tmp_path_factory) -> Path:
    """An adapter of no run, with other weights than the run's."""
    folder = tmp_path_factory.mktemp("others") / "bolder"
    return make_adapter(lively_model, folder, alpha=64)


def test_further_adapters_are_scored_beside_the_two(report, run, answerer, other):
    found = evaluate(run, answerer=answerer, adapters=[other])
    assert found.systems == ("base", "tuned", "bolder")
    assert [row.base for row in found.examples] == [row.base for row in report.examples]
    assert [row.tuned for row in found.examples] == [row.tuned for row in report.examples]
    alone = load(other, precision="fp32")
    for row in found.examples[:3]:
        assert row.answers["bolder"] == alone.answer(row.question, settings=answerer.settings).text
    assert found.losses["bolder"]["loss"] != found.losses["tuned"]["loss"]
    assert found.losses["base"] == report.losses["base"]
    assert found.test_fingerprint == report.test_fingerprint
    assert found.settings["adapters"] == ["bolder"]
    # Twice as many questions are asked of the same data, so each answer must be surer.
    before, after = report.difference["f1"], found.difference["f1"]
    assert (after["mean"], after["p_value"]) == (before["mean"], before["p_value"])
    assert after["p_adjusted"] >= before["p_adjusted"] >= before["p_value"]
    assert load_report(run, found.number) == found
    assert answerer.systems == ("base", "tuned")


def test_an_adapter_that_was_there_stays(run, answerer, other):
    answerer.add(other, name="kept")
    try:
        found = evaluate(run, answerer=answerer, adapters=["kept"], limit=1, save=False)
        assert found.systems == answerer.systems == ("base", "tuned", "kept")
    finally:
        answerer.remove("kept")


def test_what_a_further_adapter_was_trained_on_is_left_out(run, answerer, lively_model, tmp_path):
    """The other run divides the same rows otherwise, so that it knows some held-out answers."""
    config = run.config().model_copy(update={"seed": run.config().seed + 1})
    second = runs.create(config, tmp_path / "runs")
    make_adapter(lively_model, second.adapter)
    found = evaluate(run, answerer=answerer, adapters=[second.path], save=False, loss=False)
    known = {example.question for example in load_split(config).train}
    held_out = {example.question for example in load_split(run.config()).test}
    assert held_out & known
    assert {row.question for row in found.examples} == held_out - known


@pytest.mark.parametrize("name", ["context", "base_f1", "tuned_cut"])
def test_an_adapter_named_like_a_column_is_refused(run, answerer, other, tmp_path, name):
    shutil.copytree(other, tmp_path / name)
    with pytest.raises(ConfigError, match=f"under the name {name}"):
        evaluate(run, answerer=answerer, adapters=[tmp_path / name])
    assert answerer.systems == ("base", "tuned")


def test_stop_words_can_be_left_out(report, run, answerer):
    found = evaluate(run, answerer=answerer, remove_stopwords=True, save=False, loss=False)
    assert found.examples[0].answers == report.examples[0].answers
    for row in found.examples:
        assert row.base_scores["rouge1"] == pytest.approx(
            score(row.base, row.references, remove_stopwords=True)["rouge1"]
        )
    assert found.base["f1"] == report.base["f1"]
    assert found.settings["remove_stopwords"] is True


def test_the_effect_of_each_adapter_is_measured_on_its_own_answers(report, run, answerer):
    effect = report.effect["tuned"]
    assert (effect["rows"], effect["acts"]) == (12, True)
    alone = measure_effect(
        answerer,
        [QAExample("", row.question, "") for row in report.examples],
        answers=[row.tuned for row in report.examples],
    )
    assert effect == pytest.approx(dataclasses.asdict(alone))
    found = evaluate(run, answerer=answerer, limit=1, effect=False, loss=False, save=False)
    assert (found.effect, found.losses) == ({}, {})


def test_corpus_scores_are_of_all_answers_together(report):
    from qa_lora.scoring import score_all

    for system in ("base", "tuned"):
        answers = [row.answers[system] for row in report.examples]
        found = score_all(answers, [row.references for row in report.examples])
        assert report.corpus[system] == pytest.approx(found.corpus())


def test_an_evaluation_stopped_in_its_first_group_gives_no_report(run, answerer):
    found = list(evaluate_stream(run, answerer=answerer, save=False, should_stop=lambda: True))
    assert not any(isinstance(item, Report) for item in found)


def test_a_stopped_evaluation_keeps_the_finished_groups(run, answerer, monkeypatch):
    monkeypatch.setattr("qa_lora.evaluation.stream.FIRST_GROUP", 4)
    monkeypatch.setattr("qa_lora.evaluation.stream.PROGRESS_SECONDS", 0)
    done = 0
    stream = evaluate_stream(run, answerer=answerer, should_stop=lambda: done > 4, limit=11)
    for found in stream:
        done = found.done if isinstance(found, Progress) else done
    assert isinstance(found, Report)
    assert (found.rows, found.asked, found.complete) == (4, 11, False)
    assert load_report(run, found.number) == found
    # It is the start of an order drawn at random, not the longest questions.
    whole = evaluate(run, answerer=answerer, limit=11, save=False)
    lengths = sorted(len(row.question) for row in whole.examples)
    assert sorted(len(row.question) for row in found.examples) != lengths[-4:]
    assert all(row in whole.examples for row in found.examples)
    assert found.test_fingerprint != whole.test_fingerprint
    assert found.losses["base"]["rows"] == 8
    assert found.difference["rougeL"]["mean"] == pytest.approx(
        sum(row.gain("rougeL") for row in found.examples) / 4
    )


def test_losses_are_those_of_each_model_over_every_reference(report, run, answerer, lively_model):
    """Against the plain model and the plain adapter, a row at a time, without padding."""
    from peft import PeftModel
    from transformers import AutoModelForSeq2SeqLM

    test = load_split(run.config()).test
    rows = encode(
        test, answerer.tokenizer, answerer.template, max_source_tokens=256, max_target_tokens=256
    )

    def mean_loss(model) -> float:
        total = tokens = 0.0
        for row in rows:
            with torch.no_grad():
                out = model.eval()(
                    input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([row.labels])
                )
            total += float(out.loss) * len(row.labels)
            tokens += len(row.labels)
        return total / tokens

    base = AutoModelForSeq2SeqLM.from_pretrained(lively_model)
    assert report.losses["base"]["loss"] == pytest.approx(mean_loss(base), rel=1e-5)
    tuned = PeftModel.from_pretrained(base, run.adapter)
    assert report.losses["tuned"]["loss"] == pytest.approx(mean_loss(tuned), rel=1e-5)
    for values in report.losses.values():
        assert (values["rows"], values["tokens"]) == (24, sum(len(row.labels) for row in rows))
        assert values["perplexity"] == pytest.approx(math.exp(values["loss"]))


def test_an_adapter_of_no_numbers_is_scored_and_saved(run, answerer, lively_model, tmp_path):
    broken = runs.create(run.config(), tmp_path / "runs")
    make_adapter(lively_model, broken.adapter)
    (broken.adapter / "SHA256SUMS").unlink()
    weights = broken.adapter / "adapter_model.safetensors"
    stored = load_file(weights)
    save_file({name: tensor * math.nan for name, tensor in stored.items()}, weights)
    found = evaluate(broken, limit=2)
    assert load_report(broken, found.number) == found
    assert "NaN" not in json.dumps(found.to_dict())
    assert found.losses["tuned"]["loss"] is found.losses["tuned"]["perplexity"] is None
    assert found.effect["tuned"]["mean_kl"] is None
    said = dict(beside(found))
    assert said["loss of the references, nats a token"][1] == "–"
    assert said["divergence from the base, nats a token"] == ("", "–")


def test_all_questions_of_a_file_are_scored_but_those_trained_on(run, answerer, tmp_path):
    trained = load_split(run.config()).train[0].question
    fresh = [f"Fresh {i}?" for i in range(6)]
    file = write_rows(tmp_path / "own rows.csv", [(q, "x") for q in [trained, *fresh, fresh[0]]])
    found = evaluate(run, answerer=answerer, file=file, save=False)
    assert [row.question for row in found.examples] == fresh
    assert (found.split, found.settings["data"]) == ("file", "own rows.csv")
    with pytest.raises(ConfigError, match="not both"):
        evaluate(run, answerer=answerer, file=file, data=str(file))


def test_a_file_may_call_its_columns_as_the_run_does(run, tmp_path):
    named = run.config().model_copy(update={"question_column": "q", "answer_column": "a"})
    other = runs.create(named, tmp_path / "runs")
    file = write_rows(tmp_path / "own.csv", [("Who?", "x", "y")], "q", "a", "other")
    found = asked._of_file(file, other.config())
    assert [question.references for question in found.questions] == [("x",)]


def test_the_columns_that_the_run_named_go_before_those_that_are_recognised(run, tmp_path):
    named = {"question_column": "asked", "answer_column": "gold", "context_column": "passage"}
    config = run.config().model_copy(update=named)

    def questions(*columns: str) -> list[tuple[str, tuple[str, ...]]]:
        file = write_rows(tmp_path / "own.csv", [tuple("abcd"[: len(columns)])], *columns)
        found = asked._of_file(file, config).questions
        return [(each.example.question, each.references) for each in found]

    assert questions("question", "asked", "answer", "gold") == [("b", ("d",))]
    assert questions("question", "answer") == [("a", ("b",))]
    file = tmp_path / "squad.json"
    paragraph = {"context": "It is red.", "qas": [{
        "id": "1", "question": "Which?", "answers": [{"text": "red", "answer_start": 6}]
    }]}  # fmt: skip
    file.write_text(json.dumps({"version": "1.1", "data": [{"paragraphs": [paragraph]}]}))
    assert [each.references for each in asked._of_file(file, config).questions] == [("red",)]


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_a_file_without_references_is_told_in_one_sentence(run, answerer, tmp_path, ending):
    file = tmp_path / f"questions.{ending}"
    file.write_text("question,topic\nWho?,x\n" if ending == "csv" else '[{"question": "Who?"}]')
    with pytest.raises(DataError, match=r"questions\.\w+ cannot be scored.*right answers"):
        evaluate(run, answerer=answerer, file=file)
    with pytest.raises(DataError, match="no file"):
        evaluate(run, answerer=answerer, file=tmp_path / "none.csv")


def test_questions_say_which_source_they_are_from(run, answerer, tmp_path):
    for name in "ab":
        write_rows(tmp_path / f"{name}.csv", [(f"Which {name}{i}?", "x") for i in range(20)])
    data = f"{tmp_path / 'a.csv'}\n{tmp_path / 'b.csv'}"
    found = evaluate(run, answerer=answerer, data=data, split="train", save=False, loss=False)
    assert {(row.question[6], row.source) for row in found.examples} == {
        ("a", "a.csv"), ("b", "b.csv")
    }  # fmt: skip
    assert [part.name for part in found.slices("source", "rougeL")] == ["a.csv", "b.csv"]
    assert found.losses == {}


def test_shares_and_lengths_are_those_of_the_rows(report):
    for system in ("base", "tuned"):
        rows = [(row.answers[system], row.traits[system]) for row in report.examples]
        assert report.shares[system] == {
            name: pytest.approx(sum(traits[name] for _, traits in rows) / len(rows))
            for name in ("cut", "empty", "repeating", "prompt_cut")
        }
        assert all(traits["empty"] == (not text.strip()) for text, traits in rows)
    # Every prompt that holds "very" six times or so is too long for nothing: none was cut.
    assert report.shares["base"]["prompt_cut"] == 0


def test_prompts_that_were_cut_are_counted(answerer, tmp_path):
    short = Answerer(
        answerer.model, answerer.tokenizer, template=answerer.template, max_source_tokens=24
    )
    file = write_rows(tmp_path / "own.csv", [("Why?", "x"), ("Why " * 40 + "?", "x")])
    found = evaluate("somewhere", answerer=short, file=file)
    assert found.shares["base"]["prompt_cut"] == found.shares["tuned"]["prompt_cut"] == 0.5


def test_data_that_changed_since_the_run_is_not_scored(run, answerer):
    recorded = run.path / "environment.json"
    recorded.write_text(json.dumps({"test_fingerprint": "of other rows"}))
    try:
        with pytest.raises(DataError, match="has changed since that run began"):
            evaluate(run, answerer=answerer, limit=1, save=False)
        recorded.write_text("damaged")
        assert evaluate(run, answerer=answerer, limit=1, save=False).rows == 1
    finally:
        recorded.unlink()
