"""The Compare tab: one question, base and tuned answers side by side, differences marked."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from qa_lora.errors import QALoRAError
from qa_lora.ui.engine import Engine
from qa_lora.ui.header import Header
from qa_lora.ui.words import marked, note

if TYPE_CHECKING:
    from qa_lora.answering import Answer
    from qa_lora.data import QAExample
    from qa_lora.runs import Run

__all__ = ["CompareTab", "build_compare", "wire_compare"]

Update = dict[Any, Any]
CHIPS = 8
FRAME_SECONDS = 0.1
MAX_QUESTION = 20_000
NO_ADAPTER = (
    "This run has no adapter yet. Open Train and press Start, or choose another run on top."
)


@dataclass(frozen=True)
class CompareTab:
    """The tab's components."""

    tab: Any
    question: Any
    context: Any
    ask: Any
    stop: Any
    surprise: Any
    chips: Any
    status: Any
    base: Any
    tuned: Any
    reference: Any


def build_compare(tab: Any) -> CompareTab:
    """Lay the tab out."""
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
    with gr.Row(elem_id="compare-panes", equal_height=True):
        base = gr.HTML(_pane("base", "", ""), elem_id="base-answer", js_on_load=None)
        tuned = gr.HTML(_pane("tuned", "", ""), elem_id="tuned-answer", js_on_load=None)
    reference = gr.HTML("", elem_id="reference", js_on_load=None)
    return CompareTab(
        tab, question, context, ask, stop, surprise, chips, status, base, tuned, reference
    )


def _pane(side: str, body: str, footer: str) -> str:
    name = "Base model" if side == "base" else "Fine-tuned"
    body = body or '<span class="subdued">The answer will appear here.</span>'
    return (
        f'<div class="answer is-{side}" role="region" aria-label="{name}"><h3>{name}</h3>'
        f'<div class="text">{body}</div><footer>{footer or "&nbsp;"}</footer></div>'
    )


def _footer(answer: Answer, score: float | None = None) -> str:
    parts = [f"{answer.seconds:.1f} s", f"{answer.tokens:,} token{'s' * (answer.tokens != 1)}"]
    if answer.cut:
        parts.append("cut at the longest length allowed")
    if answer.notice:
        parts.append(escape(answer.notice))
    if score is not None:
        parts.append(f"<b title='Longest common subsequence, 0 to 1.'>ROUGE-L {score:.2f}</b>")
    return " · ".join(parts)


def wire_compare(engine: Engine, header: Header, tab: CompareTab) -> None:
    """Connect the tab's events."""

    def offer(run_id: str | None) -> Update:
        """The run's chips, or what to do when there is nothing to ask."""
        run = engine.find(run_id)
        empty = {tab.chips: gr.Dataset(samples=[])}
        if run is None or not run.has_adapter():
            return {**empty, tab.status: note(NO_ADAPTER), tab.ask: gr.Button(interactive=False)}
        ready = {tab.status: "", tab.ask: gr.Button(interactive=True)}
        try:
            held_out = engine.split(run).test
        except QALoRAError as error:
            return {**empty, **ready, tab.status: note(str(error), "warn")}
        chosen = _chips(held_out)
        samples = [[example.question] for example in chosen]
        return {**ready, tab.chips: gr.Dataset(samples=samples)}

    def pick(run_id: str | None, index: int | None) -> tuple[str, str]:
        run = engine.find(run_id)
        held_out = engine.split(run).test if run else ()
        if not held_out:
            return "", ""
        if index is None:
            example = random.SystemRandom().choice(held_out)
        else:
            chosen = _chips(held_out)
            example = chosen[min(index, len(chosen) - 1)]
        return example.question, example.context

    def surprise(run_id: str | None) -> tuple[str, str]:
        return pick(run_id, None)

    def answer(run_id: str | None, question: str, context: str) -> Iterator[Update]:
        run = engine.find(run_id)
        if run is None or not run.has_adapter():
            yield {tab.status: note(NO_ADAPTER, "warn")}
            return
        if not (question or "").strip():
            yield {tab.status: note("Type a question first, or click a held-out one.", "warn")}
            return
        waiting = '<span class="subdued">…</span>'
        yield {
            tab.status: note(_before(engine, run)),
            tab.base: _pane("base", waiting, ""),
            tab.tuned: _pane("tuned", waiting, ""),
            tab.reference: "",
        }
        try:
            with engine.model_turn(run):
                answerer = engine.answerer(run)
                last, shown = None, 0.0
                for last in answerer.compare(question, context or ""):
                    now = time.monotonic()
                    if last.done or now - shown < FRAME_SECONDS:
                        continue
                    shown = now
                    yield {
                        tab.status: note("Answering…"),
                        tab.base: _pane("base", escape(last.base.text), _footer(last.base)),
                        tab.tuned: _pane("tuned", escape(last.tuned.text), _footer(last.tuned)),
                    }
        except QALoRAError as error:
            yield {tab.status: note(str(error), "bad")}
            return
        if last is not None:
            yield _finished(last.base, last.tuned, question, context or "", run_id)

    def _finished(
        base: Answer, tuned: Answer, question: str, context: str, run_id: str | None
    ) -> Update:
        left, right = marked(base.text, tuned.text)
        references = _references(engine, run_id, question, context)
        scores: list[float | None] = [None, None]
        shown = ""
        if references:
            from qa_lora.scoring import score

            scores = [score(a.text, references)["rougeL"] for a in (base, tuned)]
            text = "\n".join(references)
            shown = (
                '<div class="card"><h3>Reference answer, held out of training</h3>'
                f'<div style="white-space:pre-wrap">{escape(text)}</div></div>'
            )
        none = '<span class="subdued">(no words)</span>'
        return {
            tab.status: "",
            tab.base: _pane("base", left or none, _footer(base, scores[0])),
            tab.tuned: _pane("tuned", right or none, _footer(tuned, scores[1])),
            tab.reference: shown,
        }

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    free = {**quiet, "concurrency_limit": None}
    one: dict[str, Any] = {**quiet, "concurrency_id": "model", "concurrency_limit": 1}
    ask = [header.run, tab.question, tab.context]
    shown = [tab.status, tab.base, tab.tuned, tab.reference]
    offered = [tab.chips, tab.status, tab.ask]
    runs = [
        tab.ask.click(answer, ask, shown, **one),
        tab.question.submit(answer, ask, shown, **one),
    ]
    fields = [tab.question, tab.context]
    picked = tab.chips.click(pick, [header.run, tab.chips], fields, **free)
    runs.append(picked.then(answer, ask, shown, **one))
    surprised = tab.surprise.click(surprise, header.run, fields, **free)
    runs.append(surprised.then(answer, ask, shown, **one))
    tab.stop.click(lambda: "", None, tab.status, cancels=runs, **free)
    gr.on([tab.tab.select, header.run.change], offer, header.run, offered, **free)


def _before(engine: Engine, run: Run) -> str:
    """What has to happen before the first word comes."""
    other = engine.scored_now()
    if other is not None and other != run.id:
        return f"The run {other} is being scored; your question is next."
    return "Answering…" if engine.holds(run) else "Loading the model…"


def _chips(held_out: Sequence[QAExample]) -> list[QAExample]:
    """A few different held-out questions, the same ones every time, short ones first choice."""
    seen: set[str] = set()
    chosen = []
    for example in sorted(held_out, key=lambda e: len(e.question) > 90 or bool(e.context)):
        if example.question not in seen:
            seen.add(example.question)
            chosen.append(example)
        if len(chosen) == CHIPS:
            break
    return chosen


def _references(engine: Engine, run_id: str | None, question: str, context: str) -> list[str]:
    """The right answers, if this is a held-out question of the run."""
    from qa_lora.data import question_key

    run = engine.find(run_id)
    try:
        held_out = engine.split(run).test if run else ()
    except QALoRAError:
        return []
    key = question_key(question, context)
    found = [e.answer for e in held_out if question_key(e.question, e.context, e.history) == key]
    return list(dict.fromkeys(found))
