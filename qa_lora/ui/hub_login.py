"""Who signed in with Hugging Face: read from the session, a cookie that the server signs.

gradio offers the same as parameters of handlers, but takes an expired session for none at all, and
a visitor should read why publishing is refused.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from qa_lora.errors import PublishError

__all__ = ["HubLogin", "SignInErrors", "hub_login", "login_of", "signed_in_as"]

WRITING = frozenset({"contribute-repos", "write-repos", "manage-repos"})
"""Any of these scopes lets a token create a repository."""


@dataclass(frozen=True)
class HubLogin:
    """Someone's account on the Hub, as far as they let this app use it."""

    account: str
    """Never changes, as the name can."""
    name: str
    token: str = field(repr=False)
    scopes: frozenset[str] = frozenset()
    ends: float | None = None
    """Seconds since 1970."""

    @property
    def ended(self) -> bool:
        """Whether it is over, so that it is a login no longer."""
        return self.ends is not None and self.ends <= time.time()

    def usable_token(self) -> str:
        """The token, to write to the Hub with.

        Raises:
            PublishError: If it is over, or does not allow writing.
        """
        if self.ended:
            raise PublishError(
                "Your sign-in has ended.", "Sign in again, on top of the page, or enter a token."
            )
        if self.scopes.isdisjoint(WRITING):
            raise PublishError(
                "Your sign-in does not let this app write to the Hub.",
                "Enter a token with write access; the Space's owner can add the scope "
                "contribute-repos to it.",
            )
        return self.token


_acting: ContextVar[HubLogin | None] = ContextVar("qa_lora_hub_login", default=None)


@contextmanager
def signed_in_as(login: HubLogin | None) -> Iterator[None]:
    """Do what is inside for someone who signed in."""
    token = _acting.set(login)
    try:
        yield
    finally:
        _acting.reset(token)


def hub_login() -> HubLogin | None:
    """The sign-in of who caused what is being done now, also one that has ended; None without."""
    acting = _acting.get()
    if acting is not None:
        return acting
    from gradio.context import LocalContext

    return login_of(LocalContext.request.get(None))


def login_of(request: Any) -> HubLogin | None:
    """The sign-in of gradio's request, or of the web server's below it."""
    raw = getattr(request, "request", None) or request
    scope = getattr(raw, "scope", None)
    session = scope.get("session") if isinstance(scope, dict) else None
    info = session.get("oauth_info") if isinstance(session, dict) else None
    user = info.get("userinfo") if isinstance(info, dict) else None
    if not isinstance(info, dict) or not isinstance(user, dict):
        return None
    account, name = str(user.get("sub") or ""), str(user.get("preferred_username") or "")
    token, ends = str(info.get("access_token") or ""), info.get("expires_at")
    if not account or not name or not token:
        return None
    scopes = frozenset(str(info.get("scope") or "").split())
    return HubLogin(account, name, token, scopes, float(ends) if ends is not None else None)


class SignInErrors:
    """ASGI middleware: who says no on the Hub's page comes back to the app, not to an error."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Answer a sign-in that failed; all else passes."""
        from starlette.responses import PlainTextResponse, RedirectResponse

        path = scope["path"] if scope["type"] == "http" else ""
        if path not in ("/login/huggingface", "/login/callback"):
            await self.app(scope, receive, send)
            return
        if path == "/login/callback" and "error" in parse_qs(
            scope["query_string"].decode("latin-1")
        ):
            await RedirectResponse("/", HTTPStatus.SEE_OTHER)(scope, receive, send)
            return
        began = False

        async def tell(message: MutableMapping[str, Any]) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self.app(scope, receive, tell)
        except Exception:  # of several libraries; what they say may quote a code or a secret
            if began:
                raise
            said = "Signing in with Hugging Face did not work. Go back, and try it again.\n"
            await PlainTextResponse(said, HTTPStatus.BAD_GATEWAY)(scope, receive, send)
