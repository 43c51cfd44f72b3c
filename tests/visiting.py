"""Visitors of a running app, each with a cookie of their own, who call its handlers directly."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from qa_lora.owners import owner_word
from qa_lora.serving import ServerSettings
from qa_lora.ui.build import build_app, launch_options
from qa_lora.ui.engine import Engine
from qa_lora.ui.visitors import COOKIE, new_cookie

API = "/gradio_api"


class Visit:
    """Somebody at the other end."""

    def __init__(self, url: str, cookie: str = "", **headers: str) -> None:
        self.cookie = cookie
        self.http = httpx.Client(
            base_url=url, cookies={COOKIE: cookie} if cookie else {}, timeout=120, headers=headers,
            trust_env=False,
        )  # fmt: skip

    @property
    def word(self) -> str:
        """What stands in the folders of this visitor."""
        return owner_word(f"cookie {self.cookie}")

    def call(self, index: int, data: list[Any], session: str = "") -> str:
        """All that a handler says, as the server sends it."""
        session = session or secrets.token_hex(6)
        body = {"data": data, "fn_index": index, "session_hash": session}
        # As a browser writes it, also where a text holds half a character.
        joined = self.http.post(
            f"{API}/queue/join",
            content=json.dumps(body).encode("ascii"),
            headers={"content-type": "application/json"},
        )
        if joined.status_code != 200:
            return joined.text
        event, said = joined.json()["event_id"], []
        with self.http.stream("GET", f"{API}/queue/data?session_hash={session}") as lines:
            for line in lines.iter_lines():
                said.append(line)
                if not line.startswith("data: "):
                    continue
                message = json.loads(line[6:])
                mine = message.get("event_id") == event
                if mine and message["msg"] == "process_completed":
                    break
        return "\n".join(said)


class Place:
    """A running app and what stands behind it."""

    def __init__(self, engine: Engine, demo: Any) -> None:
        self.engine, self.demo, self.url = engine, demo, demo.local_url.rstrip("/")

    def visitor(self, **headers: str) -> Visit:
        """Somebody new."""
        return Visit(self.url, new_cookie(), **headers)

    def index(self, module: str, name: str) -> int:
        """The number of a handler."""
        return next(
            number for number, fn in self.demo.fns.items()
            if getattr(fn.fn, "__name__", "") == name
            and fn.fn.__module__ == f"qa_lora.ui.{module}"
        )  # fmt: skip

    def session(self, who: Visit, index: int, run_id: str) -> str:
        """A session in which a page asks for a run to be in view, for a handler that reads it there.

        Which run that is stays on the server, so it cannot be sent with the call itself.
        """
        look = self.index("build", "look")
        (viewed, *_) = (
            part for part in self.demo.fns[look].outputs if type(part).__name__ == "State"
        )
        session = secrets.token_hex(6)
        if viewed in self.demo.fns[index].inputs:
            who.call(look, self.inputs(look, run=run_id), session)
        return session

    def inputs(self, index: int, **given: Any) -> list[Any]:
        """What a page would send to a handler, but for some components, by elem_id."""
        fn = self.demo.fns[index]
        return [given.get(part.elem_id or "", sent(part)) for part in fn.inputs]


def sent(part: Any) -> Any:
    """What a page that was just opened sends of a component."""
    if type(part).__name__ == "State":
        return None  # stays on the server
    value = getattr(part, "value", None)
    return value() if callable(value) else value


@contextmanager
def open_place(runs_dir: Path, **settings: Any) -> Iterator[Place]:
    """An app over a folder of runs, served as the settings say."""
    serving = ServerSettings(**settings)
    engine = Engine(runs_dir, serving)
    demo = build_app(runs_dir, engine)
    demo.launch(prevent_thread_lock=True, server_name="127.0.0.1", **launch_options(serving))
    try:
        yield Place(engine, demo)
    finally:
        demo.close()
