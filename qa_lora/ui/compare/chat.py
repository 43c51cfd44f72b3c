"""A chat with all columns at once; each goes on from its own answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from qa_lora.errors import QALoRAError
from qa_lora.ui.compare.asking import (
    MAX_QUESTION,
    Asked,
    Ready,
    Stop,
    Stops,
    checked,
    chosen_systems,
    paced,
    take_turn,
    usable_run,
)
from qa_lora.ui.compare.controls import SETTINGS, Controls
from qa_lora.ui.compare.panes import chat_html
from qa_lora.ui.engine import Engine
from qa_lora.ui.header import Header
from qa_lora.ui.words import note

if TYPE_CHECKING:
    from qa_lora.answering import Answer

__all__ = ["Chat", "build_chat", "wire_chat"]

Update = dict[Any, Any]
PART = "chat"
DOTS = "…"
NEW_CHAT = "Other columns or another run: a new chat begins."


@dataclass(frozen=True)
class Talk:
    """One page's chat, kept on the server."""

    run: str = ""
    turns: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    """For each system, in the order of the columns, its (question, answer) pairs."""

    @property
    def systems(self) -> tuple[str, ...]:
        """The columns it is held in."""
        return tuple(system for system, _ in self.turns)


@dataclass(frozen=True)
class Chat:
    """The components."""

    message: Any
    context: Any
    send: Any
    stop: Any
    clear: Any
    status: Any
    turns: Any
    talk: Any


def build_chat() -> Chat:
    """Lay them out."""
    turns = gr.HTML(
        chat_html({"base": (), "tuned": ()}), elem_id="chat-turns", js_on_load=None, autoscroll=True
    )
    status = gr.HTML("", elem_id="chat-status", js_on_load=None)
    with gr.Row(equal_height=False, elem_id="chat-form"):
        message = gr.Textbox(
            label="Your turn", lines=1, max_lines=6, max_length=MAX_QUESTION, scale=6,
            placeholder="Type and press Enter.", elem_id="chat-message", min_width=220,
        )  # fmt: skip
        send = gr.Button("Send", variant="primary", elem_id="chat-send", min_width=80, scale=1)
        stop = gr.Button("Stop", elem_id="chat-stop", min_width=70, scale=1)
        clear = gr.Button("New chat", elem_id="chat-clear", min_width=90, scale=1)
    with gr.Accordion("Context (optional)", open=False):
        context = gr.Textbox(
            label="Context", info="A passage that all columns read before every turn.",
            lines=3, max_lines=12, max_length=MAX_QUESTION, elem_id="chat-context",
        )  # fmt: skip
    return Chat(message, context, send, stop, clear, status, turns, gr.State(Talk()))


def wire_chat(engine: Engine, header: Header, controls: Controls, chat: Chat, stops: Stops) -> None:
    """Connect the events."""

    def shown_turns(talk: Talk, pending: Mapping[str, tuple[str, str]] | None = None) -> Update:
        """The chat; `pending` holds each system's question and its answer so far."""
        added = pending or {}
        said = {s: (*turns, *([added[s]] if s in added else [])) for s, turns in talk.turns}
        return {chat.turns: chat_html(said)}

    def fresh(run_id: str | None, columns: Sequence[str] | None) -> Talk:
        run = usable_run(engine, run_id)
        systems = chosen_systems(engine, run, columns)
        return Talk(run.id, tuple((system, ()) for system in systems))

    def follow(run_id: str | None, columns: Sequence[str] | None, talk: Talk) -> Update:
        """The columns or the run changed; a chat that has begun stays until the next turn."""
        if any(turns for _, turns in talk.turns):
            return {chat.talk: gr.skip()}
        try:
            talk = fresh(run_id, columns)
        except QALoRAError:
            return {chat.talk: gr.skip()}
        return {chat.talk: talk, **shown_turns(talk)}

    def clear(request: gr.Request, run_id: str | None, columns: Sequence[str] | None) -> Update:
        stops.press(request.session_hash, PART, drop=True)
        try:
            talk = fresh(run_id, columns)
        except QALoRAError as error:
            return {chat.status: note(str(error), "warn")}
        return {chat.talk: talk, chat.status: "", **shown_turns(talk)}

    def send(
        request: gr.Request,
        talk: Talk,
        run_id: str | None,
        message: str,
        context: str,
        columns: Sequence[str] | None,
        *values: Any,
    ) -> Iterator[Update]:
        try:
            asked = checked(message, context)
            begun = fresh(run_id, columns)
        except QALoRAError as error:
            yield {chat.status: note(str(error), "warn")}
            return
        notice = asked.notice
        if (talk.run, talk.systems) != (begun.run, begun.systems):
            notice = NEW_CHAT if any(turns for _, turns in talk.turns) else notice
            talk = begun
        waiting = dict.fromkeys(talk.systems, (asked.question, DOTS))
        stop = Stop()
        try:
            with (
                stops.watched(request.session_hash, PART) as stop,
                closing(take_turn(engine, run_id, columns, SETTINGS, values, stop)) as steps,
            ):
                first = note(f"{notice} Waiting…".strip())
                yield {chat.message: "", chat.status: first, **shown_turns(talk, waiting)}
                for step in steps:
                    if stop.dropped:
                        return
                    if isinstance(step, str):
                        yield {chat.status: note(f"{notice} {step}".strip())}
                    else:
                        yield from _turn(step, talk, asked, notice, stop)
                        return
            ended = note("Stopped.")
        except QALoRAError as error:
            ended = note(str(error), "bad")
        if not stop.dropped:
            yield {chat.message: asked.question, chat.status: ended, **shown_turns(talk)}

    def _turn(ready: Ready, talk: Talk, asked: Asked, notice: str, stop: Stop) -> Iterator[Update]:
        answers: dict[str, Answer] = {}
        together = ready.answerer.answer_together(
            asked.question, asked.context, history=dict(talk.turns),
            systems=ready.systems, settings=ready.settings,
        )  # fmt: skip
        with closing(paced(together, stop)) as frames:
            for last in frames:
                answers = last.answers
                if last.done or stop.is_set():
                    break
                pending = {s: (asked.question, a.text or DOTS) for s, a in answers.items()}
                yield {chat.status: note("Answering…"), **shown_turns(talk, pending)}
        if stop.dropped:
            return
        said = {
            system: answers[system].text if system in answers else "" for system in talk.systems
        }
        grown = tuple((s, (*turns, (asked.question, said[s]))) for s, turns in talk.turns)
        told = {answer.notice: None for answer in answers.values() if answer.notice}
        talk = Talk(talk.run, grown)
        message = " ".join([notice, *told, "Stopped." if stop.is_set() else ""]).strip()
        yield {chat.talk: talk, chat.status: note(message), **shown_turns(talk)}

    def stop(request: gr.Request) -> None:
        stops.press(request.session_hash, PART)

    free: dict[str, Any] = {
        "show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None,
    }  # fmt: skip
    taken = [chat.talk, header.run, chat.message, chat.context, *controls.inputs()]
    shown = [chat.talk, chat.message, chat.status, chat.turns]
    gr.on([chat.send.click, chat.message.submit], send, taken, shown, **free)
    chat.stop.click(stop, None, None, **free)
    seen = [header.run, controls.columns]
    chat.clear.click(clear, seen, [chat.talk, chat.status, chat.turns], **free)
    gr.on(
        [header.viewed.change, controls.columns.change], follow,
        [header.viewed, controls.columns, chat.talk],
        [chat.talk, chat.turns], **free,
    )  # fmt: skip
