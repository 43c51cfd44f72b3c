"""What the Publish panel does, without a browser: whose token, what is asked, what is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qa_lora import runs
from qa_lora.config import TrainConfig
from qa_lora.errors import ConfigError
from qa_lora.events import Finished, Step, to_json
from qa_lora.owners import OWNER, write_owner
from qa_lora.publishing import PlannedFile
from qa_lora.publishing.login import usable_token
from qa_lora.secrets import Finding
from qa_lora.serving import ServerSettings
from tests.lively import make_adapter, make_model
from tests.loopback_hub import TOKEN, Hub
from tests.made_runs import made_run

pytest.importorskip("gradio")
from qa_lora.ui.build import build_app
from qa_lora.ui.engine import Engine
from qa_lora.ui.hub_login import HubLogin, signed_in_as
from qa_lora.ui.publish import shows_examples
from qa_lora.ui.publish_shown import account_html, files_html
from qa_lora.ui.visitors import Visitor, acting_as

REPO = "someone/mine"


class Panel:
    """The panel's handlers as a visitor's browser calls them."""

    def __init__(self, runs_dir: Path, run: runs.Run, serving: ServerSettings) -> None:
        self.run = run
        self.app = build_app(runs_dir, Engine(runs_dir, serving))

    def handler(self, name: str) -> Callable[..., Any]:
        return next(
            fn.fn
            for fn in self.app.fns.values()
            if fn.fn is not None
            and fn.fn.__module__ == "qa_lora.ui.publish"
            and fn.fn.__name__ == name
        )

    def call(
        self, name: str, *more: Any, private: bool = True, typed: str = "", login: str = "",
        run: Any = None, repo: Any = REPO, scopes: tuple[str, ...] = ("contribute-repos",),
    ) -> dict[str, Any]:  # fmt: skip
        """The values of the components by their names, after the handler's last update."""
        visitor = HubLogin("1", "someone", login, frozenset(scopes)) if login else None
        asked = (self.run.id if run is None else run, repo, private, "mit", True, typed, *more)
        values: dict[str, Any] = {}
        with signed_in_as(visitor):
            for update in self.handler(name)(*asked):
                values |= {part.elem_id or "agreed": value for part, value in update.items()}
        said = str(values)
        assert TOKEN not in said and (not typed or typed not in said)
        return values


@pytest.fixture(scope="module")
def panel(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Panel:
    folder = tmp_path_factory.mktemp("publish")
    model = make_model(tiny_model, folder / "model")
    run = runs.create(TrainConfig.build(model=str(model), name="mine"), folder / "runs")
    make_adapter(model, run.adapter)
    events = [Step(i, 0.1, 2.0 / i, 0.1, 1, 1, 1, 1, 1) for i in (1, 2)]
    log = [*events, Finished(2, "completed", 1.0, 1.0, 3.0, 4.0)]
    run.events_path.write_text("".join(f"{to_json(event)}\n" for event in log))
    return Panel(folder / "runs", run, ServerSettings())


@pytest.fixture(autouse=True)
def _entered(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A laptop whose owner is logged in."""
    hub.enter(monkeypatch, tmp_path / "hf", TOKEN)


def test_look_shows_files_and_card_and_uploads_nothing(panel: Panel, hub: Hub) -> None:
    shown = panel.call("look")
    assert (
        "files would be uploaded to a new repository, private, as someone"
        in (shown["publish-message"])
    )
    assert all(name in shown["publish-files"] for name in ("README.md", "prompt.json", "nothing"))
    assert shown["publish-card"].startswith("\n# A LoRA adapter")
    assert "data:image/png;base64," in shown["publish-plot"]
    assert not hub.repos


def test_publish_uploads_and_links_to_it(panel: Panel, hub: Hub) -> None:
    shown = panel.call("press")
    assert f'href="{hub.address}/{REPO}"' in shown["publish-message"]
    assert "(private)" in shown["publish-message"]
    assert hub.repo("model", REPO).private and "README.md" in hub.files("model", REPO)
    assert "were there already" in panel.call("press")["publish-message"]


def test_what_others_put_there_needs_a_second_yes(panel: Panel, hub: Hub) -> None:
    repo = hub.add("model", REPO, {"README.md": b"theirs"}, private=True)
    asked = panel.call("press")
    assert "holds something else" in asked["publish-message"] and asked["agreed"]
    assert asked["publish-replace"].visible and repo.files == {"README.md": b"theirs"}
    # A yes to another state of it, or one that a browser makes up, is none.
    for wrong in ("yes", "", asked["agreed"].replace("something", "nothing")):
        assert "holds something else" in panel.call("go", wrong)["publish-message"]
    assert repo.files == {"README.md": b"theirs"}
    assert "uploaded" in panel.call("go", asked["agreed"])["publish-message"]
    assert repo.files["README.md"] != b"theirs"


def test_a_public_repository_needs_private_unticked(panel: Panel, hub: Hub) -> None:
    repo = hub.add("model", REPO, {})
    refused = panel.call("press")["publish-message"]
    assert "is public: everybody would see" in refused and "Untick Private" in refused
    assert repo.files == {}
    assert "(public)" in panel.call("press", private=False)["publish-message"]


@pytest.fixture
def public(panel: Panel) -> Iterator[Panel]:
    """The panel on a server with visitors, seen by the one whose run it is."""
    owner = Visitor("word")
    write_owner(panel.run.path, owner.word)
    with acting_as(owner):
        yield Panel(panel.run.path.parent, panel.run, ServerSettings(public=True))
    (panel.run.path / OWNER).unlink()


def test_a_stranger_never_gets_the_machines_token(public: Panel, hub: Hub) -> None:
    panel = public
    assert usable_token(None, public=False) == TOKEN and usable_token(None, public=True) is None
    repo = hub.add("model", "someone/secret", {"README.md": b"x"}, private=True)
    refused = panel.call("press")
    assert "Publishing needs a login. Enter a token of yours" in refused["publish-message"]
    looked = panel.call("look", repo="someone/secret")
    assert "a private repository of that name is not seen" in looked["publish-files"]
    assert set(hub.repos) == {("model", "someone/secret")} and repo.commits == ["initial commit"]
    assert "under your own name. Enter a token" in account_html(ServerSettings(public=True))
    # With a login of their own, they publish, if it is one to write with.
    refused = panel.call("press", login=TOKEN, scopes=("openid", "profile"))
    assert "does not let this app write" in refused["publish-message"]
    assert "uploaded" in panel.call("press", login=TOKEN)["publish-message"]


def test_a_token_that_is_entered_is_used_once(
    panel: Panel, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_readonly")
    assert "does not let this account write" in panel.call("press")["publish-message"]
    done = panel.call("press", typed=f" {TOKEN} ")
    assert "uploaded" in done["publish-message"] and done["publish-token"] == ""
    assert "does not accept this token" in panel.call("press", typed="hf_wrong")["publish-message"]


@pytest.mark.parametrize("run", ["", "../x", "nothing", 7, ["a"]])
def test_what_a_browser_may_send_as_a_run(panel: Panel, hub: Hub, run: Any) -> None:
    assert "There is no run in view" in panel.call("press", run=run)["publish-message"]
    assert "cannot be the id" in panel.call("look", repo="<b>x</b>")["publish-message"]
    assert "<b>" not in panel.call("look", repo="<b>x</b>")["publish-message"]


def test_findings_are_shown_at_their_file_and_escaped() -> None:
    finding = Finding("<i>.json", 3, "a GitHub token")
    file = PlannedFile("<i>.json", 2_500_000, "new", (finding,), b"", "")
    found = SimpleNamespace(files=(file,), notes=("<b>",), asks=())
    html = files_html(found)  # type: ignore[arg-type]
    assert "line 3: a GitHub token" in html and "2.5 MB" in html
    assert "<i>" not in html and "<b>" not in html


def test_another_visitors_run_is_not_published(public: Panel, hub: Hub) -> None:
    with acting_as(Visitor("another")):
        assert "There is no run in view" in public.call("press", login=TOKEN)["publish-message"]
    assert not hub.repos


def test_a_visitor_cannot_have_backups_written(panel: Panel, public: Panel) -> None:
    config = TrainConfig.build(backup="/data/x")
    runs_dir = panel.run.path.parent
    assert Engine(runs_dir).admit(config) == config
    with pytest.raises(ConfigError, match="set by whoever runs this server"):
        Engine(runs_dir, ServerSettings(public=True)).admit(config)


def test_answers_are_offered_for_public_data_alone(tmp_path: Path) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_text("question,answer\nwhy,because\n")
    for data, offered in (("atlas", True), (str(mine), False), (f"atlas\n{mine}", False)):
        run = made_run(tmp_path / "runs", f"of-{offered}-{len(data)}", data=data)
        assert shows_examples(run) == offered
    (run.path / "config.yaml").write_text("damaged")
    assert not shows_examples(run) and not shows_examples(None)
