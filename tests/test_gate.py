"""What every request to a public server passes, with real HTTP messages to a small app behind it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

pytest.importorskip("gradio")
import anyio
import httpx
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from qa_lora.serving import ServerSettings
from qa_lora.ui import gate
from qa_lora.ui.visitors import new_cookie

T = TypeVar("T")
PUBLIC = ServerSettings(public=True, max_upload_mb=1, max_disk_mb=3)


def in_a_thread(story: Callable[[], Awaitable[T]]) -> T:
    """Run it where no event loop does: the browser's is in the thread of the tests."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(anyio.run, story).result()


class Http:
    """Requests to an app in this process."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
                return await client.request(method, path, **options)

        return in_a_thread(ask)


def behind(settings: ServerSettings) -> Http:
    app = FastAPI(middleware=[Middleware(gate.Gate, settings=settings)])

    @app.post("/gradio_api/queue/join")
    def join(body: dict[str, Any]) -> int:
        return len(str(body))

    @app.post("/gradio_api/upload")
    async def upload(request: Request) -> int:
        return len(await request.body())

    @app.post("/login")
    def login() -> str:
        return "no"

    @app.get("/{path:path}")
    def page(path: str) -> PlainTextResponse:
        return PlainTextResponse(path)

    return Http(app)


@pytest.fixture
def http() -> Http:
    return behind(PUBLIC)


def test_a_page_gives_a_cookie_that_cannot_be_guessed_or_read_by_scripts(http: Http) -> None:
    cookies = {http("GET", "/").headers["set-cookie"] for _ in range(3)}
    assert len(cookies) == 3
    for cookie in cookies:
        assert re.fullmatch(
            r"qa-lora-visitor=[\w-]{43}; Path=/; Max-Age=\d+; HttpOnly; SameSite=Lax", cookie
        )
    secure = http("GET", "/config", headers={"x-forwarded-proto": "https"}).headers["set-cookie"]
    assert secure.startswith("__Host-qa-lora-visitor=")
    assert secure.endswith("HttpOnly; Secure; SameSite=None; Partitioned")
    mine = new_cookie()
    kept = http("GET", "/", headers={"cookie": f"qa-lora-visitor={mine}"}).headers["set-cookie"]
    assert mine in kept
    for bad in ("short", mine + "x", "a" * 42 + "!"):
        assert (
            bad
            not in http("GET", "/", headers={"cookie": f"qa-lora-visitor={bad}"}).headers[
                "set-cookie"
            ]
        )
    assert "set-cookie" not in http("GET", "/assets/x.js").headers
    assert http("GET", "/").headers["x-content-type-options"] == "nosniff"


def chunks(size: int) -> Iterator[bytes]:
    async def parts() -> Any:
        yield b'{"data": "'
        for _ in range(size // 50_000):
            yield b"x" * 50_000
        yield b'"}'

    return parts()  # type: ignore[return-value]


def test_bodies_have_a_limit_however_they_are_sent(http: Http) -> None:
    headers = {"content-type": "application/json"}
    join = "/gradio_api/queue/join"
    assert http("POST", join, content=chunks(3_000_000), headers=headers).status_code == 200
    for content in (chunks(5_000_000), b'{"data": "' + b"x" * 5_000_000 + b'"}'):
        refused = http("POST", join, content=content, headers=headers)
        assert refused.status_code == 413 and "at most 4 MB" in refused.text
    assert http("POST", "/gradio_api/upload", content=chunks(4_000_000)).status_code == 200
    assert http("POST", "/gradio_api/upload", content=chunks(4_500_000)).status_code == 413


def test_uploads_of_an_address_have_a_limit_an_hour(http: Http) -> None:
    found = [
        http("POST", "/gradio_api/upload", content=chunks(4_000_000)).status_code for _ in range(4)
    ]
    assert found == [200, 200, 429, 429]  # 12 MB


def test_a_read_only_demo_takes_no_files() -> None:
    demo = behind(ServerSettings(public=True, read_only=True))
    assert demo("POST", "/gradio_api/upload", content=b"x").status_code == 403


def test_another_sites_page_cannot_act_for_a_visitor(http: Http) -> None:
    cross = {"sec-fetch-site": "cross-site"}
    assert http("POST", "/gradio_api/queue/join", json={}, headers=cross).status_code == 403
    assert http("GET", "/gradio_api/queue/data", headers=cross).status_code == 403
    assert http("GET", "/", headers=cross).status_code == 200  # a Space in its frame
    for site in ("same-origin", "none"):
        headers = {"sec-fetch-site": site}
        assert http("POST", "/gradio_api/queue/join", json={}, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "path", ["/gradio_api/file=https://example.org/x", "/gradio_api/proxy=x", "/monitoring/summary"]
)
def test_what_the_app_does_not_use_is_closed(http: Http, path: str) -> None:
    assert http("GET", path).status_code == 404


def test_passwords_cannot_be_tried_fast(http: Http) -> None:
    found = [http("POST", "/login").status_code for _ in range(12)]
    assert found == [200] * 10 + [429] * 2


def test_requests_at_a_time_are_counted_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gate.STREAMS, "cookie", 2)
    app = gate.Gate(_waits, PUBLIC)
    headers = [(b"cookie", f"qa-lora-visitor={new_cookie()}".encode())]

    async def ask(release: anyio.Event, found: list[int], of: list[tuple[bytes, bytes]]) -> None:
        scope = {"type": "http", "method": "GET", "path": "/x", "headers": of, "client": ("1", 1),
                 "release": release}  # fmt: skip

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                found.append(message["status"])

        async def receive() -> Any:
            return {"type": "http.request"}

        await app(scope, receive, send)

    async def story() -> tuple[list[int], list[int], list[int]]:
        first, other, after = [], [], []
        release = anyio.Event()
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(ask, release, first, headers)
            group.start_soon(ask, release, other, [])
            await anyio.wait_all_tasks_blocked()
            refused = list(first)
            release.set()
        await ask(release, after, headers)
        assert app._open == {} and app._all == 0
        return refused, first + other, after

    refused, told, after = in_a_thread(story)
    assert refused == [429]
    assert sorted(told) == [200, 200, 200, 429] and after == [200]


async def _waits(scope: Any, receive: Any, send: Any) -> None:
    await scope["release"].wait()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})
