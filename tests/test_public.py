"""A server that strangers can reach: what one visitor's page can do to another's runs.

The handlers are those of the app as it is, found by looking: one that is added later is called
here, too.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest

from qa_lora import processes, runs
from qa_lora.config import TrainConfig
from qa_lora.errors import RunError
from qa_lora.owners import OWNER, owner_of, owner_word, write_owner
from qa_lora.report import save_report
from qa_lora.serving import PUBLIC_DEFAULTS, ServerSettings
from qa_lora.votes import Vote, add_vote
from tests.lively import make_adapter, make_model
from tests.made_reports import make_report

pytest.importorskip("gradio")
from qa_lora.ui.guard import Guard
from qa_lora.ui.visitors import Visitor, acting_as
from tests.visiting import Place, Visit, open_place

SECRET = "canary"
SCORES = {"base": [0.1, 0.2], "tuned": [0.5, 0.2]}
TEXTS = ("Textbox", "Dropdown", "Radio", "BrowserState", "HTML", "Dataset")


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tiny_model, tmp_path_factory.mktemp("lively-t5"))


@pytest.fixture(autouse=True)
def _nothing_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers may start a run of the visitor's own; its process is not what is looked at."""
    monkeypatch.setattr(processes, "spawn", lambda folder: None)


def make_run(runs_dir: Path, model: Path, name: str, text: str, owner: str = "") -> runs.Run:
    """A finished run whose every text says `text`."""
    data = runs_dir.parent / f"{text}.csv"
    rows = "".join(f"What is {text} {i}?,It is {text} {i}.\n" for i in range(40))
    data.write_text("question,answer\n" + rows)
    config = TrainConfig.build(
        model=str(model), data=str(data), name=name, precision="fp32", max_new_tokens=4
    )
    run = runs.create(config, runs_dir, owner)
    make_adapter(model, run.adapter)
    save_report(make_report(SCORES, text=text), run.evaluations_dir)
    (run.path / "worker.log").write_text(text)
    (run.path / "checkpoint").mkdir()
    (run.path / "events.jsonl").write_text("")
    add_vote(runs_dir, Vote(run.id, "base", "tuned", text, text, text, text, "tie", visitor=text))
    return run


def state(folder: Path) -> dict[str, str]:
    """Every file below a folder with what is in it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def handlers(place: Place) -> dict[str, int]:
    """The number of each handler, once though many events may call it."""
    found: dict[str, int] = {}
    for index, fn in place.demo.fns.items():
        if fn.fn is not None:
            lines = fn.fn.__code__.co_firstlineno
            found.setdefault(f"{fn.fn.__module__}.{fn.fn.__qualname__}:{lines}", index)
    return found


def attempts(place: Place, run: runs.Run) -> list[tuple[str, int, list[Any]]]:
    """Each handler, with what a page that names the run in one way or another may send."""
    found = []
    for name, index in handlers(place).items():
        parts = place.demo.fns[index].inputs
        plain = place.inputs(index, run=run.id, columns=["base", "tuned"], question="Why?")
        found.append((name, index, plain))
        if not any(type(part).__name__ in TEXTS for part in parts):
            continue
        for said, in_view in ((run.id, run.id), (run.id, ""), (str(run.path), run.id)):
            data = [
                in_view
                if part.elem_id == "run"
                else value
                if type(part).__name__ not in TEXTS
                else ["base", "tuned", said]
                if getattr(part, "multiselect", False)
                else said
                for part, value in zip(parts, plain, strict=True)
            ]
            found.append((name, index, data))
    return found


def call_all(
    place: Place, who: Visit, run: runs.Run, calls: list[tuple[str, int, list[Any]]]
) -> list[tuple[str, list[Any], str]]:
    """What each handler says: those of a page one after the other, and six pages at a time."""

    def of_page(calls: list[tuple[str, int, list[Any]]]) -> list[tuple[str, list[Any], str]]:
        session = place.session(who, calls[0][1], run.id)
        return [(name, data, who.call(index, data, session)) for name, index, data in calls]

    pages = [list(page) for _, page in groupby(calls, key=itemgetter(1))]
    with ThreadPoolExecutor(6) as pool:
        return list(chain.from_iterable(pool.map(of_page, pages)))


class Scene:
    """A visitor's run, a run of the server's own, and somebody else at the other end."""

    def __init__(self, place: Place, model: Path) -> None:
        runs_dir = place.engine.runs_dir
        self.place = place
        self.ann, self.bob = place.visitor(), place.visitor()
        self.anns = make_run(runs_dir, model, "anns", SECRET, self.ann.word)
        self.shared = make_run(runs_dir, model, "shared", "common")
        place.engine.forget_list()

    def call(self, who: Visit, module: str, name: str, **given: Any) -> str:
        index = self.place.index(module, name)
        session = self.place.session(who, index, given.get("run", ""))
        return who.call(index, self.place.inputs(index, **given), session)


@pytest.fixture
def scene(model: Path, tmp_path: Path) -> Iterator[Scene]:
    with open_place(tmp_path / "runs", public=True, **PUBLIC_DEFAULTS) as place:
        yield Scene(place, model)


pytestmark = pytest.mark.slow


def test_no_handler_gives_or_changes_anything_of_another_visitors_run(scene: Scene) -> None:
    before = state(scene.anns.path), state(scene.shared.path)
    for name, data, said in call_all(
        scene.place, scene.bob, scene.anns, attempts(scene.place, scene.anns)
    ):
        # What was sent may come back; what is in the run may not.
        assert SECRET not in said, (name, data)
    assert (state(scene.anns.path), state(scene.shared.path)) == before
    assert scene.place.engine.jobs == {}
    # The same calls give it to whom it belongs.
    for module, name in (("compare", "open_tab"), ("evaluate.shown", "show")):
        assert SECRET in scene.call(scene.ann, module, name, run=scene.anns.id)


def test_no_handler_tells_that_another_visitors_run_is_there(scene: Scene) -> None:
    calls = [
        (name, index, scene.place.inputs(index, run=scene.shared.id, columns=["base", "tuned"]))
        for name, index in handlers(scene.place).items()
    ]
    processes.note(scene.anns.path, os.getpid())  # at work, so that the light is on
    scene.place.engine.forget_list()
    for name, _, said in call_all(scene.place, scene.bob, scene.shared, calls):
        assert scene.anns.id not in said, name
    for path in ("/", "/config", "/gradio_api/info", "/gradio_api/openapi.json"):
        assert scene.anns.id not in scene.bob.http.get(path).text
    assert "Another visitor" in scene.call(scene.bob, "build", "open_page")
    assert scene.anns.id in scene.call(scene.ann, "build", "open_page")


def test_where_all_see_all_runs_others_change_none(model: Path, tmp_path: Path) -> None:
    with open_place(tmp_path / "runs", public=True, visibility="all") as place:
        scene = Scene(place, model)
        assert scene.anns.id in scene.call(scene.bob, "build", "open_page")
        before = state(scene.anns.path), state(scene.shared.path)
        for run in (scene.anns, scene.shared):
            call_all(place, scene.bob, run, attempts(place, run))
        assert (state(scene.anns.path), state(scene.shared.path)) == before
        assert place.engine.jobs == {}


def test_in_a_read_only_demo_nothing_changes_at_all(model: Path, tmp_path: Path) -> None:
    with open_place(tmp_path / "runs", read_only=True) as place:
        scene = Scene(place, model)
        before = state(place.engine.runs_dir)
        call_all(place, scene.bob, scene.shared, attempts(place, scene.shared))
        assert state(place.engine.runs_dir) == before
        assert "read-only demo" in scene.call(scene.bob, "train_events", "start")
        refused = scene.bob.http.post("/gradio_api/upload", files={"files": ("a.csv", b"a,b")})
        assert place.engine.jobs == {} and refused.status_code == 403


def test_a_visitors_run_is_theirs_alone(scene: Scene) -> None:
    scene.call(scene.bob, "train_events", "start")
    (bobs,) = (r for r in runs.list_runs(scene.place.engine.runs_dir) if "atlas" in r.id)
    assert owner_of(bobs.path) == scene.bob.word
    assert scene.bob.cookie not in (bobs.path / OWNER).read_text()
    assert bobs.config().max_steps == 400 and bobs.config().max_minutes == 30
    assert bobs.id in scene.call(scene.bob, "build", "open_page")
    assert bobs.id not in scene.call(scene.ann, "build", "open_page")
    # The same click of somebody else at the same time starts another run.
    scene.call(scene.ann, "train_events", "start")
    owners = [owner_of(run.path) for run in runs.list_runs(scene.place.engine.runs_dir)]
    assert sorted(map(str, owners)) == sorted(
        [scene.ann.word, scene.ann.word, scene.bob.word, "None"]
    )
    nobody = Visit(scene.place.url)
    assert "keeps no cookie" in scene.call(nobody, "train_events", "start")


def test_files_of_one_visitor_are_not_served_to_another(scene: Scene) -> None:
    runs_dir = scene.place.engine.runs_dir
    made = scene.ann.http.post(
        "/gradio_api/upload", files={"files": ("mine.csv", b"question,answer\nWhy?,Because.\n" * 9)}
    )
    (path,) = made.json()
    upload = {"path": path, "meta": {"_type": "gradio.FileData"}}
    scene.call(scene.ann, "train_events", "on_upload", upload=[upload])
    (kept,) = (runs_dir / "uploads" / scene.ann.word).rglob("*.csv")
    for hidden in (kept, scene.anns.path / "config.yaml", runs_dir / "votes.sqlite"):
        for who in (scene.ann, scene.bob):
            assert who.http.get(f"/gradio_api/file={hidden}").status_code == 403
    values = {"set-data": str(kept)}
    assert "path on this server" in scene.call(scene.bob, "train_events", "start", **values)
    assert "path on this server" not in scene.call(scene.ann, "train_events", "start", **values)
    for other in (str(kept.parent), str(runs_dir / "uploads"), str(scene.anns.path), "/etc/passwd"):
        said = scene.call(scene.ann, "train_events", "check", **{"set-data": other})
        assert "path on this server" in said
    left = scene.call(scene.bob, "train_events", "start", **{"set-init_adapter": scene.anns.id})
    assert "There is no run" in left


def test_votes_are_shown_to_whoever_cast_them(scene: Scene) -> None:
    runs_dir, run = scene.place.engine.runs_dir, scene.shared
    for who, text in ((scene.ann, "of-ann"), (scene.bob, "of-bob")):
        add_vote(
            runs_dir,
            Vote(run.id, "base", "tuned", text, "", "a", "b", "tie", visitor=who.word[:16]),
        )
    said = scene.call(scene.ann, "compare", "open_tab", run=run.id)
    paths = set(re.findall(r'"path": ?"([^"]+votes[^"]+)"', said))
    texts = [scene.ann.http.get(f"/gradio_api/file={path}").text for path in paths]
    assert len(texts) == 2
    assert all("of-ann" in text and "of-bob" not in text for text in texts)


def test_a_login_is_asked_for_and_says_whose_a_run_is(tmp_path: Path) -> None:
    serving = ServerSettings.from_environment(
        {"QA_LORA_PUBLIC": "1", "QA_LORA_LOGIN": "password", "QA_LORA_AUTH": "ann:hush,ben:hush2"}
    )
    with open_place(tmp_path / "runs", **dict(serving)) as place:
        index = place.index("train_events", "start")
        stranger = place.visitor()
        assert "Not authenticated" in stranger.call(index, place.inputs(index))
        assert stranger.http.get("/gradio_api/queue/data?session_hash=x").status_code == 401
        assert '"components":[]' in stranger.http.get("/").text.replace(" ", "")
        browsers = {}
        for name, user, password in (
            ("desk", "ann", "hush"), ("phone", "ann", "hush"), ("bens", "ben", "hush2")
        ):  # fmt: skip
            browsers[name] = place.visitor()
            login = {"username": user, "password": password}
            assert browsers[name].http.post("/login", data=login).status_code == 200
        wrong = {"username": "ann", "password": "hush2"}
        assert stranger.http.post("/login", data=wrong).status_code == 400
        browsers["desk"].call(index, place.inputs(index))
        (run,) = runs.list_runs(place.engine.runs_dir)
        assert owner_of(run.path) == owner_word("login ann")
        opened = place.index("build", "open_page")
        sees = {
            name: run.id in who.call(opened, place.inputs(opened)) for name, who in browsers.items()
        }
        assert sees == {"desk": True, "phone": True, "bens": False}


def test_a_visitor_has_room_for_so_much(scene: Scene) -> None:
    engine, bob = scene.place.engine, Visitor(scene.bob.word)
    uploads = engine.runs_dir / "uploads" / bob.word
    uploads.mkdir(parents=True)
    with acting_as(bob):
        first = engine.start(TrainConfig(name="first"))
        # None of them is alive, so none waits.
        second, _ = (engine.start(TrainConfig(name=f"more-{i}")) for i in range(2))
        for run in (first, second):
            processes.note(run.path, os.getpid())
        with pytest.raises(RunError, match="2 of your runs are at work or waiting"):
            engine.start(TrainConfig(name="third"))
        for run in runs.list_runs(engine.runs_dir):
            (run.path / processes.PROCESS).unlink(missing_ok=True)
        with (uploads / "big").open("wb") as file:
            file.truncate(501_000_000)
        with pytest.raises(RunError, match="take 501 MB of the 500 MB"):
            engine.start(TrainConfig(name="fourth"))
        with pytest.raises(RunError, match="take 501 MB"):
            engine.access.uploads_for(str(uploads / "big"))
        (uploads / "big").unlink()
        for i in range(17):
            runs.create(TrainConfig(name=f"x{i}"), engine.runs_dir, bob.word)
        with pytest.raises(RunError, match="You have 20 runs here"):
            engine.start(TrainConfig(name="last"))
        engine.deleted.delete(first.id)
        runs.create(TrainConfig(name="one more"), engine.runs_dir, bob.word)
        with pytest.raises(RunError, match="You have 20 runs here"):  # the trash makes no more
            engine.deleted.restore(first.id)
    with acting_as(Visitor(scene.ann.word)):
        assert engine.start(TrainConfig(name="hers"))


def test_a_run_that_takes_too_much_is_stopped_and_then_ended(scene: Scene) -> None:
    guard, run = Guard(scene.place.engine), scene.anns
    with subprocess.Popen(["sleep", "1000"]) as worker:
        processes.note(run.path, worker.pid)
        scene.place.engine.forget_list()
        guard.look(0.0)
        assert not run.stop_requested()
        with (run.path / "worker.log").open("wb") as file:
            file.truncate(501_000_000)
        guard.look(44 * 60.0)
        assert run.stop_requested() and worker.poll() is None
        guard.look(46 * 60.0)
        assert worker.wait() == -signal.SIGKILL


def test_a_run_that_is_a_thread_of_the_app_does_not_end_the_app(scene: Scene) -> None:
    guard, run = Guard(scene.place.engine), scene.anns
    processes.note(run.path, os.getpid())  # as on ZeroGPU
    scene.place.engine.forget_list()
    for minutes in (0, 46, 47):
        guard.look(minutes * 60.0)
    assert run.stop_requested()


def test_no_name_of_a_folder_leads_into_another_visitors_run(scene: Scene) -> None:
    engine = scene.place.engine
    runs_dir, hers, shared = engine.runs_dir, scene.anns, scene.shared
    with acting_as(Visitor(scene.bob.word)):
        for name in (
            hers.id, f"{hers.id}/adapter", f"./{hers.id}/adapter", f"{shared.id}/../{hers.id}/adapter",
            str(hers.adapter), str(runs_dir), ".", "/etc", "~", "~nobody-here/x", "x" * 5000, "a\0b",
        ):  # fmt: skip
            with pytest.raises(RunError):
                engine.answerer(shared, [name])
        engine.access.check_name(shared.id)
        engine.access.check_name(str(shared.adapter))
    with acting_as(Visitor(scene.ann.word)):
        engine.access.check_name(f"{hers.id}/adapter")
        engine.deleted.delete(hers.id)
        with pytest.raises(RunError):
            engine.access.check_name(f".trash/{hers.id}/adapter")


def test_a_name_that_is_used_again_belongs_to_whoever_used_it_last(scene: Scene) -> None:
    access = scene.place.engine.access
    folder = scene.place.engine.runs_dir / "again"
    for who, other in ((scene.ann, scene.bob), (scene.bob, scene.ann)):
        folder.mkdir()
        write_owner(folder, who.word)
        with acting_as(Visitor(who.word)):
            assert access.owns(folder)
        with acting_as(Visitor(other.word)):
            assert not access.sees(folder)
        shutil.rmtree(folder)
