"""The whole of the app's interface over HTTP, called by somebody with bad intentions.

Routes and handlers are found by looking: one that is added later is called here, too. Each is
called in both ways in which the app is served.
"""

from __future__ import annotations

import itertools
import json
import re
import secrets
import tempfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

pytest.importorskip("gradio")
import httpx

from qa_lora import processes
from qa_lora.serving import PUBLIC_DEFAULTS
from qa_lora.ui import gate
from tests import hostile
from tests.lively import make_model
from tests.test_public import SECRET, Scene, handlers, state
from tests.visiting import API, Place, Visit, open_place

CANARY = "canary-of-a-file-outside"
PASSWD = "root:x:0:"
PUBLIC: dict[str, Any] = {"public": True, **PUBLIC_DEFAULTS, "max_runs": 3}
MOST_PLACES = 12
"""Arguments of a handler that are tried one by one; the form's many handlers share its many."""
BEGINNING = httpx.Timeout(60, read=5)
MODES: dict[str, dict[str, Any]] = {"laptop": {}, "public": PUBLIC}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tiny_model, tmp_path_factory.mktemp("lively-t5"))


@pytest.fixture(scope="module")
def forbidden() -> Iterator[tuple[str, list[str]]]:
    """A server on this machine that nobody may be led to; its address, and what it was asked."""
    asked: list[str] = []

    class Heard(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Heard)
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


class Attack:
    """A running app, what must stay as it is, and who is at the other end."""

    def __init__(self, place: Place, model: Path, around: Path, address: str) -> None:
        self.place, self.around = place, around
        self.scene = Scene(place, model)
        self.canary = around / "outside.key"
        self.canary.write_text(CANARY)
        self.bob = self.scene.bob
        self.values = hostile.values(self.canary, self.scene.anns.path, address)
        self.public = place.engine.serving.public

    def check_answer(self, text: str, sent: object) -> None:
        """Nothing of a file that this visitor may not read, and nothing of the code."""
        # A message may quote what was sent; it may not quote what lies there.
        assert CANARY not in text and PASSWD not in text, sent
        assert "Traceback (most recent" not in text, sent
        if self.public:
            assert SECRET not in text, sent

    def answers(self, index: int, bodies: list[Any]) -> None:
        """Call a handler with each of these, in one session."""
        session, left = secrets.token_hex(6), set()
        for data, event in zip(bodies, itertools.cycle(self.values[::3])):
            body = {"data": data, "fn_index": index, "session_hash": session, "event_data": event}
            joined = self.send(body)
            assert joined.status_code in (200, 400, 413, 422), joined.text
            self.check_answer(joined.text, data)
            if joined.status_code == 200:
                left.add(joined.json()["event_id"])
        if not left:
            return
        rest = ""
        with self.bob.http.stream("GET", f"{API}/queue/data?session_hash={session}") as stream:
            for piece in stream.iter_text():
                *messages, rest = (rest + piece).split("\n\n")
                for message in messages:
                    self.check_answer(message, bodies)
                    said = json.loads(message.removeprefix("data: "))
                    if said["msg"] == "process_completed":
                        left.discard(said["event_id"])
                if not left:
                    return
        raise AssertionError(f"{len(left)} calls of handler {index} got no answer")

    def send(self, body: Any) -> httpx.Response:
        headers = {"content-type": "application/json"}
        return self.bob.http.post(
            f"{API}/queue/join", content=hostile.as_json(body), headers=headers
        )

    def outside(self) -> dict[str, str]:
        """All files but those of the runs folder and of gradio's."""
        ours = ("runs/", "gradio/", "tmp/")
        return {
            name: what for name, what in state(self.around).items() if not name.startswith(ours)
        }


@pytest.fixture(scope="module", params=MODES)
def attack(
    request: pytest.FixtureRequest,
    model: Path,
    tmp_path_factory: pytest.TempPathFactory,
    forbidden: tuple[str, list[str]],
) -> Iterator[Attack]:
    around = tmp_path_factory.mktemp("around")
    (around / "tmp").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "spawn", lambda folder: None)  # nothing trains
        patch.setattr(tempfile, "tempdir", str(around / "tmp"))
        patch.setenv("GRADIO_TEMP_DIR", str(around / "gradio"))
        with open_place(around / "runs", **MODES[request.param]) as place:
            yield Attack(place, model, around, forbidden[0])
        assert forbidden[1] == []


def test_no_argument_of_a_handler_breaks_it_or_gets_what_is_not_the_visitors(
    attack: Attack, capfd: pytest.CaptureFixture[str]
) -> None:
    place, turn = attack.place, itertools.cycle(attack.values)
    before = attack.outside(), state(attack.scene.anns.path)
    for name, index in handlers(place).items():
        right = place.inputs(
            index, run=attack.scene.shared.id, columns=["base", "tuned"], question="Why?"
        )
        bodies = [[next(turn)] * len(right) for _ in range(2)]
        # One wrong argument among right ones gets further than many.
        places = [at % len(right) for at in range(index, index + min(len(right), MOST_PLACES))]
        bodies += [[*right[:at], next(turn), *right[at + 1 :]] for at in places]
        next(turn)  # or each argument would get the same values in every handler
        attack.answers(index, [*bodies, *hostile.counts(right)])
        logged = "".join(capfd.readouterr())
        for part in logged.split("Traceback (most recent call last)")[1:]:
            assert not re.search(r'File "[^"]*/qa_lora/(?!ui/gate\.py)', part), (name, part)
    assert attack.outside() == before[0]
    if attack.public:
        assert state(attack.scene.anns.path) == before[1]
    assert attack.bob.http.get("/").status_code == 200


def test_no_handler_answers_to_a_wrong_number_or_session(attack: Attack) -> None:
    for index in (-1, 10**6, 10**40, "0", "x", None, 1.5, [], "../x"):
        joined = attack.send({"data": [], "fn_index": index, "session_hash": "x"})
        assert joined.status_code in (200, 400, 404, 422), index
        attack.check_answer(joined.text, index)
    index = next(iter(handlers(attack.place).values()))
    for session in (None, "", "../../x", "a\0b", "x" * 10_000, 7, {}, hostile.HTML, "\ud800"):
        joined = attack.send({"data": [], "fn_index": index, "session_hash": session})
        assert joined.status_code in (200, 400, 422), session
        attack.check_answer(joined.text, session)
    assert attack.bob.http.get("/config").status_code == 200


def test_half_a_character_ends_no_more_than_its_own_stream(attack: Attack) -> None:
    index = attack.place.index("train_events", "start")
    for value in ("\ud800", "a\udfff.csv"):
        plain = attack.place.inputs(index)
        attack.send({"data": [value] * len(plain), "fn_index": index, "session_hash": "s"})
    index = attack.place.index("runs.events", "restore")
    said = attack.bob.call(index, ["\ud800"])
    assert "process_completed" in said
    assert "process_completed" in attack.scene.call(attack.bob, "build", "open_page")


def all_routes(routes: Any, before: str = "") -> Iterator[tuple[str, str]]:
    """Every method and path that the app answers to."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from all_routes(inner.routes, before + route.include_context.prefix)
        elif getattr(route, "routes", None):
            yield from all_routes(route.routes, before + route.path)
        else:
            for method in sorted(getattr(route, "methods", None) or ("GET",)):
                yield method, before + route.path


def filled(path: str, canary: Path) -> list[str]:
    """A route with hostile texts for what stands in braces."""
    if "{" not in path:
        return [path, f"{path}?session_hash=../x&upload_id=%00&deep_link=../../x&logs=/etc/passwd"]
    texts = (
        *(
            "x",
            "..%2f..%2f..%2f..%2fetc%2fpasswd",
            "../../../../etc/passwd",
            "%00",
            "%ff",
            "x" * 900,
        ),
        *("/etc/passwd", str(canary), f"{canary.parent}/runs", "%3Cscript%3E", "http:/127.0.0.1:9"),
        *(
            "http%3A%2F%2F127.0.0.1:9%2Fx",
            "HTTP://127.0.0.1:9/x",
            "//etc/passwd",
            "file:///etc/passwd",
        ),
    )
    return [text.join(re.split(r"\{[^}]*\}", path)) for text in texts]


def test_no_route_breaks_or_gives_a_file(
    attack: Attack, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    found = set(all_routes(attack.place.demo.app.routes))
    assert ("POST", f"{API}/queue/join") in found and (
        "GET",
        f"{API}/file={{path_or_url:path}}",
    ) in found
    before = attack.outside()
    bodies: list[dict[str, Any]] = [
        {"json": {"data": ["../x"], "session_hash": "../x", "fn_name": "ls", "component_id": 1}},
        {"content": b"{" * 3_000, "headers": {"content-type": "application/json"}},
        {"content": b"[" * 3_000, "headers": {"content-type": "application/json"}},
        {"files": {"files": ("../../x", b"x")}, "data": {"component_id": "x"}},
        {"content": b"--x\r\n\r\n", "headers": {"content-type": "multipart/form-data; boundary=x"}},
    ]
    for method, route in sorted(found):
        for path in filled(route, attack.canary):
            for body in bodies if method == "POST" else [{"headers": {"range": "bytes=9-1-x"}}]:
                # Some answer with a stream that never ends: its beginning is enough, if it has one.
                with attack.bob.http.stream(method, path, **body, timeout=BEGINNING) as answer:
                    assert answer.status_code < 500, (method, path, body)
                    try:
                        text = next(answer.iter_text(), "")
                    except httpx.ReadTimeout:
                        assert "event-stream" in answer.headers["content-type"], (method, path)
                        text = ""
                    attack.check_answer(text, (method, path))
                    if route.startswith(f"{API}/") and not gate._is_open(route):
                        assert answer.status_code == 404, (method, path)
    assert attack.outside() == before
    logged = "".join(capfd.readouterr()) + caplog.text
    assert "Traceback (most recent" not in logged
    assert attack.bob.http.get("/").status_code == 200


def test_an_upload_lands_in_gradios_folder_whatever_it_is_called(attack: Attack) -> None:
    before = attack.outside()
    for name in (
        *("../../x.csv", "/etc/x.csv", "..", ".", "", "a/../../b.csv", "C:\\x\\..\\y.csv", "x" * 3_000),
        *("a\0b.csv", "a\nb.csv", "\x1b[31m.csv", hostile.HTML, "~root", ".ssh", "con", "٣.csv"),
    ):  # fmt: skip
        answer = attack.bob.http.post(f"{API}/upload", files={"files": (name, b"x")})
        assert answer.status_code < 500, name
        if answer.status_code == 200:
            for path in answer.json():
                kept = Path(path).resolve()
                assert attack.around / "gradio" in kept.parents, (name, path)
    many = [("files", (f"{i}.csv", str(i).encode())) for i in range(100)]
    assert len(attack.bob.http.post(f"{API}/upload", files=many).json()) == 100
    assert attack.outside() == before


def test_what_the_browser_kept_may_be_anything(attack: Attack) -> None:
    index = attack.place.index("build", "open_page")
    for kept in attack.values[::3]:
        said = attack.bob.call(index, [kept, False, 0.5])
        attack.check_answer(said, kept)
        if not isinstance(kept, dict) and not isinstance(kept, list):
            assert '"success":true' in said, kept
    remember = attack.place.index("build", "remember")
    assert attack.scene.anns.id not in attack.bob.call(remember, [hostile.HTML])
    assert "onerror" not in attack.bob.call(remember, [hostile.HTML])


def test_a_file_by_its_address_is_not_fetched(attack: Attack, forbidden: Any) -> None:
    index = attack.place.index("train_events", "on_upload")
    for address in (f"{forbidden[0]}/a.csv", "https://example.org/a.csv"):
        for path in (address, "x"):
            file = {"path": path, "url": address, "meta": {"_type": "gradio.FileData"}}
            said = attack.bob.call(index, [[file]])
            assert '"success":false' in said, said
    assert forbidden[1] == []
    for address in (f"{forbidden[0]}/a.csv", "https://example.org/a.csv", "HTTPS://example.org"):
        for route in ("file", "proxy"):
            assert attack.bob.http.get(f"{API}/{route}={address}").status_code == 404


def test_events_that_wait_are_so_many_at_most(attack: Attack) -> None:
    assert 0 < attack.place.demo._queue.max_size <= 1_000


def test_a_laptop_answers_to_its_own_page_only(model: Path, tmp_path: Path) -> None:
    from qa_lora.serving import ServerSettings
    from qa_lora.ui.build import build_app, launch_options

    demo = build_app(tmp_path / "runs")
    demo.launch(
        prevent_thread_lock=True, server_name="127.0.0.1", **launch_options(ServerSettings(), True)
    )
    try:
        visit = Visit(demo.local_url.rstrip("/"))
        join = {"data": [], "fn_index": 0, "session_hash": "x"}
        for host in (
            "evil.example",
            "evil.example:7860",
            "127.0.0.1.evil.example",
            "x",
            "localhost.",
        ):
            answer = visit.http.get("/config", headers={"host": host})
            assert answer.status_code == 421 and "QA_LORA_PUBLIC" in answer.text, host
        for host in ("localhost", "localhost:7860", "127.0.0.1", "[::1]:7860", "app.localhost:80"):
            assert visit.http.get("/config", headers={"host": host}).status_code == 200
        foreign = {"sec-fetch-site": "cross-site"}
        assert visit.http.post(f"{API}/queue/join", json=join, headers=foreign).status_code == 403
        upload = visit.http.post(f"{API}/upload", files={"files": ("a", b"x")}, headers=foreign)
        assert upload.status_code == 403
        # A link from another site still opens the page.
        assert visit.http.get("/", headers=foreign).status_code == 200
    finally:
        demo.close()


def test_a_damaged_request_is_a_line_in_the_log(
    attack: Attack, caplog: pytest.LogCaptureFixture
) -> None:
    answer = attack.bob.http.get(f"{API}/queue/data?session_hash=nobody%0AERROR")
    assert "Traceback" not in answer.text and "session_not_found" in answer.text
    assert [r for r in caplog.records if r.name == "qa_lora.ui.gate"]
    assert all("\n" not in r.getMessage() and not r.exc_info for r in caplog.records)
