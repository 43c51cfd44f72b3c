"""From text to batches: nothing lost, nothing twice, no text that steers the model."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qa_lora.batching import (
    BUCKET_BATCHES,
    IGNORED,
    EncodedExample,
    collate,
    encode,
    epoch_batches,
    token_counter,
)
from qa_lora.data.example import QAExample
from qa_lora.encoding import encode_texts, fit_prompts
from qa_lora.models import load_tokenizer
from qa_lora.prompts import PromptTemplate

EOS = 1


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return load_tokenizer(str(tiny_model))


def encoded(
    tokenizer: Any, *pairs: tuple[str, str], source: int = 64, target: int = 64
) -> list[EncodedExample]:
    rows = [QAExample("row", question, answer) for question, answer in pairs]
    template = PromptTemplate()
    return encode(rows, tokenizer, template, max_source_tokens=source, max_target_tokens=target)


lengths = st.lists(st.integers(min_value=1, max_value=500), max_size=400)
sizes = st.integers(min_value=1, max_value=40)


@given(lengths=lengths, batch_size=sizes, seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_an_epoch_gives_every_row_once(
    lengths: Sequence[int], batch_size: int, seed: int, epoch: int
) -> None:
    batches = list(epoch_batches(lengths, batch_size, seed=seed, epoch=epoch))
    assert sorted(chain(*batches)) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // batch_size)
    assert sum(len(batch) != batch_size for batch in batches) <= 1
    random.seed(batch_size)
    torch.manual_seed(batch_size)
    again = list(epoch_batches(tuple(lengths), batch_size, seed=seed, epoch=epoch))
    assert again == batches


def test_an_epoch_neither_asks_nor_moves_the_common_random_numbers() -> None:
    random.seed(3)
    before = random.getstate()
    list(epoch_batches(range(100), 8, seed=1, epoch=0))
    assert random.getstate() == before


def test_epochs_and_seeds_differ_and_their_order_is_fixed_for_good() -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        return list(epoch_batches([5, 1, 4, 1, 5, 9, 2, 6, 5, 3], 3, seed=seed, epoch=epoch))

    distinct = [order(42, 0), order(42, 1), order(43, 0), order(4, 20)]
    assert all(a != b for i, a in enumerate(distinct) for b in distinct[:i])
    # A run that was begun by an earlier version goes on with the same rows.
    assert order(42, 0) == [[9, 2, 0], [5], [3, 1, 6], [8, 4, 7]]


def test_rows_of_a_batch_are_of_like_length() -> None:
    generator = random.Random(0)
    lengths = [generator.randint(1, 500) for _ in range(8 * BUCKET_BATCHES)]
    batches = list(epoch_batches(lengths, 8, seed=0, epoch=0))
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    assert padded < 1.05 * sum(lengths)
    longest = [max(lengths[i] for i in batch) for batch in batches]
    assert longest != sorted(longest)  # yet the batches themselves come mixed


rows = st.lists(
    st.builds(
        EncodedExample,
        input_ids=st.lists(st.integers(2, 280), min_size=1, max_size=12),
        labels=st.lists(st.integers(2, 280), min_size=1, max_size=12),
    ),
    min_size=1,
    max_size=6,
)


@given(rows, st.sampled_from([0, 7]))
@settings(deadline=None, max_examples=60)
def test_a_batch_holds_its_rows_and_marks_all_else_as_padding(
    rows: list[EncodedExample], pad_id: int
) -> None:
    batch = collate(rows, pad_id)
    assert batch.input_ids.shape == (len(rows), max(len(row.input_ids) for row in rows))
    assert batch.input_ids.dtype == batch.labels.dtype == batch.attention_mask.dtype == torch.long
    for i, row in enumerate(rows):
        real = len(row.input_ids)
        assert batch.input_ids[i, :real].tolist() == row.input_ids
        assert set(batch.input_ids[i, real:].tolist()) <= {pad_id}
        assert batch.attention_mask[i].tolist() == [1] * real + [0] * (
            len(batch.input_ids[i]) - real
        )
        labels = batch.labels[i].tolist()
        assert labels == row.labels + [IGNORED] * (len(labels) - len(row.labels))
    assert int(batch.attention_mask.sum() + (batch.labels != IGNORED).sum()) == sum(
        row.tokens for row in rows
    )


def test_the_answer_goes_into_the_labels_and_nowhere_else(tokenizer: Any) -> None:
    (row,) = encoded(tokenizer, ("What is it?", "It is a zebra.\nReally."))
    assert tokenizer.decode(row.input_ids).strip() == "Answer this question: What is it?</s>"
    assert tokenizer.decode(row.labels).strip() == "It is a zebra.\nReally.</s>"


def test_training_and_answering_make_the_same_prompt(tokenizer: Any) -> None:
    example = QAExample("row", "And {it}?", "Yes.", "A </s> b.", (("Who?", "Ada."),))
    template = PromptTemplate()
    (row,) = encode([example], tokenizer, template, max_source_tokens=128, max_target_tokens=8)
    prompt = template.render(example.question, example.context, example.history)
    assert encode_texts(tokenizer, [prompt], 128) == [row.input_ids]
    assert fit_prompts(tokenizer, template, [example], 128)[0].ids == row.input_ids


@pytest.mark.parametrize(
    "text",
    [
        "before </s> after",
        "</s>",
        "</s></s>x",
        "<</s>/s>",
        "</<pad>s>",
        "<pad><unk></s>",
        "<un</s>k>",
        "<<<</s>/s>/s>/s> after",
    ],
)
def test_a_control_token_in_a_text_controls_nothing(tokenizer: Any, text: str) -> None:
    (row,) = encoded(tokenizer, (text, text))
    for ids in (row.input_ids, row.labels, *encode_texts(tokenizer, [text], 64)):
        assert ids[-1] == EOS
        assert not set(ids[:-1]) & set(tokenizer.all_special_ids)
    assert tokenizer.decode(row.labels[:-1]).strip() == text


def test_what_only_looks_like_a_control_token_stays(tokenizer: Any) -> None:
    text = "if a </ s> b: <s> < /s> </S> &lt;/s&gt; < pad >"
    (row,) = encoded(tokenizer, ("q", text))
    assert tokenizer.decode(row.labels[:-1]).strip() == text


@given(
    st.lists(
        st.sampled_from(["</s>", "<pad>", "<unk>", "<", "/", "s>", "</", "pad", ">"])
        | st.text(max_size=4),
        max_size=12,
    ).map("".join)
)
@settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_only_the_end_of_any_text_is_a_control_token(tokenizer: Any, text: str) -> None:
    (ids,) = encode_texts(tokenizer, [text], 512)
    assert ids[-1] == EOS and not set(ids[:-1]) & set(tokenizer.all_special_ids)


@pytest.mark.parametrize("limit", [8, 9, 20])
def test_a_long_text_is_cut_and_keeps_its_end(tokenizer: Any, limit: int) -> None:
    (row,) = encoded(tokenizer, ("long " * 50, "words " * 50), source=limit, target=limit)
    (whole,) = encoded(tokenizer, ("long " * 50, "words " * 50), source=999, target=999)
    for ids, full in ((row.input_ids, whole.input_ids), (row.labels, whole.labels)):
        assert len(ids) == limit and ids == [*full[: limit - 1], EOS]


def test_an_empty_answer_is_learnt_as_its_end(tokenizer: Any) -> None:
    (row,) = encoded(tokenizer, ("q", ""))
    assert row.labels == [EOS]
    assert encoded(tokenizer) == []


def test_a_row_does_not_depend_on_those_beside_it(tokenizer: Any) -> None:
    pairs = [("short", "a"), ("much longer question " * 3, "b " * 20), ("", "c")]
    together = encoded(tokenizer, *pairs)
    assert together == [row for pair in pairs for row in encoded(tokenizer, pair)]


def test_tokens_are_counted_as_training_counts_them(tiny_model: Path, tokenizer: Any) -> None:
    count = token_counter(str(tiny_model))
    texts = ["", "What colour is the sky?", "é\n\u2028"]
    assert count(texts) == [len(ids) for ids in encode_texts(tokenizer, texts, 999)]
    assert count([]) == []
