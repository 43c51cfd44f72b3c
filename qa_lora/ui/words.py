"""Text of people and models as HTML: always escaped, differences marked word by word."""

from __future__ import annotations

import difflib
import re
from html import escape

__all__ = ["duration", "marked", "note"]

_PIECES = re.compile(r"\s+|\w+|[^\w\s]")


def marked(base: str, tuned: str) -> tuple[str, str]:
    """Both texts as HTML; what the other one lacks stands in ``<mark>``.

    Args:
        base: The base model's answer.
        tuned: The tuned model's answer.

    Returns:
        (base, tuned), escaped, marked with the classes ``in-base`` and ``in-tuned``.
    """
    left, right = _PIECES.findall(base), _PIECES.findall(tuned)
    matcher = difflib.SequenceMatcher(
        None, [p.casefold() for p in left], [p.casefold() for p in right], autojunk=False
    )
    out_left: list[str] = []
    out_right: list[str] = []
    for kind, a, b, c, d in matcher.get_opcodes():
        out_left.append(_span(left[a:b], "" if kind == "equal" else "in-base"))
        out_right.append(_span(right[c:d], "" if kind == "equal" else "in-tuned"))
    return "".join(out_left), "".join(out_right)


def _span(pieces: list[str], kind: str) -> str:
    text = "".join(pieces)
    core = text.strip()
    if not kind or not core:
        return escape(text)
    # A mark ends at its words: over a line's end it would show as a sliver.
    before, _, after = text.partition(core)
    return f'{before}<mark class="{kind}">{escape(core)}</mark>{after}'


def note(message: str, kind: str = "") -> str:
    """A message at the place it is about; `kind` is "", "good", "warn" or "bad"."""
    role = "alert" if kind == "bad" else "status"
    return f'<div class="note {kind}" role="{role}">{escape(message)}</div>' if message else ""


def duration(seconds: float) -> str:
    """Seconds as 0:31, 12:05 or 3:04:05."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    clock = f"{minutes}:{whole % 60:02d}"
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else clock
