"""Examples on disk behave as a tuple of them, and training on them is the same."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qa_lora.batching import EncodedExample
from qa_lora.data import QAExample
from qa_lora.data.store import CHUNK, StoredExamples, collect, pick, read_many, text_lengths
from qa_lora.training_rows import BATCHES_AHEAD, TrainingRows

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
examples = st.builds(
    QAExample,
    id=texts,
    question=texts,
    answer=texts,
    context=texts,
    history=st.lists(st.tuples(texts, texts), max_size=2).map(tuple),
    facts=st.lists(texts, max_size=2).map(tuple),
)


@given(rows=st.lists(examples, min_size=1, max_size=25), data=st.data())
@settings(deadline=None, max_examples=15)
def test_stored_examples_are_what_was_stored(rows: list[QAExample], data: Any) -> None:
    stored = collect(iter(rows), in_memory=0)
    assert isinstance(stored, StoredExamples)
    assert len(stored) == len(rows)
    assert list(stored) == rows
    assert stored[-1] == rows[-1]
    assert list(stored[1:7:2]) == rows[1:7:2]
    numbers = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=30))
    assert read_many(stored, numbers) == [rows[i] for i in numbers]
    picked = pick(stored, numbers)
    assert isinstance(picked, StoredExamples)
    assert list(picked) == [rows[i] for i in numbers]
    if numbers:
        # JSON's quotes and brackets count where there are earlier turns; it is only an order.
        plain = [i for i in range(len(rows)) if not rows[i].history]
        lengths = text_lengths(stored)
        assert [lengths[i] for i in plain] == list(text_lengths([rows[i] for i in plain]))


def test_few_examples_stay_as_they_are() -> None:
    rows = [QAExample(str(i), f"Question {i}?", "Yes.") for i in range(5)]
    assert collect(iter(rows), in_memory=5) == tuple(rows)
    assert isinstance(collect(iter(rows), in_memory=4), StoredExamples)
    assert pick(tuple(rows), [3, 1]) == (rows[3], rows[1])


def test_a_file_has_no_more_chunks_than_it_needs() -> None:
    rows = (QAExample(str(i), f"Question {i}?", "Yes.") for i in range(2 * CHUNK + 5))
    stored = collect(rows, in_memory=3)
    assert isinstance(stored, StoredExamples)
    assert [len(batch) for batch in stored._rows.data.table.to_batches()] == [CHUNK, CHUNK, 5]


def test_an_index_out_of_range_ends_an_old_style_loop() -> None:
    stored = collect([QAExample("a", "Why?", "So.")], in_memory=0)
    with pytest.raises(IndexError):
        stored[1]


def encode(rows: Sequence[QAExample]) -> list[EncodedExample]:
    return [EncodedExample([int(row.id)], [len(row.answer)]) for row in rows]


def test_rows_that_are_tokenised_late_are_the_same() -> None:
    rows = [QAExample(str(i), "Why?", "So." * i) for i in range(50)]
    early = TrainingRows(rows, encode)
    calls: list[int] = []

    def counted(some: Sequence[QAExample]) -> list[EncodedExample]:
        calls.append(len(some))
        return encode(some)

    late = TrainingRows(collect(rows, in_memory=10), counted, in_memory=10)
    assert calls == []
    assert late.many([7, 3]) == early.many([7, 3])
    assert sorted(range(50), key=late.lengths.__getitem__) == list(range(50))
    batches = [[i % 50, 49 - i % 50] for i in range(5 * BATCHES_AHEAD)]
    calls.clear()
    assert list(late.batches(batches)) == list(early.batches(batches))
    assert calls == [2 * BATCHES_AHEAD] * 5


def test_an_endless_order_is_tokenised_as_far_as_it_is_used() -> None:
    done: list[int] = []

    def counted(some: Sequence[QAExample]) -> list[EncodedExample]:
        done.append(len(some))
        return encode(some)

    rows = TrainingRows([QAExample("1", "Why?", "So.")] * 3, counted, in_memory=0)
    stream = rows.batches([i % 3] for i in range(10**9))
    assert len(list(islice(stream, 3))) == 3
    stream.close()
    assert sum(done) <= 2 * BATCHES_AHEAD


def test_an_error_in_the_thread_reaches_the_loop() -> None:
    def broken(some: Sequence[QAExample]) -> list[EncodedExample]:
        raise MemoryError("no room")

    rows = TrainingRows([QAExample("1", "Why?", "So.")], broken, in_memory=0)
    with pytest.raises(MemoryError, match="no room"):
        next(rows.batches([[0]]))
