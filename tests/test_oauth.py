"""Signing in with Hugging Face on a Space: the real app against an OpenID provider."""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from qa_lora import runs
from qa_lora.config import TrainConfig
from qa_lora.errors import ConfigError
from qa_lora.events import Finished, Step, to_json
from qa_lora.owners import owner_word
from qa_lora.serving import ServerSettings
from qa_lora.sign_in import PACKAGES, VARIABLES, missing_for_sign_in
from tests.lively import make_adapter, make_model
from tests.loopback_hub import TOKEN, Hub, running_hub
from tests.served import App, serving_app
from tests.visiting import Visit

pytest.importorskip("gradio")
from qa_lora.ui.visitors import COOKIE, new_cookie

SPACE = {"SYSTEM": "spaces", "SPACE_ID": "me/qa-lora", **dict.fromkeys(VARIABLES, "x")}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is installed here, the packages that signing in needs count as found."""
    monkeypatch.setattr("qa_lora.sign_in.PACKAGES", ("json",))


@pytest.mark.parametrize("name", ["SYSTEM", "SPACE_ID", *VARIABLES])
def test_a_space_without_all_of_it_offers_no_sign_in(installed: None, name: str) -> None:
    assert missing_for_sign_in(SPACE) == ""
    for value in ("", " "):
        without = {**SPACE, name: value}
        said = missing_for_sign_in(without)
        assert said.endswith(".") and (name in said or "on a Space only" in said)
        assert not ServerSettings.from_environment(without).sign_in
        with pytest.raises(ConfigError, match=r"^QA_LORA_LOGIN is huggingface"):
            ServerSettings.from_environment({**without, "QA_LORA_LOGIN": "huggingface"})


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qa_lora.sign_in.PACKAGES", ("json", "no_such_package"))
    assert re.search(r"needs gradio\[oauth\].*no_such_package is not", missing_for_sign_in(SPACE))
    with pytest.raises(ConfigError, match="no_such_package"):
        ServerSettings.from_environment({**SPACE, "QA_LORA_LOGIN": "huggingface"})
    assert not ServerSettings.from_environment(SPACE).sign_in


def test_where_signing_in_is_offered(installed: None) -> None:
    def settings(**more: str) -> ServerSettings:
        return ServerSettings.from_environment({**SPACE, **more})

    assert settings().sign_in and settings(QA_LORA_LOGIN="huggingface").sign_in
    assert not settings(QA_LORA_READ_ONLY="1").sign_in
    assert not settings(QA_LORA_LOGIN="password", QA_LORA_AUTH="ann:hush").sign_in
    assert not settings(QA_LORA_SIGN_IN="1", SYSTEM="").sign_in
    with pytest.raises(ConfigError, match="QA_LORA_PUBLIC is 0"):
        settings(QA_LORA_LOGIN="huggingface", QA_LORA_PUBLIC="0")


class Person(Visit):
    """Somebody with a browser that takes 127.0.0.1 for secure, as Chromium does."""

    def __init__(self, app: App) -> None:
        super().__init__(app.url, new_cookie())
        self.http = httpx.Client(
            base_url=app.url, timeout=120, trust_env=False, follow_redirects=True,
            event_hooks={"request": [self._bring_cookies]},
        )  # fmt: skip
        self.http.cookies.set(COOKIE, self.cookie, domain="127.0.0.1")
        self.config: dict[str, Any] = self.http.get("/config").json()
        self.parts = {
            part["props"].get("elem_id"): part
            for part in self.config["components"]
            if part["props"].get("elem_id")
        }

    def _bring_cookies(self, request: httpx.Request) -> None:
        kept = [f"{cookie.name}={cookie.value}" for cookie in self.http.cookies.jar]
        request.headers["cookie"] = "; ".join(kept)

    def sign_in(self) -> httpx.Response:
        return self.http.get("/login/huggingface?_target_url=/")

    def press(self, name: str, **given: Any) -> str:
        """Press a button with what the page has in its other parts; gives what comes back."""
        target = [self.parts[name]["id"], "click"]
        event = next(d for d in self.config["dependencies"] if target in d["targets"])
        elem_ids = {part["id"]: elem_id for elem_id, part in self.parts.items()}
        data = [
            given.get(elem_ids.get(number, ""), self._value(number)) for number in event["inputs"]
        ]
        said = html.unescape(self.call(event["id"], data))
        return " ".join(re.findall(r'class=\\"note[^>]*>(.*?)</div>', said))

    def account(self) -> str:
        """What the panel says of who would publish, when the page opens."""
        outputs = [self.parts["publish-account"]["id"]]
        event = next(d for d in self.config["dependencies"] if d["outputs"] == outputs)
        return html.unescape(self.call(event["id"], []))

    def publish(self, run: runs.Run, repo: str) -> str:
        return self.press("publish-go", **{"run": run.id, "publish-repo": repo})

    def _value(self, number: int) -> Any:
        part = next(part for part in self.config["components"] if part["id"] == number)
        return None if part["type"] == "state" else part["props"].get("value")


def finished_run(runs_dir: Path, model: Path, owner: str) -> runs.Run:
    run = runs.create(TrainConfig.build(model=str(model), name="mine"), runs_dir, owner)
    make_adapter(model, run.adapter)
    log = [Step(1, 0.1, 2.0, 0.1, 1, 1, 1, 1, 1), Finished(1, "completed", 1.0, 1.0, 3.0, 4.0)]
    run.events_path.write_text("".join(f"{to_json(event)}\n" for event in log))
    return run


@contextmanager
def space(folder: Path, **more: str) -> Iterator[tuple[App, Hub]]:
    """A Space of the loopback Hub."""
    for package in PACKAGES:
        pytest.importorskip(package)
    with running_hub() as hub:
        variables = {**hub.environment(folder / "home"), **hub.app.environment(hub), **more}
        with serving_app(folder / "runs", variables) as app:
            yield app, hub


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tiny_model, tmp_path_factory.mktemp("oauth-model"))


@pytest.fixture(scope="module")
def open_space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[App, Hub]]:
    """One that asks nobody to sign in."""
    with space(tmp_path_factory.mktemp("open-space")) as found:
        yield found


@pytest.fixture
def app(open_space: tuple[App, Hub]) -> App:
    return open_space[0]


@pytest.fixture
def hub(open_space: tuple[App, Hub]) -> Iterator[Hub]:
    hub = open_space[1]
    yield hub
    hub.app.seconds, hub.app.refuses = 8 * 3600, False


def texts_below(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path, path.read_bytes()


def test_a_run_is_published_under_ones_own_name(app: App, hub: Hub, model: Path) -> None:
    ann = Person(app)
    run = finished_run(app.runs_dir, model, ann.word)
    assert "login" in ann.parts
    assert "Sign in with Hugging Face, on top" in ann.publish(run, "someone/ann")
    assert not hub.repos

    before = ann.http.cookies.get(COOKIE)
    page = ann.sign_in()
    assert page.status_code == 200 and page.url.path == "/"
    assert page.history[-1].headers["location"] == "/"
    # The cookie of who they are stays, and so do their runs.
    assert ann.http.cookies.get(COOKIE) == before
    assert "files uploaded" in ann.publish(run, "someone/ann")
    assert hub.repo("model", "someone/ann").private
    # A second time it is an update of what this app made.
    assert "All files were there already" in ann.publish(run, "someone/ann")

    (token,) = hub.app.tokens
    assert hub.app.tokens[token] == {"openid", "profile", "contribute-repos"}
    said = page.text + ann.http.get("/config").text + ann.publish(run, "someone/ann")
    for secret in (token, hub.app.client_secret, TOKEN):
        assert secret not in said
        for path, data in (*texts_below(app.runs_dir.parent), (app.log, app.log.read_bytes())):
            assert secret.encode() not in data, path

    assert ann.http.get("/logout?_target_url=/").status_code == 200
    assert "Sign in with Hugging Face, on top" in ann.publish(run, "someone/ann")


def test_a_sign_in_reaches_only_what_this_app_made(app: App, hub: Hub, model: Path) -> None:
    ben = Person(app)
    run = finished_run(app.runs_dir, model, ben.word)
    secret = hub.add("model", "someone/secret", {"README.md": b"x"}, private=True)
    other = hub.add("model", "someone/other", {}, private=False)
    ben.sign_in()
    assert "with a token that may read it" in ben.publish(run, "someone/secret")
    assert "does not let this account write" in ben.press(
        "publish-go", **{"run": run.id, "publish-repo": "someone/other", "publish-private": False}
    )
    assert secret.commits == other.commits == ["initial commit"]


def test_an_ended_sign_in_is_none(app: App, hub: Hub, model: Path) -> None:
    eve = Person(app)
    run = finished_run(app.runs_dir, model, eve.word)
    hub.app.seconds = -60
    eve.sign_in()
    assert "Your sign-in has ended. Sign in again" in eve.publish(run, "someone/late")
    assert "Your sign-in has ended" in eve.press("publish-look", run=run.id)
    assert "signed in as" not in eve.account()
    assert ("model", "someone/late") not in hub.repos
    hub.app.seconds = 3600
    eve.sign_in()
    assert "files uploaded" in eve.publish(run, "someone/late")


def test_who_says_no_or_comes_with_nonsense_is_back_on_the_page(app: App, hub: Hub) -> None:
    ann = Person(app)
    hub.app.refuses = True
    page = ann.sign_in()
    assert page.status_code == 200 and page.url.path == "/"
    hub.app.refuses = False
    ann.sign_in()  # leaves a state that the next callback does not know
    ann.http.follow_redirects = False
    again = ann.http.get("/login/callback?code=x&state=y")
    assert again.status_code == 307 and again.headers["location"].startswith("/login/huggingface")
    hub.fail("/oauth/token", 500)
    begun = ann.http.get("/login/huggingface")
    back = httpx.get(begun.headers["location"], trust_env=False).headers["location"]
    failed = ann.http.get(back)
    assert failed.status_code == 502 and "did not work" in failed.text


def test_the_session_cannot_be_read_by_scripts_or_written_by_others(app: App, hub: Hub) -> None:
    ann = Person(app)
    page = ann.sign_in()
    cookies = [
        value
        for response in page.history
        for name, value in response.headers.multi_items()
        if name == "set-cookie" and value.startswith("session=")
    ]
    assert "signed in as someone" in ann.account()
    assert cookies and all({"httponly", "secure", "samesite=none"} <= flags(c) for c in cookies)

    import itsdangerous

    info = {"access_token": "x", "userinfo": {"sub": "1", "preferred_username": "root"}}
    content = b64encode(json.dumps({"oauth_info": info}).encode())
    for secret in ("", "guess"):
        key = sha256(f"{secret}-v4".encode()).hexdigest()
        forged = itsdangerous.TimestampSigner(key).sign(content).decode()
        eve = Person(app)
        eve.http.cookies.set("session", forged, domain="127.0.0.1")
        assert "signed in" not in eve.account()


def flags(cookie: str) -> set[str]:
    return {part.strip().lower() for part in cookie.split(";")}


def test_where_signing_in_is_required_it_is_who_one_is(
    model: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("closed-space")
    with space(folder, QA_LORA_LOGIN="huggingface") as (app, hub):
        sub = hub.app.sub
        run = finished_run(app.runs_dir, model, owner_word(f"hub {sub}"))
        ann = Person(app)
        assert "There is no run in view" in ann.press("publish-look", run=run.id)
        assert "Nobody is signed in. Sign in" in ann.press("start")
        ann.sign_in()
        assert "would be uploaded" in ann.press(
            "publish-look", **{"run": run.id, "publish-repo": "someone/x"}
        )
        # The same person on another machine, under another name.
        hub.app.user = "somebody-else"
        again = Person(app)
        again.sign_in()
        assert "would be uploaded" in again.press(
            "publish-look", **{"run": run.id, "publish-repo": "someone/x"}
        )
        # Another person who has taken the name.
        hub.app.user, hub.app.sub = "someone", "f" * 24
        other = Person(app)
        other.sign_in()
        assert "There is no run in view" in other.press("publish-look", run=run.id)
        # And one whose sign-in has ended.
        hub.app.sub, hub.app.seconds = sub, -60
        late = Person(app)
        late.sign_in()
        assert "Your sign-in has ended" in late.press("publish-look", run=run.id)
        assert "Nobody is signed in" in late.press("start")
        assert [found.id for found in app.runs()] == [run.id]
