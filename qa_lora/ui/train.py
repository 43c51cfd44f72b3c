"""The Train tab: choose, check, start, watch, stop, resume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from qa_lora import runs
from qa_lora.catalog import POCKET
from qa_lora.config import TrainConfig
from qa_lora.errors import QALoRAError
from qa_lora.presets import PRESETS
from qa_lora.ui import form, train_view
from qa_lora.ui.charts import HOVER
from qa_lora.ui.data_card import check_data, keep_upload
from qa_lora.ui.engine import Engine
from qa_lora.ui.header import Header, run_choices
from qa_lora.ui.series import Progress
from qa_lora.ui.words import note

__all__ = ["TrainTab", "build_train", "wire_train"]

Update = dict[Any, Any]
BUNDLED = ("atlas (bundled)", "atlas")
COLUMNS = ("question_column", "answer_column", "context_column")
FILE_TYPES = [".csv", ".tsv", ".json", ".jsonl", ".parquet"]
TO_CHART = """() => { if (window.innerWidth < 800) setTimeout(() =>
  document.getElementById("slot")?.scrollIntoView({behavior: "smooth"}), 300); }"""
COPY = """async (text) => { if (!text) return;
  try { await navigator.clipboard.writeText(text); } catch {
    const area = document.createElement("textarea"); area.value = text;
    document.body.append(area); area.select(); document.execCommand("copy"); area.remove(); } }"""


@dataclass(frozen=True)
class TrainTab:
    """The tab's components."""

    preset: Any
    controls: dict[str, Any]
    upload: Any
    card: Any
    columns: Any
    advanced: Any
    start: Any
    stop: Any
    resume: Any
    message: Any
    copy_command: Any
    copy_yaml: Any
    copied: Any
    slot: Any
    compare: Any
    scores: Any
    log: Any
    smoothing: Any
    chart: Any
    stats: Any
    probes: Any

    def values(self) -> list[Any]:
        """The controls in the order of form.FIELDS."""
        return [self.controls[name] for name in form.FIELDS]


def build_train(engine: Engine, run_id: str | None) -> TrainTab:
    """Lay the tab out; it shows the given run from the first paint."""
    run = engine.find(run_id)
    progress = engine.followers.progress(run) if run else Progress()
    controls: dict[str, Any] = {}
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=310, elem_id="setup"):
            preset = gr.Radio(
                list(PRESETS), value=form.FIRST_PRESET, label="Preset", elem_id="preset"
            )
            controls["model"] = gr.Dropdown(
                form.model_choices(),
                value=POCKET,
                label="Model",
                info=form.model_info(POCKET),
                allow_custom_value=True,
                interactive=True,
                elem_id="set-model",
            )
            controls["data"] = gr.Dropdown(
                [BUNDLED],
                value=BUNDLED[1],
                label="Data",
                info="Bundled, your upload, or type a file's path or a Hub id.",
                allow_custom_value=True,
                interactive=True,
                elem_id="set-data",
            )
            upload = gr.File(
                label="Your file: CSV, TSV, JSON, JSONL or Parquet, 200 MB",
                file_types=FILE_TYPES,
                height=84,
                elem_id="upload",
            )
            with gr.Row():
                start = gr.Button("Start", variant="primary", elem_id="start", min_width=90)
                stop = gr.Button("Stop", interactive=False, elem_id="stop", min_width=70)
                resume = gr.Button("Resume", visible=False, elem_id="resume", min_width=80)
            message = gr.HTML(elem_id="message", js_on_load=None)
            with gr.Row(visible=False, elem_id="columns") as columns:
                for name in COLUMNS:
                    controls[name] = gr.Dropdown(
                        [],
                        value=None,
                        label=form.label_of(name),
                        info=TrainConfig.model_fields[name].description,
                        interactive=True,
                        allow_custom_value=True,
                        min_width=130,
                        elem_id=f"set-{name}",
                    )
            card = gr.HTML(note("Checking the data…"), elem_id="data-card", js_on_load=None)
            with gr.Accordion("Advanced", open=False, elem_id="advanced") as advanced:
                with gr.Row():
                    copy_command = gr.Button("Copy as command", size="sm", elem_id="copy-command")
                    copy_yaml = gr.Button("Copy as YAML", size="sm", elem_id="copy-yaml")
                controls |= form.build_advanced()
            copied = gr.Textbox(visible=False)
        with gr.Column(scale=9, min_width=320):
            slot = gr.HTML(
                train_view.slot_html(engine, run, progress), elem_id="slot", js_on_load=None
            )
            with gr.Row(elem_id="after"):
                ready = run is not None and run.has_adapter()
                compare = gr.Button(
                    "Compare answers", size="md", interactive=ready, elem_id="to-compare"
                )
                scores = gr.Button(
                    "See all scores", size="md", interactive=ready, elem_id="to-scores"
                )
            chart = gr.HTML(
                train_view.chart_html(run, progress, False, 0.3), elem_id="loss", js_on_load=HOVER
            )
            with gr.Row(elem_id="chart-options"):
                log = gr.Checkbox(False, label="Log scale", elem_id="log-scale", min_width=120)
                smoothing = gr.Slider(
                    0, 1, value=0.3, step=0.05, label="Smoothing", elem_id="smoothing", scale=3,
                    info="Mean over neighbouring steps; the thin line stays exact.",
                )  # fmt: skip
            stats = gr.HTML(train_view.stats_html(progress), elem_id="stats", js_on_load=None)
            probes = gr.HTML(train_view.probes_html(progress), elem_id="probes", js_on_load=None)
    return TrainTab(
        preset, controls, upload, card, columns, advanced, start, stop, resume, message,
        copy_command, copy_yaml, copied, slot, compare, scores, log, smoothing, chart, stats,
        probes,
    )  # fmt: skip


def show_run(
    engine: Engine, tab: TrainTab, run_id: str | None, log: bool, smoothing: float
) -> Update:
    """Everything the tab shows of a run, as it is on disk now."""
    run = engine.find(run_id)
    progress = engine.followers.progress(run) if run else Progress()
    status = run.status() if run else None
    running = status in ("starting", "running")
    can_stop = bool(run and running and run.alive() and not run.stop_requested())
    ready = bool(run and run.has_adapter() and not running)
    return {
        tab.slot: train_view.slot_html(engine, run, progress),
        tab.chart: train_view.chart_html(run, progress, log, smoothing),
        tab.stats: train_view.stats_html(progress),
        tab.probes: train_view.probes_html(progress),
        tab.start: gr.Button(interactive=engine.active() is None),
        tab.stop: gr.Button(interactive=can_stop),
        tab.resume: gr.Button(visible=bool(run and run.can_resume())),
        tab.compare: gr.Button(interactive=ready),
        tab.scores: gr.Button(interactive=ready),
    }


def shown_by(tab: TrainTab) -> list[Any]:
    """The components that :func:`show_run` updates."""
    return [
        tab.slot, tab.chart, tab.stats, tab.probes, tab.start, tab.stop, tab.resume, tab.compare,
        tab.scores,
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

    def start(preset: str, *form_values: Any) -> Update:
        settings = form.to_settings(form_values)
        try:
            run = runs.start(TrainConfig.build(**settings), engine.runs_dir)
        except QALoRAError as error:
            engine.forget_list()
            return {tab.message: note(str(error), "bad")}
        engine.forget_list()
        chosen = gr.Dropdown(choices=run_choices(engine), value=run.id)
        return {tab.message: "", header.run: chosen, header.remembered: run.id}

    def validate(preset: str, *form_values: Any) -> list[Any]:
        wrong = form.check_settings(form.to_settings(form_values))
        checks = [gr.validate(name not in wrong, wrong.get(name, "")) for name in form.FIELDS]
        return [gr.validate("" not in wrong, wrong.get("", "")), *checks]

    def stop(run_id: str | None) -> Update:
        run = engine.find(run_id)
        try:
            if run is not None:
                runs.stop(run)
        except QALoRAError as error:
            return {tab.message: note(str(error), "warn")}
        return {tab.message: "", tab.stop: gr.Button(interactive=False)}

    def resume(run_id: str | None) -> Update:
        run = engine.find(run_id)
        try:
            if run is not None:
                runs.resume(run)
        except QALoRAError as error:
            return {tab.message: note(str(error), "warn")}
        engine.forget_list()
        return {tab.message: "", tab.resume: gr.Button(visible=False)}

    def on_preset(preset: str, model: str) -> Update:
        start_values = form.preset_values(preset)
        updates = {tab.controls[name]: start_values[name] for name in form.ADVANCED}
        return {**updates, tab.controls["model"]: form.model_after(preset, model)}

    def on_change(preset: str, *form_values: Any) -> Update:
        settings = form.to_settings(form_values)
        wrong = form.check_settings(settings)
        text = "; ".join(f"{form.label_of(k)}: {v}" if k else v for k, v in wrong.items())
        return {
            tab.advanced: gr.Accordion(label=form.advanced_title(preset, settings)),
            tab.message: note(text, "bad"),
        }

    def on_upload(path: str | None) -> Update:
        empty = {tab.controls[name]: gr.Dropdown(choices=[], value=None) for name in COLUMNS}
        if path is None:
            chosen = gr.Dropdown(choices=[BUNDLED], value=BUNDLED[1])
            return {tab.controls["data"]: chosen, **empty}
        try:
            kept = keep_upload(path, engine.runs_dir)
        except QALoRAError as error:
            return {tab.card: note(str(error), "bad")}
        choices = [BUNDLED, (f"{Path(path).name} (uploaded)", str(kept))]
        return {tab.controls["data"]: gr.Dropdown(choices=choices, value=str(kept)), **empty}

    def check(count: bool, *form_values: Any) -> Update:
        checked = check_data(form.to_settings(form_values), engine.warm_up if count else None)
        updates: Update = {tab.card: checked.html}
        if checked.needs_columns:
            updates[tab.columns] = gr.Row(visible=True)
            for name in COLUMNS:
                updates[tab.controls[name]] = gr.Dropdown(choices=list(checked.columns))
        return updates

    def copy_command(preset: str, *form_values: Any) -> str:
        return _or_warn(form.as_command, form.to_settings(form_values), str(engine.runs_dir))

    def copy_yaml(preset: str, *form_values: Any) -> str:
        return _or_warn(form.as_yaml, form.to_settings(form_values))

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    inputs = [tab.preset, *values]
    started = tab.start.click(
        start, inputs, [tab.message, header.run, header.remembered], validator=validate, **quiet
    )
    tab.start.click(None, js=TO_CHART, api_visibility="private")
    refresh(started)
    stopped = tab.stop.click(stop, header.run, [tab.message, tab.stop], **quiet)
    refresh(stopped)
    resumed = tab.resume.click(resume, header.run, [tab.message, tab.resume], **quiet)
    refresh(resumed)

    model = tab.controls["model"]
    model.change(lambda name: gr.Dropdown(info=form.model_info(name)), model, model, **quiet)
    advanced = [tab.controls[name] for name in form.ADVANCED]
    tab.preset.input(
        on_preset, [tab.preset, tab.controls["model"]], [*advanced, tab.controls["model"]], **quiet
    )
    gr.on(
        [control.change for control in values], on_change, inputs, [tab.advanced, tab.message],
        trigger_mode="always_last", **quiet,
    )  # fmt: skip
    tab.upload.change(
        on_upload, tab.upload,
        [tab.controls["data"], tab.card, *(tab.controls[name] for name in COLUMNS)], **quiet,
    )  # fmt: skip
    watched = ("data", *COLUMNS, "max_rows", "model", "max_source_tokens", "max_target_tokens")
    outputs = [tab.card, tab.columns, *(tab.controls[name] for name in COLUMNS)]
    for trigger in ([tab.controls[name].change for name in watched], None):
        first = gr.on(
            trigger, lambda *args: check(False, *args), values, outputs,
            trigger_mode="always_last", **quiet,
        )  # fmt: skip
        first.then(lambda *args: check(True, *args), values, outputs, **quiet)

    for button, make in ((tab.copy_command, copy_command), (tab.copy_yaml, copy_yaml)):
        made = button.click(make, inputs, tab.copied, **quiet)
        made.then(None, tab.copied, js=COPY, api_visibility="private")


def _or_warn(make: Callable[..., str], *args: Any) -> str:
    try:
        text = make(*args)
    except QALoRAError as error:
        gr.Warning(str(error))
        return ""
    gr.Info("Copied.", duration=2)
    return text
