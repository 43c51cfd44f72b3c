"""JSON values from text: strict, with one sentence for what is not allowed."""

from __future__ import annotations

import json
from typing import Any

from qa_lora.data.readers.table import check_cells, listed, lower
from qa_lora.errors import DataError, shorten

__all__ = ["DECODER", "check_record", "may_hold_halves", "unusable"]


class _NotAllowedError(ValueError):
    """What the json module would accept and a table cannot hold."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for at, key in enumerate(keys) if key in keys[:at])
        raise _NotAllowedError(f"the key {shorten(twice, 40)!r} stands twice in one object")
    return value


DECODER = json.JSONDecoder(object_pairs_hook=_object)
"""Raises JSONDecodeError where the text is no JSON; what else it raises, `unusable` explains."""


def unusable(error: ValueError | RecursionError) -> str:
    """Why a text that may be JSON is not used, as the end of a sentence."""
    if isinstance(error, RecursionError):
        return "lists or objects are nested too deeply"
    if "digits" in str(error):
        return "a number has thousands of digits"
    return lower(str(error))


def may_hold_halves(source: str) -> bool:
    """Whether the text has an escape that could be half of a surrogate pair, which is no sign."""
    return "\\ud" in source or "\\uD" in source


def check_record(record: dict[str, Any], where: str, *, halves: bool) -> None:
    """Refuse what a cell cannot hold.

    Args:
        record: An object, as decoded.
        where: File and line, for messages.
        halves: Whether to look for halves of characters, which takes time.

    Raises:
        DataError: With the column.
    """
    check_cells(record, where, nan_is_empty=False)
    if not halves:
        return
    for key, value in record.items():
        if not _is_unicode(key):
            raise DataError(f"{where}: a key holds half of a character (a lone surrogate).")
        if not _is_unicode(json.dumps(value, ensure_ascii=False)):
            raise DataError(
                f"{where}: {listed([key])} holds half of a character (a lone surrogate)."
            )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
