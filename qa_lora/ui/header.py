"""The line on top: which run is in view, what computes here, and whether it is busy."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from qa_lora.hub_downloads import describe, under_way
from qa_lora.turns import ordinal
from qa_lora.ui.engine import Engine, Listed

__all__ = ["Header", "build_header", "choose_run", "device_html", "light_html", "run_choices"]

MOST_OFFERED = 200
"""Runs in the selector: a page gets all of them again when one changes."""
_BRAND = "<h1>QA <span>LoRA</span></h1>"


@dataclass(frozen=True)
class Header:
    """The components of the header, shared by all tabs."""

    run: Any
    device: Any
    light: Any
    remembered: Any
    """The chosen run's id, in the browser's storage; whoever sits there can change it."""
    viewed: Any
    """The id of the run that the page shows.

    It changes only when another run comes into view. The selector says that it changed also when
    only its list did. What happens when it changes reads the run from here, too: the selector's
    value may come to the page a moment later.
    """


def build_header(engine: Engine) -> Header:
    """Lay the header out."""
    with gr.Row(elem_id="header"):
        gr.HTML(_BRAND, elem_id="brand", js_on_load=None)
        run = gr.Dropdown(
            run_choices(engine),
            value=choose_run(engine, None),
            label="Run in view",
            show_label=False,
            container=False,
            elem_id="run",
            interactive=True,
            # Else gradio refuses a page whose run another visitor's news has just replaced; what
            # comes in is looked up in the folder anyway.
            allow_custom_value=True,
        )
        device = gr.HTML(device_html(engine), elem_id="device", js_on_load=None)
        light = gr.HTML(light_html(engine), elem_id="light", js_on_load=None)
        if engine.serving.duplicate_url:
            gr.HTML(_duplicate_html(engine), elem_id="duplicate", js_on_load=None)
        if engine.serving.sign_in:
            gr.LoginButton(elem_id="login", size="sm", min_width=120, scale=0)
    remembered = gr.BrowserState(None, storage_key="qa-lora-run", secret="qa-lora")
    return Header(run, device, light, remembered, gr.State(""))


def run_choices(engine: Engine, chosen: str | None = None) -> list[tuple[str, str]]:
    """The runs as (label, id), newest first; a label says what is unusual about a run.

    Args:
        engine: What the server holds.
        chosen: A run that is offered, too, if it is none of the :data:`MOST_OFFERED` newest. An
            older one is opened from the Runs tab, or by its id.
    """
    offered = [
        item
        for place, item in enumerate(engine.listed())
        if place < MOST_OFFERED or item.alive or item.run.id == chosen
    ]
    return [(_label(engine, item), item.run.id) for item in offered] or [("no run yet", "")]


def _label(engine: Engine, item: Listed) -> str:
    if item.status == "finished":
        return item.name
    place = engine.place(item.run)
    return f"{item.name} · {item.status}{f' ({ordinal(place)})' if place else ''}"


def choose_run(engine: Engine, remembered: object) -> str:
    """The run a page opens with: the one it showed last, else the busy one, else the newest.

    Returns:
        A run's id; empty when there are no runs.
    """
    if isinstance(remembered, str) and engine.find(remembered):
        return remembered
    active = engine.active()
    if active is not None:
        return active.id
    listed = engine.listed()
    return listed[0].run.id if listed else ""


def device_html(engine: Engine) -> str:
    """What computes here."""
    title = "Where models run on this machine, and the number format of their weights."
    return f'<span class="device" title="{title}">{escape(engine.device)}</span>'


def light_html(engine: Engine) -> str:
    """Idle, or what is going on and how far it is."""
    active, job = engine.at_work(), engine.busy_job()
    kind, text, title = "", "idle", "Nothing is being trained or scored."
    if active is not None:
        progress = engine.followers.progress(active)
        kind, title = "on", f"{_named(engine, active.id)} is at work."
        if progress.scoring is not None:
            share = progress.scoring.done / max(1, progress.scoring.total)
            text = f"scoring {share:.0%}"
        elif progress.downloading is not None:
            event = progress.downloading
            text = f"downloading {100 * event.bytes_done // max(1, event.bytes_total)}%"
            said = describe(event.model, event.bytes_done, event.bytes_total)
            title = f"Run {active.id} is downloading {said}."
        elif progress.started is None:
            text = "starting"
        elif progress.finished is not None:
            text = "finishing"
        else:
            text = f"training {progress.fraction():.0%}"
    elif downloads := under_way():
        first = downloads[0]
        # Strangers do not learn from each other's pages what the others use.
        named = "" if engine.serving.public else f" {describe(first.repo, first.done, first.total)}"
        kind, title = "on", f"Downloading{named}."
        text = f"downloading {100 * first.done // max(1, first.total)}%"
    elif job is not None:
        kind, title = "on", f"{_named(engine, job.run_id)} is being scored."
        text = f"scoring {job.done / job.total:.0%}" if job.total else "scoring"
    if waiting := engine.waiting():
        text = f"{text} · {waiting} waiting" if kind else f"{waiting} waiting"
    label = escape(text.replace("%", " %"))
    return f'<span class="light {kind}" role="status" title="{escape(title)}"><i></i>{label}</span>'


def _named(engine: Engine, run_id: str) -> str:
    """A run by its id, if the visitor may know it."""
    return f"Run {run_id}" if engine.find(run_id) else "Another visitor's run"


def _duplicate_html(engine: Engine) -> str:
    """A link that copies the Space; its id was checked when the settings were read."""
    url = engine.serving.duplicate_url
    if not url:
        return ""
    return (
        f'<a class="duplicate" href="{escape(url)}" target="_blank" rel="noopener" '
        'title="A copy of this app under your own account.">Duplicate this Space</a>'
    )
