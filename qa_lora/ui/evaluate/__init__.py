"""The Evaluate tab: score questions, look at what was scored, compare runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from qa_lora.ui.engine import Engine
from qa_lora.ui.evaluate.board import BoardTab, build_board, wire_board
from qa_lora.ui.evaluate.form import Form, build_form, wire_form
from qa_lora.ui.evaluate.results import Results, build_results
from qa_lora.ui.evaluate.shown import Shown, wire_results
from qa_lora.ui.header import Header

__all__ = ["EvaluateTab", "build_evaluate", "wire_evaluate"]


@dataclass(frozen=True)
class EvaluateTab:
    """The tab's parts."""

    tab: Any
    form: Form
    results: Results
    board: BoardTab


def build_evaluate(tab: Any, *, demo: bool = False) -> EvaluateTab:
    """Lay the tab out; in a `demo` without what changes something."""
    with gr.Tabs(elem_id="evaluate-tabs"):
        with gr.Tab("This run", id="this-run"):
            form = build_form(demo=demo)
            results = build_results()
        with gr.Tab("Leaderboard", id="leaderboard") as leaderboard:
            board = build_board(leaderboard)
    return EvaluateTab(tab, form, results, board)


def wire_evaluate(engine: Engine, header: Header, tab: EvaluateTab, downloads: Path) -> None:
    """Connect the tab's events.

    Args:
        engine: What the server holds.
        header: The shared header.
        tab: The components.
        downloads: A folder of this process for the files that are offered.
    """
    quiet: dict[str, Any] = {
        "show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None,
    }  # fmt: skip
    run = header.run
    shown = Shown(engine, tab.results, downloads)
    opened = [tab.tab.select, header.viewed.change]
    wire_results(run, tab.results, shown, quiet)
    wire_form(
        engine,
        run,
        tab.form,
        [header.viewed, *tab.results.heard()],
        shown.show,
        tab.results.all(),
        opened,
    )
    wire_board(engine, run, tab.board, [tab.board.tab.select])
