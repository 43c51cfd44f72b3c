"""Columns are found by name, in any spelling, or named by the user."""

import pytest

from qa_lora.data.columns import ColumnMap, ColumnsError, find_columns


@pytest.mark.parametrize(
    ("names", "question", "answer", "context"),
    [
        (["Prompt", "Completion"], "Prompt", "Completion", None),
        (["id", "question", "answer"], "question", "answer", None),
        (["QUESTION ", "the answer", "Answer"], "QUESTION ", "Answer", None),
        (["instruction", "input", "output"], "instruction", "output", "input"),
        (["instruction", "context", "response", "category"], "instruction", "response", "context"),
        (["input", "output"], "input", "output", None),
        (["human_prompt", "chatgpt_response"], "human_prompt", "chatgpt_response", None),
        (["Human Prompt", "ChatGPT-Response"], "Human Prompt", "ChatGPT-Response", None),
        (["title", "context", "question", "answers"], "question", "answers", "context"),
        # the pair that belongs together wins over the first name of each kind
        (["answer", "completion", "prompt", "passage"], "prompt", "completion", "passage"),
        (["response", "question", "answer"], "question", "answer", None),
        (["query", "reply"], "query", "reply", None),
    ],
)
def test_finds(names, question, answer, context):
    found = find_columns(names)
    assert (found.question, found.answer, found.context) == (question, answer, context)
    reversed_names = find_columns(names[::-1])
    assert reversed_names == found  # the order of the columns means nothing


def test_finds_the_other_roles():
    names = ["ID", "entity", "Split", "facts", "question", "answer"]
    assert find_columns(names) == ColumnMap(
        "question", "answer", fact="facts", split="Split", id="ID"
    )


def test_named_columns_win():
    names = ["question", "answer", "rewritten", "notes"]
    assert find_columns(names, question="Rewritten").question == "rewritten"
    assert find_columns(names, answer="notes").answer == "notes"
    assert find_columns(names, context="notes").context == "notes"


def test_one_named_column_does_not_lend_itself_to_another_role():
    found = find_columns(["input", "output", "response"], answer="input", question="response")
    assert (found.question, found.answer) == ("response", "input")
    with pytest.raises(ColumnsError, match="known to hold the answer"):
        find_columns(["text", "answer"], question="answer")


def test_a_column_of_that_very_name_beats_one_of_its_spelling():
    assert find_columns(["Answer", "answer", "question"], answer="Answer").answer == "Answer"


@pytest.mark.parametrize(
    ("names", "asked", "sentence"),
    [
        (["text", "label"], {}, "no column that is known to hold the question and answer"),
        (["text", "answer"], {}, "no column that is known to hold the question"),
        (["question", "answer"], {"answer": "reply"}, "no column 'reply' for the answer"),
        (["Answer", "answer", "question"], {}, "has the columns Answer, answer"),
        (
            ["question", "x"],
            {"question": "question", "answer": "Question"},
            "cannot both be column 'question'",
        ),
    ],
)
def test_refuses_and_lists_the_columns(names, asked, sentence):
    with pytest.raises(ColumnsError) as caught:
        find_columns(names, source="my.csv", **asked)
    assert sentence in caught.value.message
    assert "my.csv" in caught.value.message
    assert caught.value.columns == names
    assert "--question-column" in caught.value.hint


def test_a_text_mistaken_for_a_header_is_shortened():
    with pytest.raises(ColumnsError) as caught:
        find_columns(["word " * 100] + [f"c{n}" for n in range(50)])
    assert len(str(caught.value)) < 500
    assert "39 more" in caught.value.message
