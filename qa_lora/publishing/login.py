"""Whose token is used: a visitor's own, never the machine's for a stranger."""

from __future__ import annotations

__all__ = ["machine_token", "usable_token"]


def machine_token() -> str | None:
    """The token of this machine's Hub login or environment."""
    from huggingface_hub import get_token

    return get_token()


def usable_token(visitor: str | None, typed: str = "", *, public: bool) -> str | None:
    """The token that a page may use.

    Args:
        visitor: Of the login on the page, if there is one.
        typed: One that was entered for this once.
        public: Whether visitors may be others than the machine's owner.

    Returns:
        The first of these; the machine's own only where nobody but its owner can be the visitor.
    """
    given = typed.strip() or visitor
    if given:
        return given
    return None if public else machine_token()
