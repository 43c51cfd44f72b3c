"""Evaluations read and drawn, for all pages of the server."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from qa_lora.errors import QALoRAError
from qa_lora.report import BASE, TUNED, Report, list_reports, read_report
from qa_lora.report.slices import SLICES
from qa_lora.runs import Run
from qa_lora.ui.engine import Engine
from qa_lora.ui.evaluate.charts import gain_chart, scatter_chart
from qa_lora.ui.evaluate.exports import write_downloads
from qa_lora.ui.evaluate.metrics import metric_name
from qa_lora.ui.evaluate.results import NOTHING, PAGE, Results
from qa_lora.ui.evaluate.rows import chosen_rows, rows_html
from qa_lora.ui.evaluate.table import (
    beside_html,
    headline_html,
    metrics_html,
    slices_html,
    system_name,
)
from qa_lora.ui.words import note

__all__ = ["Shown", "wire_results"]

Update = dict[Any, Any]
MOST_LISTED = 30
NO_ADAPTER = (
    '<div class="empty"><b>This run has no adapter yet</b>Open Train and press Start, or choose '
    "another run on top.</div>"
)


class Shown:
    """Reads and draws evaluations for all pages.

    Args:
        engine: What the server holds.
        tab: The components.
        downloads: A folder of this process for the files that are offered.
    """

    def __init__(self, engine: Engine, tab: Results, downloads: Path) -> None:
        self.engine = engine
        self.tab = tab
        self.downloads = downloads
        self._read = lru_cache(maxsize=4)(_read)
        self._numbers = lru_cache(maxsize=256)(_numbers)

    def show(
        self,
        run_id: str | None,
        known: str | None,
        number: object,
        *view: Any,
    ) -> Update:
        """One finished evaluation of the run: the newest, if the page has not heard of it.

        Args:
            run_id: The run in view.
            known: The newest that the page has heard of.
            number: The evaluation that it shows.
            view: How it is looked at, as :meth:`pick` takes it.
        """
        run = self.engine.find(run_id)
        heard = run is not None and known == _newest(run, list_reports(run.evaluations_dir))
        return self.pick(run_id, number if heard else None, *view)

    def pick(
        self,
        run_id: str | None,
        number: object,
        system: str | None,
        metric: str,
        by: str,
        which: str,
    ) -> Update:
        """The evaluation that was chosen; the newest, if it is not there.

        Args:
            run_id: The run in view.
            number: The evaluation.
            system: Which adapter of it is looked at.
            metric: By which metric.
            by: How its questions are cut into parts.
            which: Which rows are shown.
        """
        tab = self.tab
        run = self.engine.find(run_id)
        numbers = list_reports(run.evaluations_dir) if run else []
        known = _newest(run, numbers) if run else ""
        if number not in numbers:
            number = numbers[-1] if numbers else None
        hidden: Update = {
            tab.known: known,
            tab.past: gr.Dropdown(choices=[], value=None),
            tab.options: gr.Row(visible=False),
            tab.both: gr.Row(visible=False),
            tab.filters: gr.Row(visible=False),
            tab.files: gr.Row(visible=False),
            tab.more: gr.Button(visible=False),
            **dict.fromkeys([tab.metrics, tab.beside, tab.parts, tab.table], ""),
        }
        if run is None or not isinstance(number, int):
            ready = run is not None and run.has_adapter() and not run.alive()
            return {**hidden, tab.headline: NOTHING if ready else NO_ADAPTER}
        try:
            folder = run.evaluations_dir
            state = _state(folder, number)
            report = self._read(folder, number, state)
            choices = [(self._label(folder, n), n) for n in reversed(numbers[-MOST_LISTED:])]
            if number not in numbers[-MOST_LISTED:]:
                choices.append((self._label(folder, number), number))
            name, own = f"{run.id}-evaluation-{number}", folder / f"{number}.parquet"
            files = write_downloads(report, name, self.downloads / str(state), own)
        except (QALoRAError, OSError) as error:
            return {**hidden, tab.headline: note(str(error), "bad")}
        adapters = [name for name in report.systems if name != BASE]
        system = system if system in adapters else TUNED
        metric = metric if metric in report.metrics else "rougeL"
        named = [(system_name(n) if n != TUNED else f"Tuned ({run.id})", n) for n in adapters]
        return {
            tab.known: known,
            tab.past: gr.Dropdown(choices=choices, value=number),
            tab.headline: headline_html(report, run.id),
            tab.beside: beside_html(report),
            tab.options: gr.Row(visible=True),
            tab.system: gr.Dropdown(choices=named, value=system, visible=len(adapters) > 1),
            tab.metric: gr.Dropdown(
                choices=[(metric_name(name), name) for name in report.metrics], value=metric
            ),
            tab.both: gr.Row(visible=True),
            tab.filters: gr.Row(visible=True),
            tab.files: gr.Row(visible=True),
            tab.as_csv: files.csv,
            tab.as_json: files.json,
            tab.as_parquet: gr.DownloadButton(
                value=files.parquet, visible=files.parquet is not None
            ),
            tab.as_report: files.report,
            **self.look(run_id, number, system, metric, by, which),
        }

    def look(
        self,
        run_id: str | None,
        number: object,
        system: str,
        metric: str,
        by: str,
        which: str,
        shown: int = PAGE,
    ) -> Update:
        """The evaluation in view as the selectors say."""
        tab, run = self.tab, self.engine.find(run_id)
        if not isinstance(number, int) or run is None:
            return {tab.table: ""}
        try:
            folder = run.evaluations_dir
            report = self._read(folder, number, _state(folder, number))
        except (QALoRAError, OSError) as error:
            return {tab.table: note(str(error), "bad")}
        system = system if system in report.systems[1:] else TUNED
        metric = metric if metric in report.metrics else "rougeL"
        by = by if by in SLICES else SLICES[0]
        chosen = chosen_rows(report, which, metric, system)
        rows = [row for row in report.examples if row.gain(metric, system) is not None]
        texts = [row.question for row in rows]
        base, other = ([row.scores[who][metric] for row in rows] for who in (BASE, system))
        gains = [b - a for a, b in zip(base, other, strict=True)]
        name = metric_name(metric)
        return {
            tab.metrics: metrics_html(report, system),
            tab.gain: gain_chart(gains, texts, name),
            tab.scatter: scatter_chart(base, other, texts, name),
            tab.parts: slices_html(report.slices(by, metric, system), metric, by),
            tab.table: rows_html(chosen, metric, shown, system),
            tab.more: gr.Button(visible=len(chosen) > shown),
            tab.shown: shown,
        }

    def more(
        self,
        run_id: str | None,
        number: object,
        system: str,
        metric: str,
        by: str,
        which: str,
        shown: int,
    ) -> Update:
        """The same with more rows."""
        return self.look(run_id, number, system, metric, by, which, shown + PAGE)

    def _label(self, folder: Path, number: int) -> str:
        return self._numbers(folder, number, _state(folder, number))


def _newest(run: Run, numbers: list[int]) -> str:
    """Which of a run's evaluations is the newest; no other one has this name."""
    with suppress(OSError):  # it may have been deleted meanwhile
        if numbers:
            return f"{run.id} {numbers[-1]} {_state(run.evaluations_dir, numbers[-1])}"
    return run.id


def _state(folder: Path, number: int) -> int:
    """What changes when a number is given again, after the evaluation that had it was deleted."""
    return (folder / f"{number}.json").stat().st_mtime_ns


def _read(folder: Path, number: int, state: int) -> Report:
    return read_report(folder, number)


def _numbers(folder: Path, number: int, state: int) -> str:
    """A finished evaluation in a list."""
    try:
        report = read_report(folder, number, examples=False)
    except QALoRAError:
        return f"{number}: damaged"
    gain = report.difference["rougeL"]["mean"]
    of, stopped = ("", "") if report.complete else (f" of {report.asked:,}", " (stopped)")
    what = str(report.settings.get("data", "file")) if report.split == "file" else report.split
    others = len(report.systems) - 2
    more = f", {others} other adapter{'s' * (others > 1)}" if others else ""
    return f"{number}: {what}, {report.rows:,}{of} questions{stopped}, ROUGE-L {gain:+.2f}{more}"


def wire_results(run: Any, tab: Results, shown: Shown, quiet: dict[str, Any]) -> None:
    """Connect their events.

    Args:
        run: The component of the run in view.
        tab: The components.
        shown: Draws them.
        quiet: How handlers that compute little are connected.
    """
    looked = [run, *tab.view()]
    selectors = [tab.system.input, tab.metric.input, tab.by.input, tab.which.change]
    tab.past.input(shown.pick, looked, tab.all(), **quiet)
    gr.on(selectors, shown.look, looked, tab.looks(), trigger_mode="always_last", **quiet)
    tab.more.click(shown.more, [*looked, tab.shown], tab.looks(), **quiet)
