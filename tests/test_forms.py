"""Every form is recognised from a file as it comes, and gives the examples it should."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qa_lora.config import TrainConfig
from qa_lora.data import ColumnsError, LoadedData, load, load_and_split
from qa_lora.data.example import QAExample
from qa_lora.errors import DataError


def json_lines(folder: Path, *rows: Any, name: str = "rows.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def said(data: LoadedData) -> list[tuple[str, str, str]]:
    return [(e.question, e.answer, e.context) for e in data.examples]


def roles(data: LoadedData) -> dict[str, str]:
    return {role: name for role, name in vars(data.columns).items() if name}


def drops(data: LoadedData) -> list[tuple[int, str]]:
    return [(drop.row, drop.reason) for drop in data.dropped]


def test_alpaca(tmp_path: Path) -> None:
    path = json_lines(
        tmp_path,
        {"instruction": "Sort these.", "input": "pear, fig", "output": "fig, pear"},
        {"instruction": "Say hello.", "input": "", "output": "Hello!"},
    )
    data = load(path)
    assert data.form == "Alpaca"
    assert roles(data) == {"question": "instruction", "answer": "output", "context": "input"}
    assert said(data) == [
        ("Sort these.", "fig, pear", "pear, fig"),
        ("Say hello.", "Hello!", ""),
    ]


@pytest.mark.parametrize(
    ("row", "form"),
    [
        ({"prompt": "Why?", "completion": "So.", "passage": "p"}, "prompt and completion"),
        (
            {"instruction": "Why?", "context": "p", "response": "So.", "category": "qa"},
            "Dolly",
        ),
        (
            {"human_prompt": "Why?", "chatgpt_response": "So.", "context": "p"},
            "ChatGPT-prompts",
        ),
        ({"Question ": "Why?", "ANSWER": "So.", "Document": "p"}, "question and answer"),
        ({"query": "Why?", "answer": "So.", "context": "p"}, "question and answer"),
    ],
)
def test_two_columns_and_a_passage(tmp_path: Path, row: dict[str, str], form: str) -> None:
    data = load(json_lines(tmp_path, row))
    assert data.form == form
    assert said(data) == [("Why?", "So.", "p")]


SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "Lamps",
            "paragraphs": [
                {
                    "context": "The red lamp hangs over the door.",
                    "qas": [
                        {
                            "id": "a1",
                            "question": "Which lamp hangs there?",
                            "answers": [
                                {"text": "The red lamp", "answer_start": 0},
                                {"text": "red", "answer_start": 4},
                                {"text": "red", "answer_start": 4},
                            ],
                            "is_impossible": False,
                        },
                        {
                            "id": "a2",
                            "question": "Who lit it?",
                            "answers": [],
                            "plausible_answers": [{"text": "door", "answer_start": 28}],
                            "is_impossible": True,
                        },
                    ],
                }
            ],
        }
    ],
}


def test_squad_2_and_what_becomes_of_questions_without_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "dev-v2.0.json"
    path.write_text(json.dumps(SQUAD), "utf-8")
    data = load(str(path))
    passage = "The red lamp hangs over the door."
    assert data.form == "SQuAD 2.0"
    assert said(data) == [
        ("Which lamp hangs there?", "The red lamp", passage),
        ("Which lamp hangs there?", "red", passage),
    ]
    assert [e.id for e in data.examples] == ["a1", "a1#2"]
    assert drops(data) == [(2, "question without an answer")]

    kept = load(str(path), unanswerable="answer")
    assert said(kept)[2:] == [("Who lit it?", "unanswerable", passage)]
    assert not kept.dropped


def test_squad_as_flat_rows(tmp_path: Path) -> None:
    row = {
        "id": "1",
        "title": "Lamps",
        "context": "The lamp is red.",
        "question": "What colour is it?",
        "answers": {"text": ["red", "red"], "answer_start": [12, 12]},
    }
    data = load(json_lines(tmp_path, row))
    assert data.form == "SQuAD 1.1"
    assert said(data) == [("What colour is it?", "red", "The lamp is red.")]
    # the Hub's SQuAD 2.0 has no column that says it
    none = {**row, "id": "2", "answers": {"text": [], "answer_start": []}}
    assert load(json_lines(tmp_path, row, none)).form == "SQuAD 2.0"
    listed = {**row, "answers": [{"text": "red", "answer_start": 12}]}
    assert load(json_lines(tmp_path, listed)).form == "SQuAD 1.1"


def test_an_empty_answer_elsewhere_is_a_mistake_and_never_trained(tmp_path: Path) -> None:
    path = json_lines(tmp_path, {"question": "a", "answer": ""}, {"question": "b", "answer": "c"})
    data = load(path, unanswerable="answer")
    assert said(data) == [("b", "c", "")]
    assert drops(data) == [(1, "empty answer")]


def test_hc3_and_whose_answers(tmp_path: Path) -> None:
    path = json_lines(
        tmp_path,
        {
            "question": "Why is tea hot?",
            "human_answers": ["Boiled water.", "Because."],
            "chatgpt_answers": ["Tea is made with boiling water.", "Because."],
            "source": "open_qa",
        },
        {"question": "Why not?", "human_answers": ["No idea."], "chatgpt_answers": []},
    )
    data = load(path)
    assert data.form == "HC3"
    assert roles(data) == {
        "question": "question",
        "answer": "human_answers",
        "more_answers": "chatgpt_answers",
    }
    answers = ["Boiled water.", "Because.", "Tea is made with boiling water.", "No idea."]
    assert [e.answer for e in data.examples] == answers

    human = load(path, answers_from="human")
    assert [e.answer for e in human.examples] == ["Boiled water.", "Because.", "No idea."]
    chatgpt = load(path, answers_from="chatgpt")
    assert [e.answer for e in chatgpt.examples] == ["Tea is made with boiling water.", "Because."]
    assert drops(chatgpt) == [(2, "empty answer")]


def test_natural_questions_open(tmp_path: Path) -> None:
    data = load(json_lines(tmp_path, {"question": "who made it", "answer": ["Ann", "Ann Li"]}))
    assert data.form == "Natural Questions open"
    assert [e.answer for e in data.examples] == ["Ann", "Ann Li"]


def test_eli5(tmp_path: Path) -> None:
    row = {
        "q_id": "x1",
        "title": "Why do cats purr?",
        "selftext": "Mine does it at night.",
        "document": "",
        "subreddit": "explainlikeimfive",
        "answers": {
            "a_id": ["k", "l"],
            "text": ["To calm down.", "Nobody knows."],
            "score": [7, 2],
        },
    }
    data = load(json_lines(tmp_path, row))
    assert data.form == "ELI5"
    assert said(data) == [
        ("Why do cats purr?", "To calm down.", "Mine does it at night."),
        ("Why do cats purr?", "Nobody knows.", "Mine does it at night."),
    ]
    assert data.examples[0].id == "x1"


def chat(*turns: str, system: str = "", keys: tuple[str, str] = ("role", "content")) -> list[Any]:
    roles = ("user", "assistant") if keys[0] == "role" else ("human", "gpt")
    out = [{keys[0]: "system", keys[1]: system}] if system else []
    return out + [{keys[0]: roles[i % 2], keys[1]: turn} for i, turn in enumerate(turns)]


@pytest.mark.parametrize("keys", [("role", "content"), ("from", "value")])
def test_each_turn_of_the_assistant_is_an_example(tmp_path: Path, keys: tuple[str, str]) -> None:
    column = "messages" if keys[0] == "role" else "conversations"
    turns = chat("Hi", "Hello.", "Who are you?", "A lamp.", "Bye", system="Be short.", keys=keys)
    data = load(json_lines(tmp_path, {"id": "c", column: turns}))
    assert data.form == ("chat messages" if keys[0] == "role" else "ShareGPT")
    assert roles(data) == {"messages": column, "id": "id"}
    assert list(data.examples) == [
        QAExample("c", "Hi", "Hello.", "Be short."),
        QAExample("c#2", "Who are you?", "A lamp.", "Be short.", (("Hi", "Hello."),)),
    ]


def test_parts_of_a_turn_are_joined(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "One"}, {"type": "text", "text": "two?"}]
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": "Three."}]
    assert said(load(json_lines(tmp_path, {"messages": turns}))) == [("One\ntwo?", "Three.", "")]


def test_a_chat_that_is_not_in_order_is_left_out_with_the_reason(tmp_path: Path) -> None:
    image = [{"type": "image_url", "image_url": {"url": "x"}}]
    user, assistant = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    broken = {
        "chat that does not begin with the user": [assistant, user, assistant],
        "chat whose turns do not alternate": [user, user, assistant],
        "chat with an empty turn": [user, {"role": "assistant", "content": None}],
        "chat with a turn by neither user, assistant nor system": [
            user,
            {"role": "tool", "content": "3"},
            assistant,
        ],
        "chat with a turn that is more than text": [{"role": "user", "content": image}, assistant],
        "chat with a system message in its middle": [
            user,
            assistant,
            {"role": "system", "content": "Now rhyme."},
            user,
            assistant,
        ],
        "chat without an answer": [user],
        "chat with a turn that names no role": [{"content": "a"}, assistant],
        "chat with a turn that is no object": ["a", "b"],
        "empty chat": [],
    }
    good = [chat(f"q{n}", "b") for n in range(12)]
    rows = [{"messages": turns} for turns in [*good, *broken.values()]]
    data = load(json_lines(tmp_path, *rows))
    assert len(data.examples) == 12
    assert drops(data) == [(13 + n, reason) for n, reason in enumerate(broken)]


def test_all_turns_of_a_chat_stand_on_one_side(tmp_path: Path) -> None:
    rows = [
        {"messages": chat(f"Start {n}?", f"a{n}", "And then?", f"b{n}", f"Really {n}?", "Yes.")}
        for n in range(40)
    ]
    config = TrainConfig(data=json_lines(tmp_path, *rows), validation_fraction=0.2)
    _, split = load_and_split(config)
    sides = [
        {example.history[0][0] if example.history else example.question for example in side}
        for side in (split.train, split.validation, split.test)
    ]
    assert sum(map(len, sides)) == len(set().union(*sides)) == 40
    assert len(split.train) + len(split.validation) + len(split.test) == 120


def test_chats_written_into_a_csv_file(tmp_path: Path) -> None:
    path = tmp_path / "chats.csv"
    cell = json.dumps(chat("Hi", "Hello.")).replace('"', '""')
    path.write_text(f'messages,system\n"{cell}",Be kind.\n', "utf-8")
    assert said(load(str(path))) == [("Hi", "Hello.", "Be kind.")]


def test_several_columns_of_chats_are_for_the_user_to_tell_apart(tmp_path: Path) -> None:
    path = json_lines(tmp_path, {"chosen": chat("a", "good"), "rejected": chat("a", "bad")})
    with pytest.raises(ColumnsError, match=r"rows.jsonl has several .*: chosen, rejected\."):
        load(path)
    assert said(load(path, question_column="Chosen")) == [("a", "good", "")]


def test_columns_that_the_user_names_win_over_the_form(tmp_path: Path) -> None:
    row = {
        "messages": chat("a", "b"),
        "question": "q",
        "human_answers": ["h"],
        "chatgpt_answers": ["c"],
        "notes": "n",
    }
    data = load(json_lines(tmp_path, row), question_column="notes", answer_column="question")
    assert said(data) == [("n", "q", "")]
    assert data.form == "question and answer"


def test_earlier_turns_in_a_column(tmp_path: Path) -> None:
    path = json_lines(
        tmp_path,
        {"instruction": "And?", "output": "b", "history": [["Who?", " me\r\n"], ["Why?", "so"]]},
        {"instruction": "Now?", "output": "c", "history": [{"question": "q", "answer": "a"}]},
        {"instruction": "Odd?", "output": "d", "history": ["x"]},
        {"instruction": "Last?", "output": "e", "history": None},
    )
    data = load(path)
    assert [e.history for e in data.examples] == [
        (("Who?", "me"), ("Why?", "so")),
        (("q", "a"),),
        (),
    ]
    assert drops(data) == [(3, "earlier turns that are no pairs of question and answer")]


def test_what_has_no_form_is_refused_with_its_columns(tmp_path: Path) -> None:
    path = json_lines(tmp_path, {"messages": ["a", "b"], "label": 1})
    with pytest.raises(DataError, match="its columns are messages, label"):
        load(path)
