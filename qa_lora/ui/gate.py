"""What every request to a public server passes: a cookie for the visitor, and limits.

Pure ASGI, so that streams stay streams. What it keeps is in this process alone; the app is served
by one.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from qa_lora.serving import ServerSettings
from qa_lora.ui.visitors import cookie_header, known_cookie, new_cookie

__all__ = ["Gate"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_BYTES = 4_000_000
"""Most of any request that is no upload: the largest is a page of questions."""
FILES_AT_ONCE = 4
"""So many files of the largest size may come in one upload."""
STREAMS = {"cookie": 40, "address": 400}
"""Most requests at a time of one visitor, and of one address; a page holds two open."""
ALL_STREAMS = 1_500
LOGINS_A_MINUTE = 10
UPLOADS_AN_HOUR = 4
"""An address may upload this many times a visitor's disk in an hour."""
REMEMBERED = 10_000
"""Most visitors and addresses that are kept count of."""

PAGES = ("/", "/config", "/config/")
API = "/gradio_api/"
CLOSED = (f"{API}proxy=", f"{API}vibe", f"{API}undo-vibe", f"{API}dev/", "/monitoring")
"""Parts of the web framework that this app does not use."""
SAFE = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"strict-origin-when-cross-origin",
    b"permissions-policy": b"camera=(), microphone=(), geolocation=()",
}


class RefusedError(Exception):
    """A request that is answered with a status and a sentence."""

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class Counts:
    """How much somebody has used of something in a stretch of time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._used: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, who: str, amount: int, most: int) -> bool:
        """Count it; false if that is more than `most` in this stretch."""
        now = time.monotonic()
        with self._lock:
            began, used = self._used.pop(who, (now, 0))
            if now - began > self._seconds:
                began, used = now, 0
            fits = used + amount <= most
            self._used[who] = began, used + amount if fits else used
            while len(self._used) > REMEMBERED:
                self._used.popitem(last=False)
            return fits


@dataclass(frozen=True)
class Caller:
    """Where a request comes from."""

    address: str
    cookie: str
    secure: bool
    cross_site: bool
    body_bytes: int
    """As it says itself; 0 where it does not."""


class _Body:
    """Counts a request's body, however it is sent."""

    def __init__(self, limit: int, budget: Callable[[int], bool] | None) -> None:
        self._limit, self._budget, self._got = limit, budget, 0

    def count(self, message: Message) -> None:
        """Count one piece of it.

        Raises:
            RefusedError: If it is too much.
        """
        size = len(message.get("body", b"")) if message["type"] == "http.request" else 0
        self._got += size
        if self._got > self._limit:
            raise _too_large(self._limit)
        if size and self._budget is not None and not self._budget(size):
            raise RefusedError(
                HTTPStatus.TOO_MANY_REQUESTS, "You have sent much in the last hour: wait a while."
            )


class Gate:
    """ASGI middleware of a public server.

    Args:
        app: The app behind it.
        settings: How it is served.
    """

    def __init__(self, app: Any, settings: ServerSettings) -> None:
        self.app = app
        self.settings = settings
        self._open: dict[tuple[str, str], int] = {}
        self._all = 0
        self._uploaded = Counts(3600.0)
        self._logins = Counts(60.0)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        caller = self._caller(scope)
        keys = [("address", caller.address)]
        if caller.cookie:
            keys.append(("cookie", caller.cookie))
        began = False
        refusal: RefusedError | None = None

        async def tell(message: Message) -> None:
            nonlocal began
            if refusal is not None and not began:
                return  # whatever the app made of it; the refusal is said instead
            if message["type"] == "http.response.start":
                began = True
                message["headers"] = self._headers(scope, caller, list(message["headers"]))
            await send(message)

        async def limited() -> Message:
            nonlocal refusal
            message = await receive()
            try:
                body.count(message)
            except RefusedError as refused:
                refusal = refused
                raise
            return message

        try:
            body = _Body(self._check(scope, caller), self._budget(scope, caller))
            self._enter(keys)
        except RefusedError as refused:
            await _answer(tell, refused)
            return
        try:
            await self.app(scope, limited, tell)
        except RefusedError as refused:
            refusal = refused
        finally:
            self._leave(keys)
        if refusal is not None and not began:
            final, refusal = refusal, None
            await _answer(tell, final)

    def _caller(self, scope: MutableMapping[str, Any]) -> Caller:
        from starlette.requests import cookie_parser

        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        client = scope.get("client")
        address = client[0] if client else "?"
        if self.settings.space_id:
            # The last is written by the Hub's own proxy, those before it by anybody.
            address = headers.get("x-forwarded-for", address).rsplit(",", 1)[-1].strip()
        length = headers.get("content-length", "")
        forwarded = headers.get("x-forwarded-proto", "").split(",")[0].strip()
        return Caller(
            address,
            known_cookie(cookie_parser(headers.get("cookie", ""))),
            "https" in (scope.get("scheme"), forwarded),
            headers.get("sec-fetch-site") == "cross-site",
            int(length) if length.isascii() and length.isdigit() else 0,
        )

    def _check(self, scope: MutableMapping[str, Any], caller: Caller) -> int:
        """Whether the request may pass, and how large its body may be.

        Raises:
            RefusedError: If not.
        """
        path, posts = scope["path"], scope["method"] not in ("GET", "HEAD", "OPTIONS")
        limit = BODY_BYTES
        if path.startswith(CLOSED) or path.startswith(f"{API}file=http"):
            raise RefusedError(HTTPStatus.NOT_FOUND, "There is nothing here.")
        if caller.cross_site and (posts or path.startswith(API)):
            raise RefusedError(HTTPStatus.FORBIDDEN, "Another site's page cannot act for you here.")
        login = path.startswith("/login") and posts
        if login and not self._logins.add(caller.address, 1, LOGINS_A_MINUTE):
            raise RefusedError(HTTPStatus.TOO_MANY_REQUESTS, "Too many logins: wait a minute.")
        if path.startswith(f"{API}upload") and posts:
            if self.settings.read_only:
                raise RefusedError(HTTPStatus.FORBIDDEN, "This demo takes no files.")
            limit = FILES_AT_ONCE * self.settings.upload_bytes + 100_000
        if caller.body_bytes > limit:
            raise _too_large(limit)
        return limit

    def _budget(
        self, scope: MutableMapping[str, Any], caller: Caller
    ) -> Callable[[int], bool] | None:
        """What counts the bytes that an address uploads in an hour, if that is limited."""
        most = UPLOADS_AN_HOUR * self.settings.max_disk_mb * 1_000_000
        if not most or not scope["path"].startswith(f"{API}upload"):
            return None
        return lambda size: self._uploaded.add(caller.address, size, most)

    def _enter(self, keys: list[tuple[str, str]]) -> None:
        if self._all >= ALL_STREAMS:
            raise RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE, "Very many use this just now: wait a bit."
            )
        if any(self._open.get(key, 0) >= STREAMS[key[0]] for key in keys):
            raise RefusedError(HTTPStatus.TOO_MANY_REQUESTS, "Too many pages are open: close some.")
        self._all += 1
        for key in keys:
            self._open[key] = self._open.get(key, 0) + 1

    def _leave(self, keys: list[tuple[str, str]]) -> None:
        self._all -= 1
        for key in keys:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]

    def _headers(
        self, scope: MutableMapping[str, Any], caller: Caller, headers: list[tuple[bytes, bytes]]
    ) -> list[tuple[bytes, bytes]]:
        there = {name.lower() for name, _ in headers}
        headers += [(name, value) for name, value in SAFE.items() if name not in there]
        if scope["path"] in PAGES:
            value = caller.cookie or new_cookie()
            headers.append((b"set-cookie", cookie_header(value, caller.secure).encode()))
        return headers


def _too_large(limit: int) -> RefusedError:
    return RefusedError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"This is too large: at most {limit / 1e6:,.0f} MB can be sent at once.",
    )


async def _answer(send: Send, refused: RefusedError) -> None:
    body = refused.sentence.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": refused.status.value, "headers": headers})
    await send({"type": "http.response.body", "body": body})
