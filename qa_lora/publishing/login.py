"""Whose token is used: a visitor's own, never the machine's for a stranger."""

from __future__ import annotations

import os

__all__ = ["machine_token", "serves_others", "usable_token"]

LOOPBACK = ("", "localhost", "127.0.0.1", "::1", "[::1]")


def serves_others() -> bool:
    """Whether the app may have visitors who are not its owner: on a Space, or open to a network."""
    space = os.environ.get("SPACE_ID") or os.environ.get("SYSTEM") == "spaces"
    shared = os.environ.get("GRADIO_SHARE", "").lower() in ("1", "true")
    address = os.environ.get("GRADIO_SERVER_NAME", "").strip().lower()
    return bool(space) or shared or address not in LOOPBACK


def machine_token() -> str | None:
    """The token of this machine's Hub login or environment."""
    from huggingface_hub import get_token

    return get_token()


def usable_token(visitor: str | None, typed: str = "") -> str | None:
    """The token that a page may use.

    Args:
        visitor: Of the login on the page, if there is one.
        typed: One that was entered for this once.

    Returns:
        The first of these; the machine's own only where nobody but its owner can be the visitor.
    """
    given = typed.strip() or visitor
    if given:
        return given
    return None if serves_others() else machine_token()
