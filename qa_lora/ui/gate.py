"""What every request passes: only what the page uses is open, and only to this app's own page.

On a public server there are a cookie for the visitor, and limits. Pure ASGI, so that streams stay
streams. What it keeps is in this process alone; the app is served by one.
"""

from __future__ import annotations

import ipaddress
import logging
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
OPEN = (
    *("app_id", "cancel", "heartbeat/", "info", "login_check", "openapi.json", "queue/", "reset"),
    *("startup-events", "theme.css", "upload", "user"),
)
"""Of the web framework's own interface, what the page uses; the rest is closed.

Among the rest are a proxy, an editor of the app, a converter of videos and calls by name.
"""
FILE = "file="
CLOSED = ("/monitoring",)
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
    host: str
    """What the browser calls this server."""
    cross_site: bool
    body_bytes: int
    """As it says itself; 0 where it does not."""


class _Body:
    """Counts a request's body, however it is sent."""

    def __init__(self, limit: int | None, budget: Callable[[int], bool] | None) -> None:
        self._limit, self._budget, self._got = limit, budget, 0

    def count(self, message: Message) -> None:
        """Count one piece of it.

        Raises:
            RefusedError: If it is too much.
        """
        size = len(message.get("body", b"")) if message["type"] == "http.request" else 0
        self._got += size
        if self._limit is not None and self._got > self._limit:
            raise _too_large(self._limit)
        if size and self._budget is not None and not self._budget(size):
            raise RefusedError(
                HTTPStatus.TOO_MANY_REQUESTS, "You have sent much in the last hour: wait a while."
            )


_log = logging.getLogger(__name__)


class Gate:
    """ASGI middleware of the app.

    Args:
        app: The app behind it.
        settings: How it is served.
        only_local: Whether it is meant for this machine alone, so that no name of another one is
            right: a page of another site that makes its own name lead here would read everything.
    """

    def __init__(self, app: Any, settings: ServerSettings, only_local: bool = False) -> None:
        self.app = app
        self.settings = settings
        self.only_local = only_local
        self._limits = settings.public or settings.read_only
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
        keys = [("address", caller.address)] if self._limits else []
        if self._limits and caller.cookie:
            keys.append(("cookie", caller.cookie))
        began = unended = False
        refusal: RefusedError | None = None

        async def tell(message: Message) -> None:
            nonlocal began, unended
            if refusal is not None and not began:
                return  # whatever the app made of it; the refusal is said instead
            if message["type"] == "http.response.start":
                began = True
                message["headers"] = self._headers(scope, caller, list(message["headers"]))
                unended = not any(name == b"content-length" for name, _ in message["headers"])
            elif message["type"] == "http.response.body" and not message.get("more_body"):
                unended = False
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
        except Exception as error:
            # Of the web framework, over a request that no page makes: handlers run elsewhere.
            _log.warning("%s %.200r failed: %r", scope["method"], scope["path"], type(error))
            _log.debug("It failed here:", exc_info=True)
            refusal = refusal or RefusedError(HTTPStatus.BAD_REQUEST, "This request is damaged.")
        finally:
            self._leave(keys)
        if refusal is not None and not began:
            final, refusal = refusal, None
            await _answer(tell, final)
        elif refusal is not None and unended:
            await send({"type": "http.response.body", "body": b""})

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
            headers.get("host", ""),
            headers.get("sec-fetch-site") == "cross-site",
            int(length) if length.isascii() and length.isdigit() else 0,
        )

    def _check(self, scope: MutableMapping[str, Any], caller: Caller) -> int | None:
        """Whether the request may pass, and how large its body may be; None for any size.

        Raises:
            RefusedError: If not.
        """
        path, posts = scope["path"], scope["method"] not in ("GET", "HEAD", "OPTIONS")
        limit = BODY_BYTES
        if self.only_local and not _is_here(caller.host):
            raise RefusedError(
                HTTPStatus.MISDIRECTED_REQUEST,
                "This app is for its own machine: open it there, as localhost. Behind a proxy, set "
                "QA_LORA_PUBLIC to 1, or to 0 if everybody who can connect is trusted.",
            )
        if not _is_open(path):
            raise RefusedError(HTTPStatus.NOT_FOUND, "There is nothing here.")
        if caller.cross_site and (posts or path.startswith(API)):
            raise RefusedError(HTTPStatus.FORBIDDEN, "Another site's page cannot act for you here.")
        if not self._limits:
            return None
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
        if self._limits and scope["path"] in PAGES:
            value = caller.cookie or new_cookie()
            headers.append((b"set-cookie", cookie_header(value, caller.secure).encode()))
        return headers


def _is_open(path: str) -> bool:
    """Whether the page uses what is there."""
    if not path.startswith(API):
        return not path.startswith(CLOSED)
    rest = path.removeprefix(API)
    return rest.startswith(OPEN) or (
        # An address would be fetched by the server.
        rest.startswith(FILE) and not rest.removeprefix(FILE).lower().startswith("http")
    )


def _is_here(host: str) -> bool:
    """Whether this is no name, or one that always means the machine itself."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    if name.lower() == "localhost" or name.lower().endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


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
