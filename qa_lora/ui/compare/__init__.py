"""The Compare tab: base and tuned answers side by side, as questions, chats, batches and votes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from qa_lora.ui.add_adapter import wire_add_adapter
from qa_lora.ui.compare.ask import Ask, build_ask, offered_questions, wire_ask
from qa_lora.ui.compare.asking import Stops
from qa_lora.ui.compare.blind import Blind, build_blind, wire_blind
from qa_lora.ui.compare.chat import Chat, build_chat, wire_chat
from qa_lora.ui.compare.controls import Controls, build_controls, offered_columns, wire_controls
from qa_lora.ui.compare.probes import Probes, build_probes, wire_probes
from qa_lora.ui.compare.shown_votes import shown_tally
from qa_lora.ui.engine import Engine
from qa_lora.ui.header import Header

__all__ = ["CompareTab", "build_compare", "wire_compare"]


@dataclass(frozen=True)
class CompareTab:
    """The tab and its parts."""

    tab: Any
    controls: Controls
    ask: Ask
    chat: Chat
    probes: Probes
    blind: Blind


def build_compare(tab: Any, *, demo: bool = False) -> CompareTab:
    """Lay the tab out; in a `demo` without what changes something."""
    controls = build_controls(demo=demo)
    with gr.Tabs(elem_id="compare-parts"):
        with gr.Tab("Ask", id="ask-part"):
            ask = build_ask()
        with gr.Tab("Chat", id="chat-part"):
            chat = build_chat()
        with gr.Tab("Batch", id="probe-part"):
            probes = build_probes()
        with gr.Tab("Blind test", id="blind-part"):
            blind = build_blind()
    return CompareTab(tab, controls, ask, chat, probes, blind)


def wire_compare(
    engine: Engine, header: Header, tab: CompareTab, downloads: Path
) -> Callable[[gr.Request], None]:
    """Connect the tab's events.

    Args:
        engine: What the server holds.
        header: The shared header.
        tab: The components.
        downloads: A folder of this process for the files that are offered.

    Returns:
        What is to be called when a page is closed.
    """
    controls, ask, blind = tab.controls, tab.ask, tab.blind
    stops = Stops()

    def open_tab(
        run_id: str | None, columns: Sequence[str] | None, longest: int | None
    ) -> dict[Any, Any]:
        """The tab comes into view, or another run does."""
        return {
            **offered_columns(engine, controls, run_id, columns, longest, again=True),
            **offered_questions(engine, ask, run_id),
            **shown_tally(engine, blind, run_id, downloads),
        }

    opened = [
        controls.columns, controls.message, controls.effect, controls.settings["max_new_tokens"],
        controls.longest, ask.chips, ask.ask, ask.surprise, ask.status,
        blind.tally, blind.as_csv, blind.as_json,
    ]  # fmt: skip
    free: dict[str, Any] = {
        "show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None,
    }  # fmt: skip
    gr.on(
        [tab.tab.select, header.viewed.change], open_tab,
        [header.viewed, controls.columns, controls.longest], opened,
        trigger_mode="always_last", **free,
    )  # fmt: skip

    def offer(run_id: str | None, columns: Sequence[str] | None) -> dict[Any, Any]:
        """The columns that there are now: an adapter was added or removed."""
        found = offered_columns(engine, controls, run_id, columns, None)
        return {controls.columns: found.get(controls.columns, gr.skip())}

    wire_add_adapter(
        engine, header.viewed, controls.add_adapter, controls.columns, offer,
        [tab.tab.select, header.viewed.change],
    )  # fmt: skip
    answered = wire_ask(engine, header, controls, ask, stops)
    wire_chat(engine, header, controls, tab.chat, stops)
    wire_probes(engine, header, controls, tab.probes, stops, downloads)
    wire_blind(engine, header, controls, blind, stops, downloads)
    wire_controls(engine, header, controls, answered, stops)

    def leave(request: gr.Request) -> None:
        stops.leave(request.session_hash)

    return leave
