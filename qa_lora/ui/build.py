"""The whole page: header, tabs, and the clock that keeps them up to date."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import EventListenerMethod

from qa_lora.serving import ServerSettings
from qa_lora.ui.compare import build_compare, wire_compare
from qa_lora.ui.engine import Engine
from qa_lora.ui.evaluate import build_evaluate, wire_evaluate
from qa_lora.ui.header import build_header, choose_run, device_html, light_html, run_choices
from qa_lora.ui.hub_login import SignInErrors
from qa_lora.ui.publish import build_publish, shows_examples, wire_publish
from qa_lora.ui.publish_fold import build_fold, wire_fold
from qa_lora.ui.runs import build_runs, wire_runs
from qa_lora.ui.theme import STYLES, make_theme
from qa_lora.ui.train import build_train
from qa_lora.ui.train_events import show_run, shown_by, wire_train
from qa_lora.ui.visitors import password_check

__all__ = ["build_app", "launch_options"]

POLL_SECONDS = 1.0
MOST_QUEUED = 1_000
"""Events that wait for a handler, of all pages; those of an open page wait for moments."""


def launch_options(
    serving: ServerSettings | None = None, only_local: bool = False
) -> dict[str, Any]:
    """How the app is launched, besides where it listens.

    Args:
        serving: How it is served; without limits if None.
        only_local: Whether it is for this machine alone.
    """
    from starlette.middleware import Middleware

    from qa_lora.ui.gate import Gate

    serving = serving or ServerSettings()
    middleware = [Middleware(Gate, settings=serving, only_local=only_local)]
    if serving.sign_in:
        middleware.append(Middleware(SignInErrors))
    options: dict[str, Any] = {
        "theme": make_theme(),
        "css_paths": STYLES,
        # What went wrong unforeseen may name a path: nothing for strangers.
        "show_error": not serving.public,
        "run_history": False,
        "max_file_size": serving.upload_bytes,
        "ssr_mode": False,
        "footer_links": [],
        "quiet": True,
        "enable_monitoring": False,
        "app_kwargs": {"middleware": middleware},
    }
    if serving.login == "password":
        options["auth"] = password_check(serving)
    return options


CACHE_SECONDS = (600, 3600)
"""Every ten minutes gradio deletes its copies of what was brought here or fetched, if they are an
hour old. What is needed longer is kept elsewhere."""


def build_app(runs_dir: Path, engine: Engine | None = None) -> gr.Blocks:
    """The app over one folder of runs; nothing is launched."""
    _fetch_nothing()
    _keep_no_statistics()
    engine = engine or Engine(runs_dir)
    downloads = Path(tempfile.mkdtemp(prefix="qa-lora-"))
    atexit.register(shutil.rmtree, downloads, ignore_errors=True)
    first = choose_run(engine, None)
    demo_only = engine.serving.read_only
    with gr.Blocks(
        title="QA LoRA", analytics_enabled=False, fill_width=True, delete_cache=CACHE_SECONDS
    ) as demo:
        header = build_header(engine)
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Train", id="train"):
                train = build_train(engine, first)
            with gr.Tab("Compare", id="compare") as tab:
                compare = build_compare(tab, demo=demo_only)
            with gr.Tab("Evaluate", id="evaluate") as tab:
                evaluate = build_evaluate(tab, demo=demo_only)
            with gr.Tab("Runs", id="runs") as tab:
                runs_tab = build_runs(tab, demo=demo_only)
                with gr.Column(visible=not demo_only), build_fold() as fold:
                    publish = build_publish(
                        engine.serving, examples=shows_examples(engine.find(first))
                    )
        clock = gr.Timer(POLL_SECONDS)
        seen = gr.State(("", ""))

        def look(
            run_id: str | None, log: bool, smoothing: float, before: tuple[str, str]
        ) -> dict[Any, Any]:
            """What changed since this page looked last."""
            run = engine.find(run_id)
            gone = run is None and bool(run_id or engine.listed())
            if gone:
                run_id = choose_run(engine, None)
                run = engine.find(run_id)
            choices = run_choices(engine, run_id)
            version = engine.followers.progress(run).version if run else 0
            light = light_html(engine)
            own = bool(run and engine.access.owns(run.path))
            asked = bool(run and run.stop_requested())
            alive = bool(run and run.alive())
            # What stands in the selector is long: it is sent only if that itself has changed.
            offered = sha256(repr(choices).encode("utf-8", "replace")).hexdigest()
            now = repr(
                (run_id, offered, version, light, engine.device, log, smoothing, asked, alive, own)
            )
            if now == before[0]:
                return {seen: gr.skip()}
            news: dict[str, Any] = {} if offered == before[1] else {"choices": choices}
            # The value only if it must be another one: the visitor may be choosing just now.
            news |= {"value": run_id} if gone else {}
            return {
                header.run: gr.Dropdown(**news) if news else gr.skip(),
                header.viewed: run_id,
                header.light: light,
                header.device: device_html(engine),
                **show_run(engine, train, run_id, log, smoothing),
                seen: (now, offered),
            }

        def open_page(remembered: object, log: bool, smoothing: float) -> dict[Any, Any]:
            """A page opens, anew or again: find the run it showed."""
            run_id = choose_run(engine, remembered)
            chosen = gr.Dropdown(choices=run_choices(engine, run_id), value=run_id)
            return {**look(run_id, log, smoothing, ("", "")), header.run: chosen}

        def remember(run_id: object) -> str | None:
            """What the browser keeps of a choice: nothing that is no run."""
            return run_id if isinstance(run_id, str) and engine.find(run_id) else None

        view = [train.log, train.smoothing]
        shown = [
            header.run, header.viewed, header.light, header.device, *shown_by(train), seen,
        ]  # fmt: skip
        quiet: dict[str, Any] = {
            "show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None,
        }  # fmt: skip

        def refresh(event: Any) -> Any:
            return event.then(look, [header.run, *view, seen], shown, **quiet)

        demo.load(open_page, [header.remembered, *view], shown, **quiet)
        clock.tick(look, [header.run, *view, seen], shown, **quiet)
        gr.on(
            [train.log.change, train.smoothing.change, header.run.change], look,
            [header.run, *view, seen], shown, trigger_mode="always_last", **quiet,
        )  # fmt: skip
        header.run.input(remember, header.run, header.remembered, **quiet)
        wire_train(engine, header, train, refresh)
        # Else a batch of questions would hold the model to its end.
        demo.unload(wire_compare(engine, header, compare, downloads))
        wire_evaluate(engine, header, evaluate, downloads)
        wire_publish(engine, header, publish, demo.load)
        wire_runs(engine, header, tabs, runs_tab, downloads, train, refresh)
        train.compare.click(lambda: gr.Tabs(selected="compare"), None, tabs, **quiet)
        train.scores.click(lambda: gr.Tabs(selected="evaluate"), None, tabs, **quiet)
        wire_fold(engine, header, tabs, fold, train.publish, runs_tab, refresh)
        _tell_each_by_itself(demo)
    demo.queue(max_size=MOST_QUEUED)
    _follow_little(demo, header.light)
    return demo


def _tell_each_by_itself(demo: gr.Blocks) -> None:
    """Of handlers that hear of the same event, each is told by an event of its own.

    What comes while a handler with "always_last" is at work gradio tells again once it has ended,
    and tells it to all that hear of it: two such handlers would set each other off for ever.
    """
    late = [
        each
        for each in demo.fns.values()
        if each.trigger_mode == "always_last" and each.trigger_after is None
    ]
    hears = Counter(target for each in late for target in each.targets)
    for each in late:
        if all(hears[target] == 1 for target in each.targets):
            continue
        causes = [
            EventListenerMethod(demo.blocks.get(i, demo), kind)
            for i, kind in each.targets
            if i is not None
        ]
        _, each.trigger_after = demo.default_config.set_event_trigger(
            causes, None, None, None, js="() => {}", trigger_mode="multiple",
            show_progress="hidden", api_visibility="private",
        )  # fmt: skip
        each.targets = [(None, "then")]


def _follow_little(demo: gr.Blocks, on: gr.HTML) -> None:
    """Calls whose progress is not shown are followed on one component.

    At each call a browser copies, several times, the data of every component on which any call was
    followed before: all that ever changed, if nothing else is said.
    """
    for each in demo.fns.values():
        if each.show_progress == "hidden":
            each.show_progress_on = [on]


def _keep_no_statistics() -> None:
    """After each call gradio sums up all calls, for its monitoring page, which is off here.

    That costs more than most calls: each page asks once a second what is new.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(10**9))
    os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")


def _fetch_nothing() -> None:
    """Who names an address in the place of an upload makes this server fetch nothing.

    The web framework would: from other hosts than its own, but of any size.
    """
    from gradio import processing_utils

    async def refuse(url: str, cache_dir: str) -> str:
        raise gr.Error("A file is uploaded here, not fetched.", print_exception=False)

    processing_utils.async_ssrf_protected_download = refuse
