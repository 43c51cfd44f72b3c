"""A finished evaluation: headline, tables, charts, rows and files to take away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from qa_lora.report.slices import SLICES
from qa_lora.ui import charts
from qa_lora.ui.evaluate.rows import FILTERS

__all__ = ["Results", "build_results"]

Update = dict[Any, Any]
PAGE = 20
NOTHING = (
    '<div class="empty"><b>Nothing scored yet</b>Press Score to answer held-out questions with '
    "base and tuned model and compare them with the references.</div>"
)


@dataclass(frozen=True)
class Results:
    """The components below the form."""

    known: Any
    """Which evaluation was the newest when the page last heard of it."""
    past: Any
    headline: Any
    metrics: Any
    beside: Any
    options: Any
    system: Any
    metric: Any
    by: Any
    both: Any
    gain: Any
    scatter: Any
    parts: Any
    filters: Any
    which: Any
    table: Any
    more: Any
    shown: Any
    files: Any
    as_csv: Any
    as_json: Any
    as_parquet: Any
    as_report: Any

    def view(self) -> list[Any]:
        """What decides what is seen of the run in view."""
        return [self.past, self.system, self.metric, self.by, self.which]

    def heard(self) -> list[Any]:
        """What decides what is seen when there is news."""
        return [self.known, *self.view()]

    def looks(self) -> list[Any]:
        """What changes with the selectors."""
        return [
            self.metrics, self.gain, self.scatter, self.parts, self.table, self.more, self.shown,
        ]  # fmt: skip

    def all(self) -> list[Any]:
        """What changes when another evaluation is shown."""
        return [
            *self.looks(), self.known, self.past, self.headline, self.beside, self.options,
            self.system, self.metric, self.both, self.filters, self.files, self.as_csv,
            self.as_json, self.as_parquet, self.as_report,
        ]  # fmt: skip


def build_results() -> Results:
    """Lay them out."""
    known = gr.State("")
    past = gr.Dropdown(
        [], label="Finished evaluations", elem_id="past", interactive=True,
        allow_custom_value=True,
    )  # fmt: skip
    headline = gr.HTML(NOTHING, elem_id="headline", js_on_load=None)
    with gr.Row(visible=False, elem_id="options", equal_height=False) as options:
        system = gr.Dropdown(
            [], label="Adapter", elem_id="system", min_width=190, interactive=True, visible=False
        )
        metric = gr.Dropdown(
            [("ROUGE-L", "rougeL")], value="rougeL", label="Metric of charts and rows",
            elem_id="metric", min_width=170, interactive=True,
        )  # fmt: skip
        by = gr.Dropdown(
            [(name.capitalize(), name) for name in SLICES], value=SLICES[1], label="Parts by",
            elem_id="by", min_width=170, interactive=True,
        )  # fmt: skip
    metrics = gr.HTML("", elem_id="metrics", js_on_load=None)
    with gr.Row(visible=False, elem_id="score-charts") as both:
        gain = gr.HTML("", elem_id="gain", min_width=300, js_on_load=charts.HOVER)
        scatter = gr.HTML("", elem_id="scatter", min_width=300, js_on_load=charts.HOVER)
    with gr.Row(elem_id="more-numbers"):
        parts = gr.HTML("", elem_id="parts", js_on_load=None, min_width=320)
        beside = gr.HTML("", elem_id="beside", js_on_load=None, min_width=280)
    with gr.Row(visible=False, elem_id="files", equal_height=False) as files:
        buttons = [
            gr.DownloadButton(label, elem_id=name, min_width=100, size="md")
            for label, name in (
                ("CSV", "as-csv"), ("JSON", "as-json"), ("Parquet", "as-parquet"),
                ("Report (Markdown, plots)", "as-report"),
            )
        ]  # fmt: skip
    with gr.Row(visible=False, elem_id="filters", equal_height=False) as filters:
        which = gr.Radio(
            list(FILTERS), value="Best", label="Rows shown", elem_id="which", min_width=290
        )
    table = gr.HTML("", elem_id="row-table", js_on_load=None)
    more = gr.Button("Show more", visible=False, elem_id="more")
    shown = gr.State(PAGE)
    return Results(
        known, past, headline, metrics, beside, options, system, metric, by, both, gain, scatter,
        parts, filters, which, table, more, shown, files, *buttons,
    )  # fmt: skip
