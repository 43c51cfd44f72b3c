"""Texts that a spreadsheet would run as a formula, made harmless before they go into a CSV file."""

from __future__ import annotations

__all__ = ["neutralise"]

_DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "\n")


def neutralise(text: str) -> str:
    """The text as a cell that no spreadsheet takes for a formula.

    A single quote is put in front of what a spreadsheet would run, such as ``=1+1`` or ``@sum``;
    everything else stays as it is.
    """
    return f"'{text}" if text.lstrip(" ").startswith(_DANGEROUS) else text
