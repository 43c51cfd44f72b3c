"""Text of people and models as HTML: always escaped, differences marked word by word."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from html import escape

__all__ = ["duration", "marked", "note"]

MARK_LIMIT = 20_000
"""Texts of more characters are shown without marks."""
MOST_PAIRS = 50_000
"""Pairs of equal pieces in both texts up to which the shortest difference is looked for: that takes
their number times the number of differences."""
MOST_PIECES = 4_000
"""Words, spaces and signs of a text up to which it is compared piece by piece at all."""
_PIECES = re.compile(r"\s+|\w+|[^\w\s]")


def marked(base: str, tuned: str) -> tuple[str, str]:
    """Both texts as HTML; what the other one lacks stands in ``<mark>``.

    Where few words come again and again, they are compared less closely, so that no text takes
    long: words that are everywhere are no beginning of what is equal, and if there is nothing but
    such words, or the text is long, all between the first difference and the last is marked.

    Args:
        base: The base model's answer.
        tuned: The tuned model's answer.

    Returns:
        (base, tuned), escaped, marked with the classes ``in-base`` and ``in-tuned``.
    """
    left, right = _PIECES.findall(base), _PIECES.findall(tuned)
    if max(len(base), len(tuned)) > MARK_LIMIT:
        return escape(base), escape(tuned)
    out_left: list[str] = []
    out_right: list[str] = []
    for kind, a, b, c, d in _differences(
        [p.casefold() for p in left], [p.casefold() for p in right]
    ):
        out_left.append(_span(left[a:b], "" if kind == "equal" else "in-base"))
        out_right.append(_span(right[c:d], "" if kind == "equal" else "in-tuned"))
    return "".join(out_left), "".join(out_right)


def _differences(
    left: Sequence[str], right: Sequence[str]
) -> Sequence[tuple[str, int, int, int, int]]:
    """What differs, as `SequenceMatcher.get_opcodes` says it."""
    others = Counter(right)
    for autojunk in (False, True) if max(len(left), len(right)) <= MOST_PIECES else ():
        matcher = difflib.SequenceMatcher(None, left, right, autojunk=autojunk)
        if autojunk:
            for piece in matcher.bpopular:  # type: ignore[attr-defined]
                del others[piece]
        if sum(count * others[piece] for piece, count in Counter(left).items()) <= MOST_PAIRS:
            return matcher.get_opcodes()
    shorter = min(len(left), len(right))
    start = next((i for i in range(shorter) if left[i] != right[i]), shorter)
    most = shorter - start
    end = next((i for i in range(most) if left[-1 - i] != right[-1 - i]), most)
    a, c = len(left) - end, len(right) - end
    return [
        ("equal", 0, start, 0, start),
        ("replace", start, a, start, c),
        ("equal", a, len(left), c, len(right)),
    ]


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
    message = message.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be sent
    return f'<div class="note {kind}" role="{role}">{escape(message)}</div>' if message else ""


def duration(seconds: float) -> str:
    """Seconds as 0:31, 12:05 or 3:04:05."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    clock = f"{minutes}:{whole % 60:02d}"
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else clock
