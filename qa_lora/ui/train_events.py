"""What the Train tab does: start, stop, resume, check the data, keep the form honest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from qa_lora import runs
from qa_lora.config import TrainConfig
from qa_lora.errors import ConfigError, QALoRAError
from qa_lora.ui import form, train_view
from qa_lora.ui.data_card import Checked, check_data, keep_upload
from qa_lora.ui.engine import Engine
from qa_lora.ui.header import Header, run_choices
from qa_lora.ui.needs_line import needs_html
from qa_lora.ui.series import Progress
from qa_lora.ui.train import COLUMNS, TrainTab
from qa_lora.ui.words import note

__all__ = ["resume_run", "show_run", "shown_by", "stop_run", "wire_train"]

Update = dict[Any, Any]
HEARD = """() => { const slot = document.getElementById("slot"); if (!slot) return;
  slot.classList.add("heard"); setTimeout(() => slot.classList.remove("heard"), 1500);
  if (innerWidth < 800) setTimeout(() => slot.scrollIntoView({behavior: "smooth"}), 300); }"""
COPY = """async (text) => { if (!text) return;
  try { await navigator.clipboard.writeText(text); } catch {
    const area = document.createElement("textarea"); area.value = text;
    document.body.append(area); area.select(); document.execCommand("copy"); area.remove(); } }"""


def stop_run(engine: Engine, run_id: str | None) -> str:
    """Ask the training of a run to stop; why that cannot be, if it cannot."""
    try:
        runs.stop(engine.own(run_id))
    except QALoRAError as error:
        return str(error)
    return ""


def resume_run(engine: Engine, run_id: str | None) -> str:
    """Go on with a run; why that cannot be, if it cannot."""
    try:
        engine.resume(run_id)
    except QALoRAError as error:
        return str(error)
    return ""


def show_run(
    engine: Engine, tab: TrainTab, run_id: str | None, log: bool, smoothing: float
) -> Update:
    """Everything the tab shows of a run, as it is on disk now."""
    run = engine.find(run_id)
    progress = engine.followers.progress(run) if run else Progress()
    status = run.status() if run else None
    running = status in ("starting", "running")
    own = run is not None and engine.access.owns(run.path)
    can_stop = bool(own and run and run.alive() and not run.stop_requested())
    ready = bool(run and run.has_adapter() and not running)
    active, visible = engine.at_work(), engine.active()
    busy = ""
    if active is not None and (run is None or active.id != run.id):
        name = f"The run {active.id}" if visible is not None else "Another visitor's run"
        busy = note(f"{name} is at work; a new one waits for its turn.")
    return {
        tab.busy: busy,
        tab.slot: train_view.slot_html(engine, run, progress),
        tab.chart: train_view.chart_html(run, progress, log, smoothing),
        tab.stats: train_view.stats_html(progress),
        tab.probes: train_view.probes_html(progress),
        tab.stop: gr.Button("Cancel" if status == "waiting" else "Stop", interactive=can_stop),
        tab.resume: gr.Button(visible=bool(own and run and run.can_resume())),
        tab.compare: gr.Button(interactive=ready),
        tab.scores: gr.Button(interactive=ready),
        tab.publish: gr.Button(interactive=ready),
    }


def shown_by(tab: TrainTab) -> list[Any]:
    """The components that :func:`show_run` updates."""
    return [
        tab.busy, tab.slot, tab.chart, tab.stats, tab.probes, tab.stop, tab.resume, tab.compare,
        tab.scores, tab.publish,
    ]  # fmt: skip


def wire_train(
    engine: Engine, header: Header, tab: TrainTab, refresh: Callable[[Any], Any]
) -> None:
    """Connect the tab's events.

    Args:
        engine: What the server holds.
        header: The shared header.
        tab: The components.
        refresh: Called with an event to show the run in view right after it.
    """
    values = tab.values()

    def start(*form_values: Any) -> Update:
        settings = form.to_settings(form_values)
        try:
            run = engine.start(TrainConfig.build(**settings))
        except QALoRAError as error:
            engine.forget_list()
            update: Update = {tab.message: note(str(error), "bad")}
            if isinstance(error, ConfigError):
                update[tab.advanced] = gr.Accordion(open=True)
            return update
        chosen = gr.Dropdown(choices=run_choices(engine), value=run.id)
        return {tab.message: "", header.run: chosen, header.remembered: run.id}

    def stop(run_id: str | None) -> Update:
        if refused := stop_run(engine, run_id):
            return {tab.message: note(refused, "warn")}
        return {tab.message: "", tab.stop: gr.Button(interactive=False)}

    def resume(run_id: str | None) -> Update:
        if refused := resume_run(engine, run_id):
            return {tab.message: note(refused, "warn")}
        return {tab.message: "", tab.resume: gr.Button(visible=False)}

    def on_preset(preset: str, model: str, data: str) -> Update:
        start_values = form.preset_values(preset)
        updates = {
            tab.controls[name]: form.shown_value(name, start_values[name])
            for name in form.ADVANCED
            if name != "name"
        }
        return {
            **updates,
            tab.controls["model"]: form.model_after(preset, model),
            tab.controls["data"]: form.data_after(preset, data),
        }

    def on_change(preset: str, marked: list[str], *form_values: Any) -> Update:
        """Say at each setting what is wrong with it, and how many differ from the preset."""
        settings = form.to_settings(form_values)
        wrong = form.check_settings(settings)
        text = " ".join(f"{form.label_of(k)}: {v}" if k else v for k, v in wrong.items())
        updates: Update = {
            tab.advanced: gr.Accordion(label=form.advanced_title(preset, settings)),
            tab.message: note(text, "bad"),
            tab.marked: list(wrong),
        }
        for name in {*wrong, *marked} & {*form.ADVANCED}:
            kind = ["wrong"] if name in wrong else []
            info = wrong.get(name, TrainConfig.model_fields[name].description)
            updates[tab.controls[name]] = gr.update(info=info, elem_classes=kind)
        return updates

    def on_upload(paths: list[str] | None) -> Update:
        empty: Update = {
            **{tab.controls[name]: gr.Dropdown(choices=[], value=None) for name in COLUMNS},
            tab.columns: gr.Accordion(open=False),
            tab.offered: [],
        }
        if not paths:
            chosen = gr.Dropdown(choices=form.data_choices(), value=form.BUNDLED[1])
            return {tab.controls["data"]: chosen, **empty}
        try:
            kept = "\n".join(
                str(keep_upload(path, engine.access.uploads_for(path))) for path in paths
            )
        except QALoRAError as error:
            return {tab.card: note(str(error), "bad")}
        names = ", ".join(Path(path).name for path in paths)
        choices = form.data_choices((f"{names} (uploaded)", kept))
        return {
            tab.controls["data"]: gr.Dropdown(choices=choices, value=kept),
            **empty,
        }

    def check(offered: list[str], *form_values: Any) -> Update:
        """The card at once: without token counts until the tokenizer's library is there."""
        ready = engine.warm_up if engine.warm else None
        return card_of(offered, check_data(form.to_settings(form_values), engine.admit, ready))

    def check_tokens(offered: list[str], *form_values: Any) -> Update:
        """The card with token counts, once the tokenizer's library is there."""
        settings = form.to_settings(form_values)
        return card_of(offered, check_data(settings, engine.admit, engine.warm_up))

    def card_of(offered: list[str], checked: Checked) -> Update:
        updates: Update = {tab.card: checked.html}
        # What is offered already stays untouched: an update would close an open list.
        if checked.columns and list(checked.columns) != offered:
            updates[tab.offered] = list(checked.columns)
            for name in COLUMNS:
                updates[tab.controls[name]] = gr.Dropdown(choices=list(checked.columns))
            if checked.unclear:
                updates[tab.columns] = gr.Accordion(open=True)
        return updates

    def needs(*form_values: Any) -> str:
        """What a training with these settings would need."""
        settings = form.to_settings(form_values)
        return needs_html(settings, engine.admit, engine.runs_dir, engine.warm_up)

    def copy_command(*form_values: Any) -> str:
        # Where a public server keeps its runs is nothing to its visitors.
        runs_dir = "" if engine.serving.public else str(engine.runs_dir)
        return _or_warn(form.as_command, form.to_settings(form_values), runs_dir)

    def copy_yaml(*form_values: Any) -> str:
        return _or_warn(form.as_yaml, form.to_settings(form_values))

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    busy_run = {**quiet, "show_progress": "minimal", "show_progress_on": [tab.slot]}
    busy_data = {**quiet, "show_progress": "minimal", "show_progress_on": [tab.card]}
    started = tab.start.click(
        start, values, [tab.message, header.run, header.remembered, tab.advanced], **busy_run
    )
    tab.start.click(None, js=HEARD, api_visibility="private")
    refresh(started)
    stopped = tab.stop.click(stop, header.run, [tab.message, tab.stop], **busy_run)
    refresh(stopped)
    resumed = tab.resume.click(resume, header.run, [tab.message, tab.resume], **busy_run)
    refresh(resumed)

    model = tab.controls["model"]
    model.change(
        lambda name: gr.Dropdown(info=form.model_info(name, engine.serving.public)),
        model,
        model,
        **quiet,
    )
    columns = [tab.controls[name] for name in COLUMNS]
    advanced = [tab.controls[name] for name in form.ADVANCED]
    data = tab.controls["data"]
    tab.preset.input(on_preset, [tab.preset, model, data], [*advanced, model, data], **quiet)
    gr.on(
        [control.change for control in values], on_change, [tab.preset, tab.marked, *values],
        [tab.advanced, tab.message, tab.marked, *advanced], trigger_mode="always_last", **quiet,
    )  # fmt: skip
    tab.upload.change(
        on_upload, tab.upload,
        [tab.controls["data"], tab.card, tab.columns, tab.offered, *columns],
        **busy_data,
    )  # fmt: skip
    checked = [tab.offered, *values]
    outputs = [tab.card, tab.columns, tab.offered, *columns]
    # When the page opens and at each change.
    first = gr.on(None, check, checked, outputs, trigger_mode="always_last", **busy_data)
    last = {**quiet, "trigger_mode": "always_last"}
    counted = first.then(check_tokens, checked, outputs, **last)
    # Not at once: what it waits for would hold up the first page.
    counted.then(needs, values, tab.needs, **last)

    for button, make in ((tab.copy_command, copy_command), (tab.copy_yaml, copy_yaml)):
        made = button.click(make, values, tab.copied, **quiet)
        made.then(None, tab.copied, js=COPY, api_visibility="private")


def _or_warn(make: Callable[..., str], *args: Any) -> str:
    try:
        text = make(*args)
    except QALoRAError as error:
        gr.Warning(str(error))
        return ""
    gr.Info("Copied.", duration=2)
    return text
