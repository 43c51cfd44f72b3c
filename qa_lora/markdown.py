"""Texts of strangers in GitHub's Markdown, in which nothing of them acts as markup."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["LONGEST", "cell", "code", "fenced", "shortened", "table"]

LONGEST = 600
"""Characters of a text that are shown."""


def cell(text: str) -> str:
    """Text in which no markup acts, on one line."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~&$@:])", r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """A piece of code within a line, also in a table."""
    text = " ".join(text.split()).replace("|", "\\|")
    fence = "`" * (_longest_fence(text) + 1)
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}" if text else ""


def fenced(text: str) -> str:
    """A block of text, whatever backticks it holds."""
    fence = "`" * max(3, _longest_fence(text) + 1)
    return f"{fence}text\n{text}\n{fence}"


def shortened(text: str) -> str:
    """A text of any length as a field of a block; a line of it never looks like the next field."""
    text = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    return "\n    ".join(text.splitlines())


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as a table; the first row is its head, and numbers stand at the right."""
    first, *others = rows
    rule = ["---", *["---:"] * (len(first) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (first, rule, *others))


def _longest_fence(text: str) -> int:
    return max((len(run) for run in re.findall(r"`+", text)), default=0)
