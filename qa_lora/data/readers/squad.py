"""SQuAD's nested form -> flat rows: articles hold paragraphs, which hold questions.

The form is that of Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text"
(2016), and of version 2.0 with questions that have no answer (2018).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from qa_lora.errors import DataError

__all__ = ["fits", "rows"]


def fits(articles: Sequence[Any]) -> bool:
    """Whether these are articles with paragraphs."""
    first = articles[0]
    return isinstance(first, dict) and isinstance(first.get("paragraphs"), list)


def rows(articles: Sequence[Any], name: str) -> Iterator[dict[str, Any]]:
    """A row for each question: id, title, context, question, answers, is_impossible.

    Args:
        articles: What the file holds under "data".
        name: The file's, for messages.

    Raises:
        DataError: If an article, a paragraph or a question is not built as SQuAD's are.
    """
    for number, article in enumerate(articles, 1):
        where = f"{name}, article {number:,}"
        for at, paragraph in enumerate(_list(article, "paragraphs", where), 1):
            place = f"{where}, paragraph {at:,}"
            context = _text(paragraph, "context", place)
            for q, question in enumerate(_list(paragraph, "qas", place), 1):
                spot = f"{place}, question {q:,}"
                yield {
                    "id": question.get("id") if isinstance(question, dict) else None,
                    "title": article.get("title"),
                    "context": context,
                    "question": _text(question, "question", spot),
                    "answers": _answers(question, spot),
                    "is_impossible": question.get("is_impossible"),
                }


def _answers(question: dict[str, Any], where: str) -> dict[str, list[Any]]:
    """In the flat form that the Hub's SQuAD has: texts and where each starts."""
    answers = _list(question, "answers", where) if "answers" in question else []
    texts = [_text(answer, "text", f"{where}, answer {n:,}") for n, answer in enumerate(answers, 1)]
    return {"text": texts, "answer_start": [answer.get("answer_start") for answer in answers]}


def _list(holder: Any, key: str, where: str) -> list[Any]:
    value = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(value, list):
        raise DataError(f"{where} has no list {key!r}, as SQuAD's form asks for.")
    return value


def _text(holder: Any, key: str, where: str) -> str:
    value = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(value, str):
        raise DataError(f"{where} has no text {key!r}, as SQuAD's form asks for.")
    return value
