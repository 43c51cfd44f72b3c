"""The fold around the panel that publishes, and the ways that lead there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from qa_lora.ui.engine import Engine
from qa_lora.ui.header import Header, run_choices
from qa_lora.ui.runs import RunsTab

__all__ = ["build_fold", "wire_fold"]

TITLE = "Publish to the Hugging Face Hub"
SHOW = """() => { let tries = 0; const look = () => {
  const fold = document.getElementById("publish-fold");
  const filled = document.querySelector("#runs-count p, #runs-count .empty");
  if (fold && fold.offsetParent && filled) setTimeout(() => fold.scrollIntoView(), 300);
  else if (tries++ < 100) setTimeout(look, 100); }; look(); }"""
"""Brings it into view once what stands above it has its height."""


def build_fold() -> Any:
    """An accordion; the panel is laid out in its context."""
    return gr.Accordion(TITLE, open=False, elem_id="publish-fold")


def wire_fold(
    engine: Engine,
    header: Header,
    tabs: Any,
    fold: Any,
    button: Any,
    runs_tab: RunsTab,
    refresh: Callable[[Any], Any],
) -> None:
    """Connect the buttons that open it.

    Args:
        engine: What the server holds.
        header: The shared header: its run in view is what is published.
        tabs: All tabs of the page.
        fold: What :func:`build_fold` gave.
        button: The one of the Train tab.
        runs_tab: The tab that it stands in, which has a button for the run that is chosen there.
        refresh: Called with an event to show the run in view right after it.
    """

    def title(run_id: str | None) -> str:
        """Names the run in view, for another one may be chosen in the table."""
        run = engine.find(run_id)
        return f"{TITLE}: {engine.name(run.id)}, the run in view" if run else TITLE

    def rename(run_id: str | None) -> Any:
        return gr.Accordion(label=title(run_id))

    def from_train() -> dict[Any, Any]:
        return {tabs: gr.Tabs(selected="runs"), fold: gr.Accordion(open=True)}

    def from_runs(run_id: str) -> dict[Any, Any]:
        """Bring the chosen run into view, and the panel too."""
        run = engine.find(run_id)
        if run is None:
            return {fold: gr.skip()}
        return {
            header.run: gr.Dropdown(choices=run_choices(engine, run.id), value=run.id),
            header.remembered: run.id,
            fold: gr.Accordion(label=title(run.id), open=True),
        }

    quiet: dict[str, Any] = {
        "show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None,
    }  # fmt: skip
    header.viewed.change(rename, header.viewed, fold, **quiet)
    wanted = button.click(from_train, None, [tabs, fold], **quiet)
    chosen = runs_tab.publish.click(
        from_runs, runs_tab.chosen, [header.run, header.remembered, fold], **quiet
    )
    refresh(chosen)
    for event in (wanted, chosen):
        event.then(None, js=SHOW, api_visibility="private")
