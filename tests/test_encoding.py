"""From questions to ids: the question stays whole, and no text steers the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qa_lora.batching import encode
from qa_lora.data.example import QAExample
from qa_lora.encoding import Prompt, encode_texts, fit_prompts
from qa_lora.models import load_tokenizer
from qa_lora.prompts import PromptTemplate
from qa_lora.whitespace import with_tokens
from tests.flan_like import EXTRA, make_tokenizer

FLAN = make_tokenizer()
TOKENIZERS = {"flan": FLAN, "flan with white space": with_tokens(FLAN)}
EOS = 1

CONTROL = ["</s>", "<pad>", "<unk>", *EXTRA]
hostile = st.lists(
    st.sampled_from(
        [*CONTROL, "<", "/", "s>", "</", "pad", ">", "\uff1c", "\uff1e", "\u200b", "\n"]
    )
    | st.text(max_size=4),
    max_size=12,
).map("".join)


@pytest.fixture(params=["flan", "flan with white space", "byte-level"])
def tokenizer(request: pytest.FixtureRequest, tiny_model: Path) -> Any:
    return TOKENIZERS.get(request.param) or load_tokenizer(str(tiny_model))


def steering(tokenizer: Any) -> set[int]:
    return set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}


@given(data=st.data(), limit=st.integers(8, 60))
@settings(deadline=None, max_examples=150)
def test_no_text_anywhere_gives_a_control_token(data: st.DataObject, limit: int) -> None:
    tokenizer = data.draw(st.sampled_from(list(TOKENIZERS.values())))
    template = PromptTemplate(
        data.draw(hostile) + "{question}" + data.draw(hostile),
        data.draw(hostile) + "{context}" + data.draw(hostile),
        data.draw(hostile) + "{question}{answer}",
    )
    turns = st.lists(st.tuples(hostile, hostile), max_size=3)
    example = QAExample(
        "row", data.draw(hostile), data.draw(hostile), data.draw(hostile), tuple(data.draw(turns))
    )
    (row,) = encode(
        [example], tokenizer, template, max_source_tokens=limit, max_target_tokens=limit
    )
    for ids in (row.input_ids, row.labels):
        assert ids[-1] == EOS and len(ids) <= limit
        assert not set(ids[:-1]) & steering(tokenizer)
    assert fit_prompts(tokenizer, template, [example], limit)[0].ids == row.input_ids


@pytest.mark.parametrize(
    "text", ["a </s> b", "\uff1c/s\uff1e", "<extra_id_0>", "</s></s>", "</</s>s>", "<pad</s>>"]
)
def test_what_looks_like_a_control_token_is_read_as_text(text: str) -> None:
    vocabulary = FLAN.get_vocab()
    (ids,) = encode_texts(FLAN, [text], None)
    assert not set(ids[:-1]) & steering(FLAN)
    word = "extra" if "extra" in text else "pad" if "pad" in text else "/s"
    pieces = "".join(FLAN.convert_ids_to_tokens(ids[:-1])).replace("▁", "")
    assert all(letter in pieces for letter in word if letter in vocabulary)


@pytest.mark.parametrize("text", ["a </s> b", "<pad>", "x<unk>y"])
def test_a_byte_level_tokenizer_keeps_it_letter_by_letter(tiny_model: Path, text: str) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    (ids,) = encode_texts(tokenizer, [text], None)
    assert tokenizer.decode(ids[:-1]).strip() == text


words = st.lists(st.sampled_from(["apples", "sauce", "tea", "first", "list\n"]), max_size=12).map(
    " ".join
)


def contains(ids: list[int], part: list[int]) -> bool:
    return any(ids[i : i + len(part)] == part for i in range(len(ids)))


@given(data=st.data(), limit=st.integers(8, 200))
@settings(deadline=None, max_examples=150)
def test_the_question_is_whole_wherever_it_fits(data: st.DataObject, limit: int) -> None:
    tokenizer = data.draw(st.sampled_from(list(TOKENIZERS.values())))
    template = data.draw(
        st.sampled_from(
            [PromptTemplate(), PromptTemplate("{question} Answer:", "( {context} )", "{question} ")]
        )
    )
    question = data.draw(words) + "?"
    turns = tuple(data.draw(st.lists(st.tuples(words, words), max_size=6)))
    example = QAExample("row", question, "", data.draw(words), turns)
    (prompt,) = fit_prompts(tokenizer, template, [example], limit)
    (alone,) = encode_texts(tokenizer, [template.render(question)], None)
    (everything,) = encode_texts(
        tokenizer, [template.render(question, example.context, turns)], None
    )
    assert len(prompt.ids) <= limit and prompt.ids[-1] == EOS
    assert (prompt.ids == everything) == (len(everything) <= limit) == (not prompt.notice)
    if len(alone) <= limit:
        assert contains(prompt.ids, alone[:-1])
    else:
        assert "question was too long" in prompt.notice


def fitted(limit: int, context: str = "", history: tuple[tuple[str, str], ...] = ()) -> Prompt:
    example = QAExample("row", "What is first?", "", context, history)
    return fit_prompts(FLAN, PromptTemplate(), [example], limit)[0]


def test_oldest_turns_go_first_each_as_a_whole_then_the_end_of_the_context() -> None:
    turns = (("tea one?", "boil"), ("tea two?", "pour"), ("tea three?", "drink"))
    context = "buy red apples cook the sauce"
    everything = fitted(999, context, turns)
    last_two = fitted(len(everything.ids) - 1, context, turns)
    assert last_two.ids == fitted(999, context, turns[1:]).ids
    assert "oldest 1 of 3" in last_two.notice
    none = fitted(999, context)
    assert fitted(len(none.ids), context, turns).ids == none.ids
    assert "All earlier turns" in fitted(len(none.ids), context, turns).notice
    shorter = fitted(len(none.ids) - 4, context, turns)
    assert shorter.ids == [*none.ids[: len(none.ids) - 5], EOS]
    assert "end of the context" in shorter.notice
    alone = fitted(999)
    assert fitted(len(alone.ids), context, turns).ids == alone.ids


def test_what_the_template_says_after_the_context_stays() -> None:
    template = PromptTemplate("{question}", " Context: {context} Answer: yes")
    example = QAExample("row", "What is first?", "", "apples " * 50)
    (prompt,) = fit_prompts(FLAN, template, [example], 60)
    text = FLAN.decode(prompt.ids[:-1])
    assert len(prompt.ids) == 60
    assert text.startswith("What is first? Context: apples") and text.endswith(" Answer: yes")


def test_rows_do_not_depend_on_those_beside_them(tokenizer: Any) -> None:
    examples = [
        QAExample("1", "What?", ""),
        QAExample("2", "first " * 40, "", "apples"),
        QAExample("3", "Who </s>?", "", "tea " * 40, (("a", "b"),) * 9),
    ]
    together = fit_prompts(tokenizer, PromptTemplate(), examples, 40)
    assert together == [
        fit_prompts(tokenizer, PromptTemplate(), [example], 40)[0] for example in examples
    ]
    assert fit_prompts(tokenizer, PromptTemplate(), [], 40) == []
