"""Prompts: every text arrives as it is, and what was saved is what is used."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qa_lora.config import TrainConfig
from qa_lora.errors import ModelError
from qa_lora.prompts import PROMPT_FILE, PromptTemplate

PIECES = ["{question}", "{context}", "{answer}", "{", "}", "{{", "}}", "{0}", "{}", "%s", "\\", "x"]
tricky = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=8).map("".join)


def filled(template: str, **values: str) -> str:
    """What a template means, said with a regular expression."""
    names = "|".join(values)
    return re.sub(rf"\{{({names})\}}", lambda match: values[match[1]], template)


def test_the_prompts_of_the_contract() -> None:
    template = PromptTemplate()
    assert template.render("Why?") == "Answer this question: Why?"
    assert template.render("Why?", "So.") == "Answer this question: Why? Context: So."
    assert template.render("And now?", "So.", [("Who?", "Ada."), ("When?", "Then.")]) == (
        "Question: Who? Answer: Ada. Question: When? Answer: Then. "
        "Answer this question: And now? Context: So."
    )


def test_the_defaults_are_those_of_the_settings() -> None:
    config, template = TrainConfig(), PromptTemplate()
    for name, text in vars(template).items():
        assert text == getattr(config, name)


@given(question=tricky, context=tricky, earlier=tricky, answer=tricky)
@settings(deadline=None, max_examples=80)
def test_braces_in_any_text_stay_text(
    question: str, context: str, earlier: str, answer: str
) -> None:
    prompt = PromptTemplate().render(question, context, [(earlier, answer)])
    assert prompt == (
        f"Question: {earlier} Answer: {answer} Answer this question: {question}"
        + (f" Context: {context}" if context else "")
    )


@given(
    template=st.builds(PromptTemplate, prompt=tricky, context_prompt=tricky, history_prompt=tricky),
    question=tricky,
    context=tricky.filter(bool),
    turn=st.tuples(tricky, tricky),
)
@settings(deadline=None, max_examples=80)
def test_any_template_is_filled_once_and_only_with_its_own_values(
    template: PromptTemplate, question: str, context: str, turn: tuple[str, str]
) -> None:
    assert template.render(question, context, [turn]) == (
        filled(template.history_prompt, question=turn[0], answer=turn[1])
        + filled(template.prompt, question=question)
        + filled(template.context_prompt, context=context)
    )


@given(st.builds(PromptTemplate, prompt=tricky, context_prompt=tricky, history_prompt=tricky))
@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_saved_template_comes_back(tmp_path: Path, template: PromptTemplate) -> None:
    template.save(tmp_path)
    assert PromptTemplate.load(tmp_path) == template


def test_an_adapter_without_a_prompt_file_has_the_default(tmp_path: Path) -> None:
    assert PromptTemplate.load(tmp_path) == PromptTemplate()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"5",
        b'"text"',
        json.dumps({"prompt": 5}).encode(),
        json.dumps({"prompt": None}).encode(),
        json.dumps({"prompt": "{question}", "system": "unknown"}).encode(),
    ],
)
def test_a_damaged_prompt_file_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / PROMPT_FILE).write_bytes(content)
    with pytest.raises(ModelError, match=r"The prompt file .* is damaged\. It must hold prompt"):
        PromptTemplate.load(tmp_path)
