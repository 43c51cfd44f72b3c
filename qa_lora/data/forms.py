"""The form of a table, told by its columns and its first rows; and what a row of it says.

There are two ways to read a row: a question with its answers in columns of their own, which is what
most forms are, or a chat, of which each turn of the assistant is an answer. The names of forms are
for people: they say what was recognised.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from qa_lora.data.columns import (
    PAIRS,
    ColumnMap,
    ColumnsError,
    chat_columns,
    find_columns,
    plain_name,
)
from qa_lora.data.readers import cell_texts

__all__ = [
    "HEAD_ROWS",
    "UNANSWERABLE",
    "Form",
    "Said",
    "UnusableError",
    "read_row",
    "recognise",
    "texts",
]

HEAD_ROWS = 1000
"""Rows that a form is recognised by."""

UNANSWERABLE = "unanswerable"
"""The answer to a question that has none, where it is trained."""

Row = Mapping[str, Any]
History = tuple[tuple[str, str], ...]

_NAMES = {
    ("prompt", "completion"): "prompt and completion",
    ("instruction", "output"): "Alpaca",
    ("instruction", "response"): "Dolly",
    ("humanprompt", "chatgptresponse"): "ChatGPT-prompts",
}
_CHATS = ("messages", "conversations", "conversation", "chat", "dialog", "dialogue", "turns")
_HISTORIES = ("history", "chathistory")
_ROLES = {
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
_TURN_KEYS = (("role", "content"), ("from", "value"))


@dataclass(frozen=True)
class Form:
    """How the rows of a table are to be read."""

    name: str
    """For people: "SQuAD 2.0", "chat messages"."""
    columns: ColumnMap
    unanswerable: Literal["drop", "answer"] | None = None
    """What becomes of a question that has no answer; None where an empty answer is a mistake."""


class Said(NamedTuple):
    """One question with one answer."""

    question: str
    answer: str
    context: str = ""
    history: History = ()
    facts: tuple[str, ...] = ()


class UnusableError(Exception):
    """A row that gives no example; its text is the reason, without numbers or texts of the row."""


def recognise(
    columns: Sequence[str],
    head: Sequence[Row],
    *,
    question: str | None = None,
    answer: str | None = None,
    context: str | None = None,
    answers_from: Literal["all", "human", "chatgpt"] = "all",
    unanswerable: Literal["drop", "answer"] = "drop",
    source: str = "The data",
) -> Form:
    """Tell the form of a table.

    Args:
        columns: Its columns.
        head: Its first rows, about :data:`HEAD_ROWS`.
        question: The column that the user named for questions; one that holds chats is read as
            such.
        answer: The column that the user named for answers.
        context: The column that the user named for passages.
        answers_from: Whose answers to take where there are two columns of them (HC3).
        unanswerable: Drop questions without an answer (SQuAD 2.0), or train the answer
            :data:`UNANSWERABLE`.
        source: What the table is called in messages.

    Raises:
        ColumnsError: If the columns cannot be told; it lists them.
    """
    by_plain = {plain_name(name): name for name in reversed(columns)}
    chat = _chat_column(columns, head, question, answer, source)
    if chat is not None:
        openai = any(_is_chat(row.get(chat), _TURN_KEYS[:1]) for row in head)
        found = chat_columns(columns, chat, context=context, source=source)
        return Form("chat messages" if openai else "ShareGPT", found)

    name, more = None, None
    if not (question or answer):
        human, chatgpt = by_plain.get("humananswers"), by_plain.get("chatgptanswers")
        if "question" in by_plain and human and chatgpt:
            name = "HC3"
            question = by_plain["question"]
            answer = chatgpt if answers_from == "chatgpt" else human
            more = chatgpt if answers_from == "all" else None
        elif _is_eli5(by_plain, head):
            name, question, answer = "ELI5", by_plain["title"], by_plain["answers"]
            context = context or by_plain.get("selftext")
    found = find_columns(columns, question=question, answer=answer, context=context, source=source)
    found = dataclasses.replace(found, more_answers=more, history=_history(by_plain, head))
    impossible = by_plain.get("isimpossible")
    if impossible or any(_has_starts(row.get(found.answer)) for row in head):
        none = any(_is_impossible(row, found.answer, impossible) for row in head)
        return Form(
            "SQuAD 2.0" if none else "SQuAD 1.1",
            dataclasses.replace(found, impossible=impossible),
            unanswerable,
        )
    return Form(name or _name(found, head), found)


def read_row(form: Form, row: Row) -> Iterator[Said]:
    """What a row says: an item for each answer.

    Raises:
        UnusableError: Before the first item, with the reason.
    """
    return iter(_of_chat(form, row) if form.columns.messages else _of_columns(form, row))


def texts(value: Any) -> tuple[str, ...]:
    """The different, non-empty texts of a cell, trimmed, every line break a line feed."""
    if isinstance(value, str):  # nearly every cell there is
        text = value.replace("\r\n", "\n").replace("\r", "\n").strip()
        return (text,) if text else ()
    found = (t.replace("\r\n", "\n").replace("\r", "\n").strip() for t in cell_texts(value))
    return tuple(dict.fromkeys(text for text in found if text))


def _of_columns(form: Form, row: Row) -> list[Said]:
    columns = form.columns
    question = texts(row.get(columns.question))
    if len(question) != 1:
        raise UnusableError("several questions in one cell" if question else "empty question")
    answers = texts(row.get(columns.answer))
    if columns.more_answers:
        answers = tuple(dict.fromkeys((*answers, *texts(row.get(columns.more_answers)))))
    facts = texts(row.get(columns.fact)) if columns.fact else ()
    if form.unanswerable and _is_impossible(row, columns.answer, columns.impossible):
        if form.unanswerable == "drop":
            raise UnusableError("question without an answer")
        answers, facts = (UNANSWERABLE,), ()
    if not answers:
        raise UnusableError("empty answer")
    context = "\n".join(texts(row.get(columns.context))) if columns.context else ""
    history = _pairs(row.get(columns.history)) if columns.history else ()
    if history is None:
        raise UnusableError("earlier turns that are no pairs of question and answer")
    return [Said(question[0], answer, context, history, facts) for answer in answers]


def _of_chat(form: Form, row: Row) -> list[Said]:
    """Each turn of the assistant is an answer, with all turns before it."""
    columns = form.columns
    assert columns.messages is not None
    turns = _as_list(row.get(columns.messages))
    if not turns:
        raise UnusableError("empty chat")
    context = list(texts(row.get(columns.context))) if columns.context else []
    said: list[Said] = []
    history: list[tuple[str, str]] = []
    asked: str | None = None
    for turn in turns:
        role, text = _role_and_text(turn)
        if role == "system":
            if history or asked is not None:
                raise UnusableError("chat with a system message in its middle")
            if text:
                context.append(text)
        elif not text:
            raise UnusableError("chat with an empty turn")
        elif (role == "user") != (asked is None):
            raise UnusableError(
                "chat whose turns do not alternate"
                if history or asked is not None
                else "chat that does not begin with the user"
            )
        elif role == "user":
            asked = text
        else:
            assert asked is not None
            said.append(Said(asked, text, "\n".join(context), tuple(history)))
            history.append((asked, text))
            asked = None
    if not said:
        raise UnusableError("chat without an answer")
    return said


def _role_and_text(turn: Any) -> tuple[str, str]:
    if not isinstance(turn, Mapping):
        raise UnusableError("chat with a turn that is no object")
    for role_key, text_key in _TURN_KEYS:
        if turn.get(role_key) is not None:
            role = _ROLES.get(str(turn[role_key]).strip().casefold())
            if role is None:
                raise UnusableError("chat with a turn by neither user, assistant nor system")
            return role, _turn_text(turn.get(text_key))
    raise UnusableError("chat with a turn that names no role")


def _turn_text(content: Any) -> str:
    parts = content if isinstance(content, list) else [content]
    found = []
    for part in parts:
        if isinstance(part, Mapping):
            if part.get("type", "text") != "text":
                raise UnusableError("chat with a turn that is more than text")
            part = part.get("text")
        if part is not None and not isinstance(part, str):
            raise UnusableError("chat with a turn that is more than text")
        found.append(part or "")
    return "".join(texts("\n".join(found)))


def _chat_column(
    columns: Sequence[str],
    head: Sequence[Row],
    question: str | None,
    answer: str | None,
    source: str,
) -> str | None:
    """The column that holds chats, if the table is to be read by one."""
    chats = [name for name in columns if _mostly(_is_chat, head, name)]
    if answer:
        return None
    if question:
        return next((c for c in chats if plain_name(c) == plain_name(question)), None)
    plain = {plain_name(name) for name in columns if name not in chats}
    if any(q in plain and a in plain for q, a in PAIRS):
        return None
    if len(chats) > 1:
        named = [name for name in chats if plain_name(name) in _CHATS]
        if len(named) != 1:
            raise ColumnsError(
                f"{source} has several columns that hold chats: {', '.join(chats)}.",
                "Name the one to read with --question-column.",
                columns,
            )
        chats = named
    return chats[0] if chats else None


def _is_chat(value: Any, keys: Sequence[tuple[str, str]] = _TURN_KEYS) -> bool:
    first = next(iter(_as_list(value)), None)
    return isinstance(first, Mapping) and any(r in first and t in first for r, t in keys)


def _as_list(value: Any) -> list[Any]:
    """A cell's list; in a file without lists, such as CSV, it may be written as JSON."""
    if isinstance(value, str) and value.lstrip()[:2] in ("[{", "[ ", "[\n"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return []
    return value if isinstance(value, list) else []


def _history(by_plain: Mapping[str, str], head: Sequence[Row]) -> str | None:
    name = _first(by_plain, _HISTORIES)
    return name if name and _mostly(lambda value: bool(_pairs(value)), head, name) else None


def _pairs(value: Any) -> History | None:
    """Pairs of question and answer; None if the value holds something else."""
    if value is None or value == "":
        return ()
    found = []
    for pair in _as_list(value) or [None]:
        if isinstance(pair, Mapping) and {"question", "answer"} <= pair.keys():
            pair = (pair["question"], pair["answer"])
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            return () if value == [] else None
        if not all(isinstance(text, str) for text in pair):
            return None
        found.append(("".join(texts(pair[0])), "".join(texts(pair[1]))))
    return tuple(found)


def _is_eli5(by_plain: Mapping[str, str], head: Sequence[Row]) -> bool:
    def is_scored(value: Any) -> bool:
        return isinstance(value, Mapping) and {"text", "score"} <= value.keys()

    answers = by_plain.get("answers")
    named = answers is not None and "title" in by_plain and "question" not in by_plain
    return named and _mostly(is_scored, head, str(answers))


def _has_starts(value: Any) -> bool:
    """Whether a cell is an answer of SQuAD: with the place where it starts in the passage."""
    items = value if isinstance(value, list) else [value]
    return any(isinstance(item, Mapping) and "answer_start" in item for item in items)


def _is_impossible(row: Row, answer: str, impossible: str | None) -> bool:
    said = str(row.get(impossible)).strip().casefold() if impossible else ""
    return said in ("true", "1", "1.0", "yes") or not texts(row.get(answer))


def _name(columns: ColumnMap, head: Sequence[Row]) -> str:
    pair = plain_name(columns.question), plain_name(columns.answer)
    lists = _mostly(lambda value: isinstance(value, list), head, columns.answer)
    if pair == ("question", "answer") and not columns.context and lists:
        return "Natural Questions open"
    return _NAMES.get(pair, "question and answer")


def _mostly(fits: Callable[[Any], bool], head: Sequence[Row], column: str) -> bool:
    """Whether most of the cells that are not empty fit."""
    cells = [value for row in head if (value := row.get(column)) not in (None, "", [])]
    return bool(cells) and 2 * sum(map(fits, cells)) > len(cells)


def _first(by_plain: Mapping[str, str], names: Sequence[str]) -> str | None:
    return next((by_plain[name] for name in names if name in by_plain), None)
