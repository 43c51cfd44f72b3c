"""A chat with all columns at once; each goes on from its own answers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from qa_lora.errors import QALoRAError
from qa_lora.ui.compare.asking import (
    MAX_COLUMNS,
    MAX_QUESTION,
    Asked,
    Ready,
    Stops,
    checked,
    chosen_systems,
    take_turn,
    usable_run,
)
from qa_lora.ui.compare.controls import SETTINGS, Controls
from qa_lora.ui.compare.panes import kinds, title_of
from qa_lora.ui.engine import Engine
from qa_lora.ui.header import Header
from qa_lora.ui.words import note

if TYPE_CHECKING:
    from qa_lora.answering import Answer

__all__ = ["Chat", "build_chat", "wire_chat"]

Update = dict[Any, Any]
Turns = dict[str, list[tuple[str, str]]]
"""Each system's turns as (question, answer), oldest first."""
FRAME_SECONDS = 0.15
PART = "chat"
NEW_CHAT = "Other columns or another run: a new chat begins."
PLACEHOLDER = "Say something below; every column answers from its own chat."


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
    bots: list[Any]
    talk: Any


def build_chat() -> Chat:
    """Lay them out."""
    status = gr.HTML("", elem_id="chat-status", js_on_load=None)
    with gr.Row(elem_id="chat-columns", equal_height=True):
        bots = [
            gr.Chatbot(
                label=title_of(name) if name else "", visible=bool(name), height=420,
                # What people and models say is text, nothing else.
                render_markdown=False, sanitize_html=True, latex_delimiters=[], buttons=["copy"],
                placeholder=PLACEHOLDER, feedback_options=None, allow_file_downloads=False,
                min_width=250, elem_id=f"chat-{i + 1}", elem_classes=["chat", f"is-{name}"],
                layout="bubble", autoscroll=True,
            )
            for i, name in enumerate(("base", "tuned", "", ""))
        ]  # fmt: skip
    assert len(bots) == MAX_COLUMNS
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
    return Chat(message, context, send, stop, clear, status, bots, gr.State(Talk()))


def wire_chat(engine: Engine, header: Header, controls: Controls, chat: Chat, stops: Stops) -> None:
    """Connect the events."""

    def columns_of(talk: Talk, pending: dict[str, tuple[str, str]] | None = None) -> Update:
        """All chatbots; `pending` holds each system's question and its answer so far."""
        of_kind = kinds(talk.systems)
        update: Update = {}
        for i, bot in enumerate(chat.bots):
            if i >= len(talk.turns):
                update[bot] = gr.Chatbot(visible=False, value=[])
                continue
            system, turns = talk.turns[i]
            said = [*turns, *([pending[system]] if pending and system in pending else [])]
            update[bot] = gr.Chatbot(
                visible=True, value=_messages(said), label=title_of(system),
                elem_classes=["chat", f"is-{of_kind[system]}"],
            )  # fmt: skip
        return update

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
        return {chat.talk: talk, **columns_of(talk)}

    def clear(request: gr.Request, run_id: str | None, columns: Sequence[str] | None) -> Update:
        stops.press(request.session_hash, PART)
        try:
            talk = fresh(run_id, columns)
        except QALoRAError as error:
            return {chat.status: note(str(error), "warn")}
        return {chat.talk: talk, chat.status: "", **columns_of(talk)}

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
        waiting = dict.fromkeys(talk.systems, (asked.question, "…"))
        yield {chat.message: "", chat.status: note(notice), **columns_of(talk, waiting)}
        try:
            with (
                stops.watched(request.session_hash, PART) as stop,
                closing(take_turn(engine, run_id, columns, SETTINGS, values, stop)) as steps,
            ):
                for step in steps:
                    if isinstance(step, str):
                        yield {chat.status: note(f"{notice} {step}".strip())}
                    else:
                        yield from _turn(step, talk, asked, notice, stop.is_set)
                        return
            yield {chat.message: asked.question, chat.status: note("Stopped."), **columns_of(talk)}
        except QALoRAError as error:
            yield {
                chat.message: asked.question,
                chat.status: note(str(error), "bad"),
                **columns_of(talk),
            }

    def _turn(
        ready: Ready, talk: Talk, asked: Asked, notice: str, stopped: Any
    ) -> Iterator[Update]:
        shown = 0.0
        answers: dict[str, Answer] = {}
        together = ready.answerer.answer_together(
            asked.question, asked.context, history=dict(talk.turns),
            systems=ready.systems, settings=ready.settings,
        )  # fmt: skip
        with closing(together):  # type: ignore[type-var]
            for last in together:
                answers = last.answers
                if stopped():
                    break
                now = time.monotonic()
                if last.done or now - shown < FRAME_SECONDS:
                    continue
                shown = now
                pending = {s: (asked.question, a.text or "…") for s, a in answers.items()}
                yield {chat.status: note("Answering…"), **columns_of(talk, pending)}
        said = {
            system: answers[system].text if system in answers else "" for system in talk.systems
        }
        grown = tuple((s, (*turns, (asked.question, said[s]))) for s, turns in talk.turns)
        told = {answer.notice: None for answer in answers.values() if answer.notice}
        talk = Talk(talk.run, grown)
        message = " ".join([notice, *told, "Stopped." if stopped() else ""]).strip()
        yield {chat.talk: talk, chat.status: note(message), **columns_of(talk)}

    def stop(request: gr.Request) -> None:
        stops.press(request.session_hash, PART)

    free: dict[str, Any] = {
        "show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None,
    }  # fmt: skip
    taken = [chat.talk, header.run, chat.message, chat.context, *controls.inputs()]
    shown = [chat.talk, chat.message, chat.status, *chat.bots]
    gr.on([chat.send.click, chat.message.submit], send, taken, shown, **free)
    chat.stop.click(stop, None, None, **free)
    seen = [header.run, controls.columns]
    chat.clear.click(clear, seen, [chat.talk, chat.status, *chat.bots], **free)
    gr.on(
        [header.run.change, controls.columns.change], follow, [*seen, chat.talk],
        [chat.talk, *chat.bots], **free,
    )  # fmt: skip


def _messages(turns: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    messages = []
    for question, answer in turns:
        messages.append({"role": "user", "content": question})
        messages.append({"role": "assistant", "content": answer or "(no words)"})
    return messages
