"""One question with its answer: the form everything else works on."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["QAExample", "normalise_question"]


@dataclass(frozen=True)
class QAExample:
    """One row of question-answer data."""

    id: str
    """Stable name of the row in its source: its own id, or "row-<number>" (1-based data row)."""
    question: str
    answer: str
    context: str = ""
    history: tuple[tuple[str, str], ...] = ()
    """Earlier turns of a chat, oldest first, as (question, answer)."""
    facts: tuple[str, ...] = ()
    """Short strings that a right answer contains; empty when the source names none."""


def normalise_question(question: str) -> str:
    """The form in which two questions count as the same: case, punctuation and space ignored."""
    kept = (c if c.isalnum() else " " for c in question.casefold())
    return " ".join("".join(kept).split())
