"""Text of people and models is escaped wherever the page shows it."""

from __future__ import annotations

import re
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

words = pytest.importorskip("qa_lora.ui.words")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
BAD = "<img src=x onerror=alert(1)>\"'&"


def plain(html: str) -> str:
    return unescape(re.sub(r"</?mark[^>]*>", "", html))


@given(TEXT, TEXT)
def test_marking_changes_no_text_and_lets_no_html_through(base: str, tuned: str) -> None:
    left, right = words.marked(base, tuned)
    assert (plain(left), plain(right)) == (base, tuned)
    assert not re.search(r"<(?!/?mark\b)", left + right)


def test_only_what_differs_is_marked() -> None:
    left, right = words.marked("Lima", "The capital of Peru is Lima.")
    assert "mark" not in left
    assert right.startswith('<mark class="in-tuned">The capital of Peru is</mark> Lima')


def test_texts_of_few_words_that_repeat_are_marked_without_counting_all_ways() -> None:
    ones = "1 " * 2000
    left, right = words.marked(ones + "end", ones + "2 end")
    assert "mark" not in left and right.endswith('1 <mark class="in-tuned">2</mark> end')
    left, right = words.marked("a, " * 1500, "x " + "a, " * 1500 + "y")
    assert plain(right) == "x " + "a, " * 1500 + "y" and right.count("<mark") == 1
    assert words.marked("<" * 20_001, "b") == ("&lt;" * 20_001, "b")
    # A long text of many words is compared word by word all the same.
    many = [f"w{i}" for i in range(500)]
    left, right = words.marked(" ".join(many), " ".join([*many[:100], "new", *many[100:]]))
    assert "mark" not in left and '<mark class="in-tuned">new</mark>' in right.replace(" <", "<")


def test_a_note_escapes_its_message_and_an_empty_one_is_nothing() -> None:
    assert "<img" not in words.note(BAD, "bad") and 'role="alert"' in words.note(BAD, "bad")
    assert words.note("") == ""


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (31.4, "0:31"), (725, "12:05"), (11045, "3:04:05")]
)
def test_durations(seconds: float, shown: str) -> None:
    assert words.duration(seconds) == shown


@pytest.mark.parametrize("text", ["=1+1", "+1", "-2", "@sum", "\t=1", "  =1", "\r=1", "\n=1"])
def test_cells_that_a_spreadsheet_would_run_are_neutral(text: str) -> None:
    from qa_lora.formulas import neutralise

    assert neutralise(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "plain", "1-2", "a=b", "it's"])
def test_other_cells_stay_as_they_are(text: str) -> None:
    from qa_lora.formulas import neutralise

    assert neutralise(text) == text
