"""The Runs tab, laid out: filters, the table, the chosen run, the comparison, the trash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import gradio as gr

from qa_lora.labels import LONGEST_NOTE, LONGEST_TITLE
from qa_lora.run_order import ORDERS
from qa_lora.runs import RunStatus
from qa_lora.ui import charts
from qa_lora.ui.runs.table import HEADERS, KINDS, LEGEND, PAGE, WIDTHS

__all__ = ["NOTHING_CHOSEN", "RunsTab", "build_runs"]

LOOK_SECONDS = 2.0
NOTHING_CHOSEN = (
    '<div class="empty"><b>No run chosen</b>Click a row of the table, or press Enter on it, to see '
    "that run, open it, and compare it with others.</div>"
)


@dataclass(frozen=True)
class RunsTab:
    """The components."""

    tab: Any
    text: Any
    status: Any
    order: Any
    count: Any
    table: Any
    more: Any
    message: Any
    details: Any
    acts: Any
    """What is there only while a run is chosen."""
    open: Any
    resume: Any
    stop: Any
    go_on: Any
    publish: Any
    checkpoints: Any
    download: Any
    file: Any
    """Holds the zip file that the browser is made to fetch."""
    delete: Any
    title: Any
    note: Any
    save: Any
    other: Any
    kind: Any
    comparison: Any
    curves: Any
    trash: Any
    trashed: Any
    restore: Any
    empty: Any
    sure: Any
    keep: Any
    clock: Any
    chosen: Any
    """The id of the run whose row was clicked."""
    seen: Any
    packed: Any
    """The folder of a zip file that is on its way."""
    most: Any
    """How many rows are shown at most."""


def build_runs(tab: Any, *, demo: bool = False) -> RunsTab:
    """Lay the tab out; it is filled when it is opened. A `demo` changes no run."""
    change: dict[str, Any] = {"visible": not demo}
    with gr.Row(elem_id="runs-filters", equal_height=False):
        text = gr.Textbox(
            label="Find", placeholder="Words in name, note, model, data or settings",
            elem_id="runs-find", min_width=220, scale=3,
        )  # fmt: skip
        status = gr.Dropdown(
            [("Any", ""), *((name.capitalize(), name) for name in get_args(RunStatus))], value="",
            label="Status", elem_id="runs-status", min_width=140, interactive=True,
        )  # fmt: skip
        order = gr.Dropdown(
            [(text, name) for name, text in ORDERS.items()], value="newest", label="Sorted by",
            elem_id="runs-order", min_width=200, interactive=True, scale=2,
        )  # fmt: skip
    count = gr.HTML("", elem_id="runs-count", js_on_load=None)
    table = gr.Dataframe(
        headers=HEADERS, datatype=KINDS, column_widths=WIDTHS, interactive=False, type="array",
        show_label=False, max_height=420, elem_id="runs-table", buttons=[],
        pinned_columns=1,
    )  # fmt: skip
    gr.HTML(LEGEND, elem_id="runs-legend", js_on_load=None)
    more = gr.Button("Show more", visible=False, size="sm", elem_id="runs-more")
    message = gr.HTML("", elem_id="runs-message", js_on_load=None)
    details = gr.HTML(NOTHING_CHOSEN, elem_id="run-details", js_on_load=None)
    with gr.Column(visible=False, elem_id="run-acts") as acts:
        with gr.Row(elem_id="run-buttons"):
            open_ = gr.Button("Open", variant="primary", elem_id="run-open", min_width=90)
            publish = gr.Button("Publish", elem_id="run-publish", min_width=90, **change)
            go_on = gr.Button("Continue from", elem_id="run-continue", min_width=120, **change)
            resume = gr.Button("Resume", elem_id="run-resume", min_width=90, **change)
            stop = gr.Button("Stop", elem_id="run-stop", min_width=90, **change)
            download = gr.Button("Download zip", elem_id="run-download", min_width=120, **change)
            delete = gr.Button("Delete", elem_id="run-delete", min_width=90, **change)
        checkpoints = gr.Checkbox(
            False, label="Download with checkpoints, to resume it on another machine",
            elem_id="run-checkpoints", container=False, **change,
        )  # fmt: skip
        file = gr.DownloadButton("zip", visible="hidden", elem_id="run-file")
        with gr.Row(elem_id="run-label", equal_height=False, **change):
            title = gr.Textbox(
                label="Name", max_length=LONGEST_TITLE, elem_id="run-title", min_width=200,
                info="Shown in place of the id, which stays.",
            )  # fmt: skip
            note = gr.Textbox(
                label="Note", max_length=LONGEST_NOTE, lines=1, max_lines=8, elem_id="run-note",
                min_width=260, scale=2, info="What you want to remember about it.",
            )  # fmt: skip
            save = gr.Button("Save", elem_id="run-save", min_width=110, scale=0)
        with gr.Row(elem_id="run-compare", equal_height=False):
            other = gr.Dropdown(
                [], value=None, label="Compare with", elem_id="run-other", interactive=True,
                allow_custom_value=True, min_width=260, scale=3,
            )  # fmt: skip
            kind = gr.Radio(
                [("Validation", "validation"), ("Train", "train")], value="validation",
                label="Loss drawn", elem_id="run-kind", min_width=200,
            )  # fmt: skip
        comparison = gr.HTML("", elem_id="run-comparison", js_on_load=None)
        curves = gr.HTML("", elem_id="run-curves", js_on_load=charts.HOVER)
    with gr.Accordion("Trash", open=False, visible=False, elem_id="runs-trash") as trash:
        trashed = gr.Dropdown(
            [], value=None, label="Deleted runs", elem_id="runs-trashed", interactive=True,
            allow_custom_value=True,
        )  # fmt: skip
        with gr.Row():
            restore = gr.Button("Restore", elem_id="runs-restore", min_width=110)
            empty = gr.Button("Empty the trash", elem_id="runs-empty", min_width=150)
            sure = gr.Button(
                "Delete for good", variant="stop", visible=False, elem_id="runs-sure",
                min_width=150,
            )  # fmt: skip
            keep = gr.Button("Keep them", visible=False, elem_id="runs-keep", min_width=110)
    clock = gr.Timer(LOOK_SECONDS, active=False)
    return RunsTab(
        tab, text, status, order, count, table, more, message, details, acts, open_, resume, stop,
        go_on, publish, checkpoints, download, file, delete, title, note, save, other, kind,
        comparison, curves, trash, trashed, restore, empty, sure, keep, clock, gr.State(""),
        gr.State({}), gr.Textbox("", visible=False), gr.State(PAGE),
    )  # fmt: skip
