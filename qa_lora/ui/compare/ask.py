"""One question to all columns at once; the answers grow together, then differences are marked."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
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
    chosen_systems,
    offered,
    paced,
    references_of,
    take_turn,
    usable_run,
)
from qa_lora.ui.compare.asking import checked as checked_input
from qa_lora.ui.compare.controls import SETTINGS, Controls
from qa_lora.ui.compare.panes import COPY_ANSWER, Pane, panes_html, reference_html
from qa_lora.ui.engine import Engine
from qa_lora.ui.header import Header
from qa_lora.ui.words import note

if TYPE_CHECKING:
    from qa_lora.answering import Answer
    from qa_lora.data import QAExample

__all__ = ["Ask", "build_ask", "offered_questions", "wire_ask"]

Update = dict[Any, Any]
CHIPS = 8
PART = "ask"
STOPPED = "Stopped; what was said so far stays."


@dataclass(frozen=True)
class Ask:
    """The components."""

    question: Any
    context: Any
    ask: Any
    stop: Any
    surprise: Any
    chips: Any
    status: Any
    panes: Any
    reference: Any


def build_ask() -> Ask:
    """Lay them out."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=300):
            question = gr.Textbox(
                label="Question", lines=2, max_lines=8, max_length=MAX_QUESTION,
                placeholder="Type a question, or click a held-out one.", elem_id="question",
            )  # fmt: skip
            with gr.Accordion("Context (optional)", open=False, elem_id="context-fold"):
                context = gr.Textbox(
                    label="Context", info="A passage that the answer should come from.",
                    lines=3, max_lines=12, max_length=MAX_QUESTION, elem_id="context",
                )  # fmt: skip
            with gr.Row():
                ask = gr.Button("Compare", variant="primary", elem_id="ask", min_width=110)
                surprise = gr.Button("Surprise me", elem_id="surprise", min_width=110)
                stop = gr.Button("Stop", elem_id="stop-answer", min_width=70)
        with gr.Column(scale=6, min_width=300):
            chips = gr.Dataset(
                components=[gr.Textbox(visible=False)],
                samples=[],
                label="Questions held out of training: click one",
                type="index",
                samples_per_page=CHIPS,
                elem_id="chips",
                elem_classes="chips",
            )
    status = gr.HTML("", elem_id="compare-status", js_on_load=None)
    panes = gr.HTML(
        panes_html([Pane("base"), Pane("tuned")]), elem_id="compare-panes", js_on_load=COPY_ANSWER
    )
    reference = gr.HTML("", elem_id="reference", js_on_load=None)
    return Ask(question, context, ask, stop, surprise, chips, status, panes, reference)


def offered_questions(engine: Engine, ask: Ask, run_id: str | None) -> Update:
    """The run's chips, and whether there is anything to ask."""
    run = engine.find(run_id)
    if run is None or not run.has_adapter():
        return {
            ask.chips: gr.Dataset(samples=[]),
            ask.ask: gr.Button(interactive=False),
            ask.surprise: gr.Button(interactive=False),
            ask.status: "",
        }
    message = ""
    try:
        engine.split(run)
    except QALoRAError as error:
        message = note(str(error), "warn")
    samples = [[example.question] for example in _chips(offered(engine, run_id))]
    return {
        ask.chips: gr.Dataset(samples=samples),
        ask.ask: gr.Button(interactive=True),
        ask.surprise: gr.Button(interactive=bool(samples)),
        ask.status: message,
    }


def wire_ask(engine: Engine, header: Header, controls: Controls, ask: Ask, stops: Stops) -> Any:
    """Connect the events.

    Returns:
        The events that answer, for what is to happen after them.
    """

    def pick(run_id: str | None, index: int | None) -> tuple[str, str]:
        questions = offered(engine, run_id)
        if not questions:
            return "", ""
        if not isinstance(index, int):
            example = random.SystemRandom().choice(questions)
        else:
            chosen = _chips(questions)
            example = chosen[max(0, min(index, len(chosen) - 1))]
        return example.question, example.context

    def surprise(run_id: str | None) -> tuple[str, str]:
        return pick(run_id, None)

    def answer(
        request: gr.Request,
        run_id: str | None,
        question: str,
        context: str,
        columns: Sequence[str] | None,
        *values: Any,
    ) -> Iterator[Update]:
        try:
            asked = checked_input(question, context)
            systems = chosen_systems(engine, usable_run(engine, run_id), columns)
        except QALoRAError as error:
            yield {ask.status: note(str(error), "warn")}
            return
        empty = [Pane(system) for system in systems]
        stop = Stop()
        try:
            with (
                stops.watched(request.session_hash, PART) as stop,
                closing(take_turn(engine, run_id, columns, SETTINGS, values, stop)) as steps,
            ):
                yield {ask.panes: panes_html(empty, waiting=True), ask.reference: ""}
                for step in steps:
                    if stop.dropped:
                        return
                    if isinstance(step, str):
                        yield {ask.status: note(step)}
                    else:
                        yield from _answers(step, asked, stop)
                ended = note(STOPPED) if stop.is_set() else None
        except QALoRAError as error:
            ended = note(str(error), "bad")
        if ended is not None and not stop.dropped:
            yield {ask.status: ended}

    def _answers(ready: Ready, asked: Asked, stop: Stop) -> Iterator[Update]:
        answers: dict[str, Answer] = {}
        together = ready.answerer.answer_together(
            asked.question, asked.context, systems=ready.systems, settings=ready.settings
        )
        with closing(paced(together, stop)) as frames:
            for last in frames:
                answers = last.answers
                if last.done or stop.is_set():
                    break
                panes = [Pane(system, answers.get(system)) for system in ready.systems]
                yield {ask.status: note("Answering…"), ask.panes: panes_html(panes, waiting=True)}
        if stop.dropped:
            return
        references = references_of(engine, ready.run.id, asked)
        panes = []
        for system in ready.systems:
            said = answers.get(system)
            scores = None
            if said is not None and references and not stop.is_set():
                from qa_lora.scoring import score

                scores = score(said.text, references)
            panes.append(Pane(system, said, scores))
        yield {
            ask.status: note(asked.notice, "warn"),
            ask.panes: panes_html(panes, done=True),
            ask.reference: reference_html(references),
        }

    def changed(request: gr.Request) -> Update:
        """Another run is in view; what this one's models say is not shown any more."""
        stops.press(request.session_hash, PART, drop=True)
        return {ask.panes: panes_html([Pane("base"), Pane("tuned")]), ask.reference: ""}

    def stop(request: gr.Request) -> None:
        stops.press(request.session_hash, PART)

    free: dict[str, Any] = {
        "show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None,
    }  # fmt: skip
    taken = [header.run, ask.question, ask.context, *controls.inputs()]
    shown = [ask.status, ask.panes, ask.reference]
    fields = [ask.question, ask.context]
    picked = ask.chips.click(pick, [header.run, ask.chips], fields, **free)
    surprised = ask.surprise.click(surprise, header.run, fields, **free)
    ask.stop.click(stop, None, None, **free)
    header.viewed.change(changed, None, [ask.panes, ask.reference], **free)
    return [
        ask.ask.click(answer, taken, shown, **free),
        ask.question.submit(answer, taken, shown, **free),
        picked.then(answer, taken, shown, **free),
        surprised.then(answer, taken, shown, **free),
    ]


def _chips(questions: Sequence[QAExample]) -> list[QAExample]:
    """A few different held-out questions, the same ones every time, short ones first choice."""
    seen: set[str] = set()
    chosen = []
    for example in sorted(questions, key=lambda e: len(e.question) > 90 or bool(e.context)):
        if example.question not in seen:
            seen.add(example.question)
            chosen.append(example)
        if len(chosen) == CHIPS:
            break
    return chosen
