"""What the Runs tab does: choose, open, resume, stop, go on from, rename, download, delete."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from qa_lora.errors import QALoRAError
from qa_lora.labels import Label, read_label, write_label
from qa_lora.run_zip import zip_run
from qa_lora.ui.engine import Engine
from qa_lora.ui.header import Header, run_choices
from qa_lora.ui.runs.layout import RunsTab
from qa_lora.ui.runs.table import PAGE, run_id_of
from qa_lora.ui.runs.view import View
from qa_lora.ui.train import TrainTab
from qa_lora.ui.train_events import resume_run, stop_run
from qa_lora.ui.words import note

__all__ = ["wire_runs"]

Update = dict[Any, Any]
GONE = "That run is gone: it was deleted or renamed on the disk."
FETCH = """(ready) => { if (ready) setTimeout(() =>
  document.getElementById("run-file").click(), 200); }"""
"""Fetches the zip file once the hidden button holds it."""
SHOW_DETAILS = """() => setTimeout(() => { const card = document.getElementById("run-details");
  if (card && innerWidth < 800) card.scrollIntoView({behavior: "smooth"}); }, 300)"""


def wire_runs(
    engine: Engine,
    header: Header,
    tabs: Any,
    tab: RunsTab,
    downloads: Path,
    train: TrainTab,
    refresh: Callable[[Any], Any],
) -> None:
    """Connect the tab's events.

    Args:
        engine: What the server holds.
        header: The shared header.
        tabs: All tabs of the page.
        tab: The components.
        downloads: A folder of this process for the files that are offered.
        train: The Train tab, whose form goes on from an adapter.
        refresh: Called with an event to show the run in view right after it.
    """
    view = View(engine, tab)
    packing: dict[str, Path] = {}  # folders of zip files that are on their way

    def choose(event: gr.SelectData) -> Update:
        """A row was clicked. Its own id counts: places change as the table is sorted."""
        run = engine.find(run_id_of(event.row_value))
        if run is None:
            return {tab.message: note(GONE, "warn") if run_id_of(event.row_value) else ""}
        try:
            label = read_label(run.path)
        except QALoRAError:
            label = Label()
        return {
            tab.chosen: run.id, tab.message: "", tab.title: label.title, tab.note: label.note,
        }  # fmt: skip

    def save(run_id: str, title: str, text: str) -> Update:
        try:
            run = engine.own(run_id)
            label = write_label(run, title=title or "", note=text or "")
        except QALoRAError as error:
            return {tab.message: note(str(error), "bad")}
        engine.forget_list()
        return {
            tab.message: note("Saved.", "good"), tab.title: label.title, tab.note: label.note,
        }  # fmt: skip

    def open_run(run_id: str) -> Update:
        run = engine.find(run_id)
        if run is None:
            return {tab.message: note(GONE, "warn")}
        return {
            header.run: gr.Dropdown(choices=run_choices(engine, run.id), value=run.id),
            header.remembered: run.id,
            tabs: gr.Tabs(selected="train"),
            tab.clock: gr.Timer(active=False),
            tab.message: "",
        }

    def go_on(run_id: str) -> Update:
        """Set the Train form to start from this run's adapter, on its base."""
        run = engine.find(run_id)
        try:
            if run is None or not run.has_adapter():
                return {tab.message: note("That run has no adapter to continue from.", "warn")}
            model = run.config().model
        except QALoRAError as error:
            return {tab.message: note(str(error), "bad")}
        gr.Info(f"Training will continue from {run.id}, as a new run. Choose data, press Start.")
        return {
            train.controls["init_adapter"]: run.id,
            train.controls["model"]: model,
            train.advanced: gr.Accordion(open=True),
            tabs: gr.Tabs(selected="train"),
            tab.clock: gr.Timer(active=False),
            tab.message: "",
        }

    def stop(run_id: str) -> str:
        return note(stop_run(engine, run_id), "warn") or note("Asked to stop: it saves first.")

    def resume(run_id: str) -> str:
        return note(resume_run(engine, run_id), "warn") or note("It goes on.", "good")

    def download(run_id: str, checkpoints: bool) -> Update:
        try:
            run = engine.own(run_id)
        except QALoRAError as error:
            return {tab.message: note(str(error), "bad"), tab.packed: ""}
        folder = Path(tempfile.mkdtemp(dir=downloads))
        try:
            zip_run(run, folder / f"{run.id}.zip", checkpoints=checkpoints)
        except QALoRAError as error:
            shutil.rmtree(folder, ignore_errors=True)
            return {tab.message: note(str(error), "bad"), tab.packed: ""}
        packing[folder.name] = folder
        path = folder / f"{run.id}.zip"
        return {tab.file: str(path), tab.packed: folder.name, tab.message: ""}

    def clean(packed: str) -> str:
        """The component serves a copy of its own; this one is not needed any more."""
        folder = packing.pop(packed, None)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        return ""

    def delete(run_id: str) -> Update:
        name = engine.name(run_id)
        try:
            engine.deleted.delete(run_id)
        except QALoRAError as error:
            return {tab.message: note(str(error), "bad")}
        return {tab.message: note(f"{name} is in the trash below."), tab.chosen: ""}

    def restore(name: str | None) -> Update:
        try:
            run = engine.deleted.restore(name or "")
        except QALoRAError as error:
            return {tab.message: note(str(error), "bad")}
        return {tab.message: note(f"{engine.name(run.id)} is back.", "good")}

    def ask() -> Update:
        many = len(engine.deleted.runs())
        sure = f"Delete {many:,} run{'s' * (many != 1)} for good"
        return {
            tab.empty: gr.Button(visible=False),
            tab.sure: gr.Button(sure, visible=True),
            tab.keep: gr.Button(visible=True),
        }

    def unask() -> Update:
        hidden = {each: gr.Button(visible=False) for each in (tab.sure, tab.keep)}
        return {**hidden, tab.empty: gr.Button(visible=True)}

    def empty() -> Update:
        try:
            gone = engine.deleted.empty()
        except QALoRAError as error:
            return {**unask(), tab.message: note(str(error), "bad")}
        text = f"{gone:,} run{'s' * (gone != 1)} deleted for good."
        return {**unask(), tab.message: note(text)}

    quiet: dict[str, Any] = {
        "show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None,
    }  # fmt: skip
    busy: dict[str, Any] = {
        "show_progress": "minimal", "show_progress_on": [tab.message], "api_visibility": "private",
    }  # fmt: skip
    shown: dict[str, Any] = {
        "fn": view.show, "inputs": view.inputs(), "outputs": view.outputs(), **quiet,
    }  # fmt: skip

    # The clock of this tab stands still while another one is in front.
    tabs.select(_clock, None, tab.clock, **quiet)
    tab.tab.select(**{**shown, "show_progress": "minimal", "show_progress_on": [tab.count]})
    tab.clock.tick(**shown)
    filters = [tab.text.input, tab.status.input, tab.order.input]
    gr.on([*filters, tab.other.input, tab.kind.change], trigger_mode="always_last", **shown)

    tab.more.click(lambda most: most + PAGE, tab.most, tab.most, **quiet).then(**shown)
    picked = tab.table.select(
        choose, None, [tab.chosen, tab.message, tab.title, tab.note],
        # Else a click while the one before is at work is lost, and Delete would mean that one.
        trigger_mode="always_last", **quiet,
    )  # fmt: skip
    picked.then(**shown).then(None, js=SHOW_DETAILS, api_visibility="private")
    where = [header.run, header.remembered, tabs, tab.clock, tab.message]
    refresh(tab.open.click(open_run, tab.chosen, where, **quiet))
    tab.go_on.click(
        go_on, tab.chosen,
        [
            train.controls["init_adapter"], train.controls["model"], train.advanced, tabs,
            tab.clock, tab.message,
        ],
        **quiet,
    )  # fmt: skip
    saved = tab.save.click(
        save, [tab.chosen, tab.title, tab.note], [tab.message, tab.title, tab.note], **busy
    )
    packed = tab.download.click(
        download, [tab.chosen, tab.checkpoints], [tab.file, tab.packed, tab.message], **busy
    )
    packed.then(None, tab.packed, js=FETCH, api_visibility="private").then(
        clean, tab.packed, tab.packed, **quiet
    )
    changes = [
        saved,
        tab.stop.click(stop, tab.chosen, tab.message, **busy),
        tab.resume.click(resume, tab.chosen, tab.message, **busy),
        tab.delete.click(delete, tab.chosen, [tab.message, tab.chosen], **busy),
        tab.restore.click(restore, tab.trashed, tab.message, **busy),
        tab.sure.click(empty, None, [tab.empty, tab.sure, tab.keep, tab.message], **busy),
    ]
    for change in changes:
        refresh(change.then(**shown))
    tab.empty.click(ask, None, [tab.empty, tab.sure, tab.keep], **quiet)
    tab.keep.click(unask, None, [tab.empty, tab.sure, tab.keep], **quiet)


def _clock(event: gr.SelectData) -> Any:
    return gr.Timer(active=event.value == "Runs")
