"""Which column holds what: found by its name, or named by the user."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from qa_lora.errors import DataError

__all__ = ["PAIRS", "ColumnMap", "ColumnsError", "chat_columns", "find_columns", "plain_name"]

# Names as `plain_name` leaves them. Pairs come first, most telling first: a table with the columns
# instruction, input and output has its question in instruction, and one with only input and output
# has it in input.
PAIRS = (
    ("question", "answer"),
    ("question", "answers"),
    ("prompt", "completion"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("humanprompt", "chatgptresponse"),
    ("prompt", "response"),
    ("query", "response"),
    ("query", "answer"),
    ("user", "assistant"),
    ("input", "output"),
    ("q", "a"),
)
_QUESTIONS = (
    *("question", "questiontext", "prompt", "instruction", "humanprompt", "query", "user"),
    *("input", "inputtext", "source", "human", "q"),
)
_ANSWERS = (
    *("answer", "answers", "answertext", "completion", "response", "output", "reply"),
    *("chatgptresponse", "assistant", "target", "targettext", "outputtext", "gpt", "a"),
)
_CONTEXTS = ("context", "contexts", "passage", "paragraph", "document", "background", "article")
_SYSTEMS = ("system", "systemprompt")
_FACTS = ("fact", "facts")
_SPLITS = ("split",)
_IDS = ("id", "qid", "questionid", "rowid", "uid")


@dataclass(frozen=True)
class ColumnMap:
    """The columns a table is read from, by their own names."""

    question: str
    """Empty where questions and answers are turns in `messages`."""
    answer: str
    more_answers: str | None = None
    """A second column of answers, as HC3 has one for people and one for ChatGPT."""
    context: str | None = None
    history: str | None = None
    """Earlier turns, as pairs of question and answer."""
    messages: str | None = None
    """Whole chats: a list of turns, each with its role and its text."""
    impossible: str | None = None
    """Says which questions have no answer, as in SQuAD 2.0."""
    fact: str | None = None
    split: str | None = None
    id: str | None = None


class ColumnsError(DataError):
    """The question or the answer column is not to be told; the user must name it.

    Attributes:
        columns: The columns there are, for a form that offers them.
    """

    def __init__(self, message: str, hint: str, columns: Sequence[str]) -> None:
        super().__init__(message, hint)
        self.columns = list(columns)


def find_columns(
    names: Sequence[str],
    *,
    question: str | None = None,
    answer: str | None = None,
    context: str | None = None,
    source: str = "The data",
) -> ColumnMap:
    """Find the columns by name; case, spaces, underscores and hyphens do not count.

    Args:
        names: The table's columns.
        question: The question's column, if the user named it.
        answer: The answer's, if the user named it.
        context: The passage's, if the user named it.
        source: What the table is called in messages.

    Raises:
        ColumnsError: If a named column is not there, or none or several could be meant.
    """
    found = _Finder(names, source)
    asked = {
        "question": found.named(question, "question"),
        "answer": found.named(answer, "answer"),
        "context": found.named(context, "context"),
    }
    q, a = asked["question"], asked["answer"]
    for question_name, answer_name in PAIRS:
        q_pair = q or found.one(question_name)
        a_pair = a or found.one(answer_name)
        fits = (q is None or plain_name(q) == question_name) and (
            a is None or plain_name(a) == answer_name
        )
        if fits and q_pair and a_pair and not (q and a):
            q, a = q_pair, a_pair
            break
    q = q or found.first(_QUESTIONS, but=(a, asked["context"]))
    a = a or found.first(_ANSWERS, but=(q, asked["context"]))
    if q is None or a is None:
        missing = " and ".join(
            role for role, column in (("question", q), ("answer", a)) if column is None
        )
        raise found.error(f"{source} has no column that is known to hold the {missing}")
    if q == a:
        raise found.error(f"{source}: the question and the answer cannot both be column {q!r}")
    taken = (q, a)
    contexts = (*_CONTEXTS, "input") if plain_name(q) == "instruction" else _CONTEXTS
    return ColumnMap(
        question=q,
        answer=a,
        context=asked["context"] or found.optional(contexts, taken),
        fact=found.optional(_FACTS, taken),
        split=found.optional(_SPLITS, taken),
        id=found.optional(_IDS, taken),
    )


def chat_columns(
    names: Sequence[str], messages: str, *, context: str | None = None, source: str = "The data"
) -> ColumnMap:
    """The columns of a table of chats.

    Args:
        names: The table's columns.
        messages: The column that holds the chats.
        context: The passage's column, if the user named it; else one with system messages.
        source: What the table is called in messages.

    Raises:
        ColumnsError: If the named column is not there.
    """
    found = _Finder(names, source)
    return ColumnMap(
        question="",
        answer="",
        messages=messages,
        context=found.named(context, "context") or found.optional(_SYSTEMS, (messages,)),
        split=found.optional(_SPLITS, (messages,)),
        id=found.optional(_IDS, (messages,)),
    )


class _Finder:
    """The columns of one table, by their plain names."""

    def __init__(self, names: Sequence[str], source: str) -> None:
        self.names = list(names)
        self.source = source
        self.by_plain: dict[str, list[str]] = {}
        for name in names:
            self.by_plain.setdefault(plain_name(name), []).append(name)

    def one(self, plain: str) -> str | None:
        """The column of that plain name; ColumnsError if there are two."""
        names = self.by_plain.get(plain, [])
        if len(names) > 1:
            raise self.error(
                f"{self.source} has the columns {_list(names)}, which could be the same thing"
            )
        return names[0] if names else None

    def first(self, plain_names: Sequence[str], *, but: Sequence[str | None]) -> str | None:
        """The first of these that the table has and that is not taken."""
        return next((c for p in plain_names if (c := self.one(p)) and c not in but), None)

    def optional(self, plain_names: Sequence[str], taken: Sequence[str]) -> str | None:
        """The first of these that is not taken; of two spellings of one name, the first."""
        names = (name for plain in plain_names for name in self.by_plain.get(plain, ()))
        return next((name for name in names if name not in taken), None)

    def named(self, name: str | None, role: str) -> str | None:
        """The column that the user named, by its own name or else its plain one."""
        if not name:
            return None
        if name in self.names:
            return name
        column = self.one(plain_name(name))
        if column is None:
            raise self.error(f"{self.source} has no column {name!r} for the {role}")
        return column

    def error(self, problem: str) -> ColumnsError:
        return ColumnsError(
            f"{problem}; its columns are {_list(self.names)}.",
            "Name them with --question-column and --answer-column.",
            self.names,
        )


def plain_name(name: str) -> str:
    """A column's name without what does not count: case, spaces, underscores, hyphens."""
    return re.sub(r"[\s_\-]+", "", name).casefold()


def _list(names: Sequence[str]) -> str:
    shown = [name if len(name) <= 40 else f"{name[:37]}..." for name in names[:12]]
    return ", ".join(shown) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
