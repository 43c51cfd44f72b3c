"""The Train tab, laid out: the form on the left, the run in view on the right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from qa_lora.catalog import POCKET
from qa_lora.config import TrainConfig
from qa_lora.presets import PRESETS
from qa_lora.ui import form, train_view
from qa_lora.ui.charts import HOVER
from qa_lora.ui.data_card import FILE_TYPES
from qa_lora.ui.engine import Engine
from qa_lora.ui.needs_line import WAITING
from qa_lora.ui.series import Progress
from qa_lora.ui.words import note

__all__ = ["COLUMNS", "TrainTab", "build_train"]

SMOOTHING = 0.5
COLUMNS = ("question_column", "answer_column", "context_column")


@dataclass(frozen=True)
class TrainTab:
    """The tab's components."""

    preset: Any
    controls: dict[str, Any]
    upload: Any
    card: Any
    columns: Any
    advanced: Any
    needs: Any
    start: Any
    stop: Any
    resume: Any
    message: Any
    busy: Any
    copy_command: Any
    copy_yaml: Any
    copied: Any
    offered: Any
    """Columns that the column controls offer."""
    marked: Any
    """Names of the settings that are marked as wrong."""
    slot: Any
    compare: Any
    scores: Any
    publish: Any
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
    public, demo = engine.serving.public, engine.serving.read_only
    if demo:
        gr.HTML(note(engine.serving.sentence()), elem_id="server-note", js_on_load=None)
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=310, elem_id="setup", visible=not demo):
            if not demo and (said := engine.serving.sentence()):
                gr.HTML(note(said), elem_id="server-note", js_on_load=None)
            preset = gr.Radio(
                list(PRESETS), value=form.FIRST_PRESET, label="Preset", elem_id="preset"
            )
            controls["model"] = gr.Dropdown(
                form.model_choices(engine.serving.models),
                value=POCKET,
                label="Model",
                info=form.model_info(POCKET, public),
                allow_custom_value=True,
                interactive=True,
                elem_id="set-model",
            )
            controls["data"] = gr.Dropdown(
                form.data_choices(),
                value=form.BUNDLED[1],
                label="Data",
                info="Bundled, your upload, or type a Hub id."
                if public
                else "Bundled, your upload, or type a file's path or a Hub id.",
                allow_custom_value=True,
                interactive=True,
                elem_id="set-data",
            )
            upload = gr.File(
                label="Your files: CSV, JSON, Parquet, Excel; "
                f"{engine.serving.upload_bytes // 1024**2} MB each",
                interactive=not demo,
                file_count="multiple",
                file_types=FILE_TYPES,
                height=84,
                elem_id="upload",
            )
            needs = gr.HTML(WAITING, elem_id="needs", js_on_load=None)
            with gr.Row():
                start = gr.Button(
                    "Start",
                    variant="primary",
                    interactive=not demo,
                    elem_id="start",
                    min_width=90,
                )
                stop = gr.Button("Stop", interactive=False, elem_id="stop", min_width=70)
                resume = gr.Button("Resume", visible=False, elem_id="resume", min_width=80)
            message = gr.HTML(elem_id="message", js_on_load=None)
            busy = gr.HTML(elem_id="busy", js_on_load=None)
            card = gr.HTML(note("Checking the data…"), elem_id="data-card", js_on_load=None)
            with gr.Accordion("Change the columns", open=False, elem_id="columns") as columns:
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
            with gr.Accordion("Advanced", open=False, elem_id="advanced") as advanced:
                with gr.Row():
                    copy_command = gr.Button("Copy as command", size="sm", elem_id="copy-command")
                    copy_yaml = gr.Button("Copy as YAML", size="sm", elem_id="copy-yaml")
                controls |= form.build_advanced()
            copied = gr.Textbox(visible=False)
            offered = gr.State([])
            marked = gr.State([])
        with gr.Column(scale=9, min_width=320):
            slot = gr.HTML(
                train_view.slot_html(engine, run, progress), elem_id="slot", js_on_load=None
            )
            with gr.Row(elem_id="after"):
                ready = run is not None and run.has_adapter()
                compare = gr.Button(
                    "Compare answers",
                    size="md",
                    interactive=ready,
                    elem_id="to-compare",
                    min_width=130,
                )
                scores = gr.Button(
                    "See all scores",
                    size="md",
                    interactive=ready,
                    elem_id="to-scores",
                    min_width=130,
                )
                publish = gr.Button(
                    "Publish",
                    size="md",
                    interactive=ready,
                    visible=not demo,
                    elem_id="to-publish",
                    min_width=130,
                )
            chart = gr.HTML(
                train_view.chart_html(run, progress, False, SMOOTHING),
                elem_id="loss",
                js_on_load=HOVER,
            )
            with gr.Row(elem_id="chart-options"):
                log = gr.Checkbox(False, label="Log scale", elem_id="log-scale", min_width=120)
                smoothing = gr.Slider(
                    0, 1, value=SMOOTHING, step=0.05, label="Smoothing",
                    elem_id="smoothing", scale=3,
                    info="Mean over neighbouring steps; the thin line stays exact.",
                )  # fmt: skip
            stats = gr.HTML(train_view.stats_html(progress), elem_id="stats", js_on_load=None)
            probes = gr.HTML(train_view.probes_html(progress), elem_id="probes", js_on_load=None)
    return TrainTab(
        preset, controls, upload, card, columns, advanced, needs, start, stop, resume, message,
        busy, copy_command, copy_yaml, copied, offered, marked, slot, compare, scores, publish,
        log, smoothing, chart, stats, probes,
    )  # fmt: skip
