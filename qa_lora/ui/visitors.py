"""Who is at the other end: a login, or a cookie that nobody can guess.

Whoever handles an event asks :func:`current_visitor`; nothing that a page sends decides who it is.
Only a hash is kept of either: see :mod:`qa_lora.owners`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from qa_lora.owners import owner_word
from qa_lora.serving import Login, ServerSettings
from qa_lora.ui.hub_login import login_of

__all__ = [
    "COOKIE",
    "Visitor",
    "acting_as",
    "cookie_header",
    "current_visitor",
    "known_cookie",
    "new_cookie",
    "password_check",
]

COOKIE = "qa-lora-visitor"
COOKIE_SECONDS = 90 * 24 * 3600
_VALUE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


@dataclass(frozen=True)
class Visitor:
    """Someone whom the server can tell from others."""

    word: str
    """What stands in the folders that are theirs."""
    name: str = ""
    """Of the login; empty without one."""


_acting: ContextVar[Visitor | None] = ContextVar("qa_lora_visitor", default=None)


@contextmanager
def acting_as(visitor: Visitor | None) -> Iterator[None]:
    """Do what is inside for a visitor, wherever it runs."""
    token = _acting.set(visitor)
    try:
        yield
    finally:
        _acting.reset(token)


def current_visitor(login: Login) -> Visitor | None:
    """Who caused what is being done now; None outside of events and for who cannot be told.

    A thread that an event starts knows it only if it runs in a copy of the event's context.

    Args:
        login: How visitors log in. Where they need not, the cookie names them also after they
            signed in to publish: what they started before stays theirs.
    """
    visitor = _acting.get()
    if visitor is not None:
        return visitor
    from gradio.context import LocalContext

    request = LocalContext.request.get(None)
    return _of_request(request, login) if request is not None else None


def _of_request(request: Any, login: Login) -> Visitor | None:
    """The visitor of gradio's request, or of the web server's below it."""
    if login == "password":
        name = str(getattr(request, "username", None) or "")
        return Visitor(owner_word(f"login {name}"), name) if name else None
    if login == "huggingface":
        hub = login_of(request)
        if hub is None or hub.ended:
            return None
        return Visitor(owner_word(f"hub {hub.account}"), hub.name)
    raw = getattr(request, "request", None) or request
    value = known_cookie(getattr(raw, "cookies", None) or {})
    return Visitor(owner_word(f"cookie {value}")) if value else None


def known_cookie(cookies: Mapping[str, str]) -> str:
    """The visitor's value among a request's cookies; empty if there is none that could be ours."""
    for name in (f"__Host-{COOKIE}", COOKIE):
        value = cookies.get(name, "")
        if _VALUE.fullmatch(value):
            return value
    return ""


def password_check(settings: ServerSettings) -> Callable[[str, str], bool]:
    """What says whether a name and a password belong together, in the same time for all of them."""
    known = {name: _digest(password) for name, password in settings.accounts().items()}

    def check(user: str, password: str) -> bool:
        given = _digest(password)
        # The comparison is made for unknown names, too: how long it takes tells nothing.
        same = hmac.compare_digest(known.get(user, _digest("")), given)
        return same and user in known

    return check


def _digest(password: str) -> bytes:
    return hashlib.sha256(password.encode("utf-8", "surrogatepass")).digest()


def new_cookie() -> str:
    """A value with 256 random bits."""
    return secrets.token_urlsafe(32)


def cookie_header(value: str, secure: bool) -> str:
    """The Set-Cookie header; it also holds in the frame in which the Hub shows a Space."""
    kept = f"Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly"
    if secure:
        return f"__Host-{COOKIE}={value}; {kept}; Secure; SameSite=None; Partitioned"
    return f"{COOKIE}={value}; {kept}; SameSite=Lax"
