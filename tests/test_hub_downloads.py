"""What arrives of a model: from the right host, of the right state, and with an end."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import httpx
import pytest

from qa_lora.errors import ModelError
from qa_lora.hub_access import retry_after
from qa_lora.hub_downloads import bring, commit_of, find_here
from qa_lora.hub_file import LargeFile, fetch_large
from tests.loopback_hub import TOKEN, Hub

MODEL = "someone/tiny"
WEIGHTS = bytes(range(256)) * 400


def files(said: bytes = b"") -> dict[str, bytes]:
    return {
        "config.json": b"{}",
        "tokenizer.json": b"{}",
        "model.safetensors": WEIGHTS + said,
    }


class Elsewhere(BaseHTTPRequestHandler):
    """Where a Hub sends whoever wants a large file."""

    asked: ClassVar[list[dict[str, str]]] = []

    def do_GET(self) -> None:
        self.asked.append({name.lower(): value for name, value in self.headers.items()})
        self.send_response(200)
        self.send_header("Content-Length", str(len(WEIGHTS)))
        self.end_headers()
        self.wfile.write(WEIGHTS)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[str]:
    Elsewhere.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/large"
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_token_goes_to_the_hub_alone(
    hub: Hub, elsewhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.enter(monkeypatch, tmp_path / "home", TOKEN)
    hub.add("model", MODEL, files(), private=True)
    hub.fail("GET .*model.safetensors", 302, headers={"Location": elsewhere})
    folder = bring(MODEL)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    (asked,) = Elsewhere.asked
    assert TOKEN not in str(asked) and "authorization" not in asked


def test_an_older_state_does_not_become_the_newest(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.enter(monkeypatch, tmp_path / "home")
    repo = hub.add("model", MODEL, files())
    old = repo.sha
    new = repo.commit(files(b"more"), "better")
    assert bring(MODEL, old).name == old
    assert commit_of(MODEL) == old, "all that is here"
    seen = len(hub.seen)
    assert bring(MODEL).name == old and len(hub.seen) == seen, "what is here is enough"
    assert bring(MODEL, new).name == new

    hub.enter(monkeypatch, tmp_path / "another home")
    assert bring(MODEL).name == new
    assert bring(MODEL, old).name == old
    assert commit_of(MODEL) == new
    assert find_here(MODEL, old) is not None


def test_answers_that_hold_nothing_of_the_file_have_an_end(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.enter(monkeypatch, tmp_path / "home")
    monkeypatch.setattr("qa_lora.hub_file.WAITS", (0.0, 0.0))
    repo = hub.add("model", MODEL, files())
    sha256 = hashlib.sha256(WEIGHTS).hexdigest()
    file = LargeFile(MODEL, repo.sha, "model.safetensors", len(WEIGHTS), sha256)
    hub.fail("GET .*model.safetensors", 200, times=1000)  # as a captive portal answers
    with pytest.raises(ModelError, match="sends nothing of model"):
        fetch_large(file, threading.Event())


@pytest.mark.parametrize(
    ("said", "low", "high"),
    [
        ("7", 7, 7),
        ("0", 0, 0),
        (formatdate(time.time() + 86_400, usegmt=True), 80_000, 86_400),
        (formatdate(0, usegmt=True), 0, 0),
    ],
    ids=["seconds", "at once", "a date", "a date that is over"],
)
def test_when_to_ask_again_is_a_number_or_a_date(said: str, low: float, high: float) -> None:
    error = httpx.HTTPStatusError(
        "", request=httpx.Request("GET", "http://x"),
        response=httpx.Response(429, headers={"Retry-After": said}),
    )  # fmt: skip
    found = retry_after(error)
    assert found is not None and low <= found <= high


@pytest.mark.parametrize("said", ["", "soon", "nan", "-1", "1e400", "Mon, 99 Foo 2026"])
def test_what_is_neither_says_nothing(said: str) -> None:
    error = httpx.HTTPStatusError(
        "", request=httpx.Request("GET", "http://x"),
        response=httpx.Response(429, headers={"Retry-After": said}),
    )  # fmt: skip
    assert retry_after(error) is None
