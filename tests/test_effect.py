"""An adapter that acts is told from one that does nothing, by numbers worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from qa_lora.adapters import attach_lora, save_adapter
from qa_lora.answering import Answerer, GenerationSettings, load
from qa_lora.answering.effect import measure_effect
from qa_lora.data.example import QAExample
from qa_lora.errors import ConfigError, DataError
from qa_lora.generation import Stopped
from qa_lora.models import load_base
from qa_lora.prompts import PromptTemplate
from tests.lively import make_adapter, make_model

QUESTIONS = ["What is blue?", "Why?", "sky " * 12, "Is the sky 12?"]
EXAMPLES = [QAExample(id=str(i), question=q, answer="") for i, q in enumerate(QUESTIONS)]


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tiny_model, tmp_path_factory.mktemp("lively-t5"))


@pytest.fixture(scope="module")
def answerer(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Answerer:
    around = tmp_path_factory.mktemp("adapters")
    made = load(make_adapter(model, around / "first"), precision="fp32")
    made.settings = GenerationSettings(max_new_tokens=8)
    made.add(make_adapter(model, around / "second", target_modules="k", seed=2))
    made.add(make_adapter(model, around / "dora", use_dora=True, seed=3))
    return made


@pytest.mark.parametrize("system", ["tuned", "second", "dora"])
def test_what_is_measured_is_the_divergence_of_the_two(answerer, system):
    found = measure_effect(answerer, EXAMPLES, system=system)
    total, positions, changed = 0.0, 0, 0
    prompts = answerer.prompts(EXAMPLES, system)
    for prompt, example in zip(prompts, EXAMPLES, strict=True):
        text = answerer.answer(example.question, variant=system).text
        ids = answerer.tokenizer(text)["input_ids"][: 8 + 1]
        inputs = {
            "input_ids": torch.tensor([prompt.ids]),
            "decoder_input_ids": torch.tensor([[0, *ids[:-1]]]),
        }
        both = []
        for name in (system, "base"):
            with answerer.acting(name) as acting, torch.no_grad():
                both.append(acting(**inputs).logits[0].double().softmax(-1))
        tuned, base = both
        total += float((tuned * (tuned / base).log()).sum())
        positions += len(ids)
        changed += bool(tuned[0].argmax() != base[0].argmax())
    assert found.rows == len(EXAMPLES) and found.acts
    assert found.mean_kl == pytest.approx(total / positions, rel=1e-4)
    assert found.changed_first_tokens == changed / len(EXAMPLES)
    assert f"{found.changed_first_tokens:.0%}" in found.sentence()


def test_answers_that_are_known_are_not_made_again(answerer, monkeypatch):
    expected = measure_effect(answerer, EXAMPLES)
    texts = [answerer.answer(question).text for question in QUESTIONS]
    monkeypatch.setattr(answerer, "answer_many", None)
    assert measure_effect(answerer, EXAMPLES, answers=texts) == expected
    one = measure_effect(answerer, EXAMPLES, answers=texts, limit=1)
    assert one.rows == 1
    assert one == measure_effect(answerer, EXAMPLES[:1], answers=texts[:1])


def test_small_batches_measure_the_same(answerer, monkeypatch):
    whole = measure_effect(answerer, EXAMPLES)
    monkeypatch.setattr("qa_lora.answering.effect.SCORES_AT_ONCE", 1)
    parts = measure_effect(answerer, EXAMPLES)
    assert parts.mean_kl == pytest.approx(whole.mean_kl, rel=1e-5)
    assert parts.changed_first_tokens == whole.changed_first_tokens


@pytest.mark.parametrize("dora", [False, True])
def test_an_adapter_that_does_nothing_is_said_to(model, dora):
    made = load_base(str(model), precision="fp32")
    fresh = attach_lora(
        made.model, r=4, alpha=8, dropout=0.1, target_modules="all-linear", use_dora=dora
    )
    answerer = Answerer(
        fresh,
        made.tokenizer,
        template=PromptTemplate(),
        max_source_tokens=64,
        settings=GenerationSettings(max_new_tokens=8),
    )
    found = measure_effect(answerer, EXAMPLES)
    assert not found.acts
    assert found.changed_first_tokens == 0 and found.mean_kl < 1e-6
    assert "does nothing" in found.sentence()


def test_a_measurement_can_be_stopped(answerer):
    looks = []
    with pytest.raises(Stopped):
        measure_effect(answerer, EXAMPLES, should_stop=lambda: looks.append(0) or len(looks) > 2)
    with pytest.raises(Stopped):
        measure_effect(answerer, EXAMPLES, answers=["a"] * len(EXAMPLES), should_stop=lambda: True)


def test_what_cannot_be_measured_is_said(answerer):
    with pytest.raises(ConfigError, match="base has no adapter"):
        measure_effect(answerer, EXAMPLES, system="base")
    with pytest.raises(ConfigError, match="no system named other"):
        measure_effect(answerer, EXAMPLES, system="other")
    with pytest.raises(DataError, match="no questions"):
        measure_effect(answerer, [])


def test_tokens_that_only_the_adapter_knows_do_not_blow_it_up(tmp_path):
    from qa_lora.whitespace import new_ids, with_tokens
    from tests.flan_like import make_model as make_flan

    flan = make_flan(tmp_path / "flan")
    made = load_base(str(flan), precision="fp32")
    tokenizer = with_tokens(made.tokenizer)
    tuned = attach_lora(
        made.model, r=2, alpha=4, dropout=0.0, target_modules="q", tokenizer=tokenizer
    )
    weights = {name: p for name, p in tuned.named_parameters() if p.requires_grad}
    save_adapter(
        tuned, tmp_path / "rows", tokenizer=tokenizer, template=PromptTemplate(),
        card="# card", weights=weights,
    )  # fmt: skip
    rows = load(tmp_path / "rows", precision="fp32")
    # Nothing but the rows differs from the base, and they count for neither of them.
    answers = ["First one.\n\nSecond\ttwo.", "One."]
    assert set(new_ids(tokenizer)) & set(tokenizer(answers[0])["input_ids"])
    found = measure_effect(rows, EXAMPLES[:2], answers=answers)
    assert found.mean_kl < 1e-6 and math.isfinite(found.mean_kl)
