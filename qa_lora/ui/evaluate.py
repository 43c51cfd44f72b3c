"""The Evaluate tab: score held-out rows, or open what was scored before."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from qa_lora.errors import QALoRAError
from qa_lora.report import Report
from qa_lora.report_files import list_reports, load_report
from qa_lora.ui import charts
from qa_lora.ui import evaluate_view as view
from qa_lora.ui.engine import Engine
from qa_lora.ui.export import write_downloads
from qa_lora.ui.header import Header
from qa_lora.ui.train_view import headline_html
from qa_lora.ui.words import note

__all__ = ["EvaluateTab", "build_evaluate", "wire_evaluate"]

Update = dict[Any, Any]
PAGE = 20
NOTHING = (
    '<div class="empty"><b>Nothing scored yet</b>Press Score to answer held-out questions with '
    "base and tuned model and compare them with the references.</div>"
)
NO_ADAPTER = (
    '<div class="empty"><b>This run has no adapter yet</b>Open Train and press Start, or choose '
    "another run on top.</div>"
)
SPLITS = [
    ("test: never seen in training", "test"),
    ("validation", "validation"),
    ("train", "train"),
]
METRICS = ["rougeL", "rouge1", "rouge2", "rougeLsum", "rougeSU4", "f1", "exact_match"]


@dataclass(frozen=True)
class EvaluateTab:
    """The tab's components."""

    tab: Any
    split: Any
    rows: Any
    start: Any
    past: Any
    clock: Any
    progress: Any
    headline: Any
    metrics: Any
    charts: Any
    gain: Any
    scatter: Any
    options: Any
    which: Any
    metric: Any
    table: Any
    more: Any
    shown: Any
    as_csv: Any
    as_json: Any

    def result(self) -> list[Any]:
        """What changes when another evaluation is shown."""
        return [
            self.past, self.headline, self.metrics, self.charts, self.gain, self.scatter,
            self.options, self.table, self.more, self.shown, self.as_csv, self.as_json, self.start,
        ]  # fmt: skip


def build_evaluate(tab: Any) -> EvaluateTab:
    """Lay the tab out."""
    with gr.Row(equal_height=False, elem_id="evaluate-form"):
        split = gr.Dropdown(
            SPLITS, value="test", label="Questions", elem_id="split", min_width=170, scale=3
        )
        rows = gr.Number(
            200,
            label="At most, rows",
            minimum=1,
            precision=0,
            placeholder="all",
            elem_id="rows",
            min_width=110,
        )
        past = gr.Dropdown(
            [], label="Finished evaluations", elem_id="past", interactive=True,
            allow_custom_value=True, min_width=190, scale=3,
        )  # fmt: skip
        start = gr.Button("Score", variant="primary", elem_id="score", min_width=110)
    clock = gr.Timer(0.5, active=False)
    progress = gr.HTML("", elem_id="progress", js_on_load=None)
    headline = gr.HTML(NOTHING, elem_id="headline", js_on_load=None)
    metrics = gr.HTML("", elem_id="metrics", js_on_load=None)
    with gr.Row(visible=False, elem_id="options", equal_height=False) as options:
        which = gr.Radio(
            list(view.FILTERS),
            value="Best",
            label="Rows shown",
            elem_id="which",
            scale=3,
            min_width=290,
        )
        metric = gr.Dropdown(
            [(view.metric_name(m), m) for m in METRICS], value="rougeL", label="Sorted by gain in",
            elem_id="metric", min_width=150, interactive=True, scale=2,
        )  # fmt: skip
        as_csv = gr.DownloadButton("Download CSV", elem_id="as-csv", min_width=120, size="md")
        as_json = gr.DownloadButton("Download JSON", elem_id="as-json", min_width=120, size="md")
    with gr.Row(visible=False, elem_id="score-charts") as both:
        gain = gr.HTML("", elem_id="gain", min_width=300, js_on_load=charts.HOVER)
        scatter = gr.HTML("", elem_id="scatter", min_width=300, js_on_load=charts.HOVER)
    table = gr.HTML("", elem_id="row-table", js_on_load=None)
    more = gr.Button("Show more", visible=False, elem_id="more")
    shown = gr.State(PAGE)
    return EvaluateTab(
        tab, split, rows, start, past, clock, progress, headline, metrics, both, gain, scatter,
        options, which, metric, table, more, shown, as_csv, as_json,
    )  # fmt: skip


def wire_evaluate(engine: Engine, header: Header, tab: EvaluateTab, downloads: Path) -> None:
    """Connect the tab's events.

    Args:
        engine: What the server holds.
        header: The shared header.
        tab: The components.
        downloads: A folder of this process for the files that are offered.
    """

    @lru_cache(maxsize=4)
    def read(run_id: str, number: int) -> Report:
        run = engine.find(run_id)
        if run is None:
            raise QALoRAError(f"There is no run {run_id}.")
        return load_report(run, number)

    def show(run_id: str | None, number: object, which: str, metric: str) -> Update:
        """One finished evaluation of the run; the newest unless another one was chosen."""
        run = engine.find(run_id)
        numbers = list_reports(run.evaluations_dir) if run else []
        ready = run is not None and run.has_adapter() and not run.alive()
        number = number if number in numbers else (numbers[-1] if numbers else None)
        hidden = {
            tab.past: gr.Dropdown(choices=[], value=None),
            tab.metrics: "",
            tab.charts: gr.Row(visible=False),
            tab.options: gr.Row(visible=False),
            tab.table: "",
            tab.more: gr.Button(visible=False),
            tab.start: gr.Button(interactive=ready),
        }
        if run is None or not isinstance(number, int):
            return {**hidden, tab.headline: NOTHING if ready else NO_ADAPTER}
        try:
            report = read(run.id, number)
            choices = [(_label(read(run.id, n)), n) for n in reversed(numbers[-30:])]
            as_csv, as_json = write_downloads(report, f"{run.id}-evaluation-{number}", downloads)
        except (QALoRAError, OSError) as error:
            return {**hidden, tab.headline: note(str(error), "bad")}
        return {
            tab.past: gr.Dropdown(choices=choices, value=number),
            tab.headline: headline_html(
                report.rows, report.base, report.tuned, report.difference, report.split
            ),
            tab.metrics: view.metrics_html(report),
            tab.charts: gr.Row(visible=True),
            tab.options: gr.Row(visible=True),
            tab.as_csv: as_csv,
            tab.as_json: as_json,
            tab.start: gr.Button(interactive=ready),
            **rows(run_id, number, which, metric, PAGE),
        }

    def rows(run_id: str | None, number: object, which: str, metric: str, shown: int) -> Update:
        """Charts and rows of the evaluation in view."""
        if not isinstance(number, int) or run_id is None:
            return {tab.table: ""}
        report = read(run_id, number)
        chosen = view.chosen_rows(report, which, metric)
        texts = [row.question for row in report.examples]
        base = [row.base_scores.get(metric, 0.0) for row in report.examples]
        tuned = [row.tuned_scores.get(metric, 0.0) for row in report.examples]
        gains = [b - a for a, b in zip(base, tuned, strict=True)]
        name = view.metric_name(metric)
        return {
            tab.gain: charts.gain_chart(gains, texts, name),
            tab.scatter: charts.scatter_chart(base, tuned, texts, name),
            tab.table: view.rows_html(chosen, metric, shown),
            tab.more: gr.Button(visible=len(chosen) > shown),
            tab.shown: shown,
        }

    def more(run_id: str | None, number: object, which: str, metric: str, shown: int) -> Update:
        return rows(run_id, number, which, metric, shown + PAGE)

    def first(run_id: str | None, number: object, which: str, metric: str) -> Update:
        return rows(run_id, number, which, metric, PAGE)

    def start(run_id: str | None, split: str, limit: float | None) -> Update:
        run = engine.find(run_id)
        if run is None or not run.has_adapter():
            return {tab.progress: note("This run has no adapter yet.", "warn")}
        if limit is not None and limit < 1:
            return {tab.progress: note("Rows must be 1 or more; leave it empty for all.", "bad")}
        try:
            job = engine.score(run, split, int(limit) if limit else None)
        except QALoRAError as error:
            return {tab.progress: note(str(error), "warn"), tab.clock: gr.Timer(active=True)}
        return {
            tab.progress: view.job_html(job),
            tab.clock: gr.Timer(active=True),
            tab.start: gr.Button(interactive=False),
        }

    def tick(run_id: str | None, number: object, which: str, metric: str) -> Update:
        """Progress of a scoring; its result once it is there."""
        job = engine.jobs.get(run_id or "")
        busy = job is not None and job.busy
        update: Update = {tab.progress: view.job_html(job)}
        if not busy:
            newest = job.number if job is not None and job.state == "done" else number
            update |= show(run_id, newest, which, metric)
            update[tab.clock] = gr.Timer(active=False)
        return update

    def open_tab(run_id: str | None, number: object, which: str, metric: str) -> Update:
        """The tab comes into view, or another run does: a scoring may be under way."""
        job = engine.jobs.get(run_id or "")
        if job is not None and job.busy:
            return {
                **show(run_id, number, which, metric),
                tab.start: gr.Button(interactive=False),
                tab.progress: view.job_html(job),
                tab.clock: gr.Timer(active=True),
            }
        return {**show(run_id, number, which, metric), tab.progress: ""}

    quiet: dict[str, Any] = {
        "show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None,
    }  # fmt: skip
    looked = [header.run, tab.past, tab.which, tab.metric]
    everything = [*tab.result(), tab.progress, tab.clock]
    tab.start.click(
        start, [header.run, tab.split, tab.rows], [tab.progress, tab.clock, tab.start], **quiet
    )
    tab.clock.tick(tick, looked, everything, **quiet)
    gr.on([tab.tab.select, header.run.change], open_tab, looked, everything, **quiet)
    tab.past.input(show, looked, tab.result(), **quiet)
    listed = [tab.gain, tab.scatter, tab.table, tab.more, tab.shown]
    gr.on([tab.which.change, tab.metric.change], first, looked, listed, **quiet)
    tab.more.click(more, [*looked, tab.shown], listed, **quiet)


def _label(report: Report) -> str:
    """A finished evaluation in a list."""
    gain = report.difference["rougeL"]["mean"]
    return f"{report.number}: {report.split}, {report.rows:,} questions, ROUGE-L {gain:+.2f}"
