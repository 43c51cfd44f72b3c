"""The blind test: two unnamed answers, a vote, then the names; and what all votes add up to."""

from __future__ import annotations

import dataclasses
import random
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from qa_lora.errors import DataError, QALoRAError
from qa_lora.ui.compare.asking import (
    MAX_QUESTION,
    Asked,
    Ready,
    Stop,
    Stops,
    checked,
    offered,
    references_of,
    take_turn,
)
from qa_lora.ui.compare.controls import SETTINGS, Controls
from qa_lora.ui.compare.panes import (
    COPY_ANSWER,
    VOTE_KEYS,
    Pane,
    asked_html,
    panes_html,
    reference_html,
    title_of,
    unnamed_html,
)
from qa_lora.ui.compare.shown_votes import shown_tally
from qa_lora.ui.compare.tables import tally_html
from qa_lora.ui.engine import Engine
from qa_lora.ui.header import Header
from qa_lora.ui.words import note
from qa_lora.votes import BOTH_BAD, TIE, Vote, add_vote

if TYPE_CHECKING:
    from qa_lora.answering import Answer

__all__ = ["Blind", "build_blind", "wire_blind"]

Update = dict[Any, Any]
PART = "blind"
CHOICES = ("left", "right", TIE, BOTH_BAD)
VOTED = "You have voted on these two already; the first vote counts."
LABELS = ("A is better (A)", "B is better (B)", "Tie (T)", "Both bad (X)")


@dataclass(frozen=True)
class Ballot:
    """Two answers that wait for a vote; kept on the server, where no page can look."""

    id: str
    run: str
    asked: Asked
    systems: tuple[str, str]
    """Left and right."""
    answers: tuple[Answer, Answer]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Blind:
    """The components."""

    question: Any
    draw: Any
    ask: Any
    stop: Any
    status: Any
    panes: Any
    votes: list[Any]
    reference: Any
    tally: Any
    as_csv: Any
    as_json: Any
    ballot: Any
    visitor: Any


def build_blind() -> Blind:
    """Lay them out."""
    with gr.Row(equal_height=False, elem_id="blind-form"):
        question = gr.Textbox(
            label="Question of your own (optional)", lines=1, max_lines=6, max_length=MAX_QUESTION,
            placeholder="Leave it empty to draw a held-out question.", elem_id="blind-question",
            scale=6, min_width=240,
        )  # fmt: skip
        ask = gr.Button("Next question", variant="primary", elem_id="blind-ask", min_width=120)
        stop = gr.Button("Stop", elem_id="blind-stop", min_width=70)
    status = gr.HTML("", elem_id="blind-status", js_on_load=None)
    draw = gr.HTML("", elem_id="blind-drawn", js_on_load=None)
    panes = gr.HTML(unnamed_html(None), elem_id="blind-panes", js_on_load=COPY_ANSWER)
    with gr.Row(elem_id="blind-votes"):
        votes = [
            gr.Button(label, interactive=False, elem_id=f"vote-{i}", min_width=110)
            for i, label in enumerate(LABELS)
        ]
    reference = gr.HTML("", elem_id="blind-reference", js_on_load=None)
    summary = gr.HTML(tally_html([]), elem_id="blind-tally", js_on_load=VOTE_KEYS)
    with gr.Row(elem_id="blind-exports"):
        as_csv = gr.DownloadButton("Download votes, CSV", elem_id="votes-csv", interactive=False)
        as_json = gr.DownloadButton("Download votes, JSON", elem_id="votes-json", interactive=False)
    visitor = gr.BrowserState("", storage_key="qa-lora-visitor", secret="qa-lora")
    return Blind(
        question, draw, ask, stop, status, panes, votes, reference, summary, as_csv, as_json,
        gr.State(None), visitor,
    )  # fmt: skip


def wire_blind(
    engine: Engine,
    header: Header,
    controls: Controls,
    blind: Blind,
    stops: Stops,
    downloads: Path,
) -> None:
    """Connect the events."""
    chance = random.SystemRandom()

    def votable(now: bool) -> Update:
        return {button: gr.Button(interactive=now) for button in blind.votes}

    def reset() -> Update:
        return {
            blind.ballot: None,
            blind.panes: unnamed_html(None),
            blind.draw: "",
            blind.reference: "",
            blind.status: "",
            **votable(False),
        }

    def question_of(run_id: str | None, own: str) -> Asked:
        if (own or "").strip():
            return checked(own)
        questions = offered(engine, run_id)
        if not questions:
            raise DataError(
                "This run has no held-out questions that can be asked by themselves.",
                "Type a question.",
            )
        example = chance.choice(questions)
        return checked(example.question, example.context)

    def ask(
        request: gr.Request,
        run_id: str | None,
        own: str,
        columns: Sequence[str] | None,
        *values: Any,
    ) -> Iterator[Update]:
        try:
            asked = question_of(run_id, own)
        except QALoRAError as error:
            yield {blind.status: note(str(error), "warn")}
            return
        stop = Stop()
        try:
            with (
                stops.watched(request.session_hash, PART) as stop,
                closing(take_turn(engine, run_id, columns, SETTINGS, values, stop)) as steps,
            ):
                yield {
                    **reset(),
                    blind.panes: unnamed_html(None, waiting=True),
                    blind.draw: asked_html(asked.question, asked.context),
                }
                for step in steps:
                    if stop.dropped:
                        return
                    if isinstance(step, str):
                        yield {blind.status: note(step)}
                        continue
                    ballot = answered(step, asked, stop.is_set)
                    if ballot is not None and not stop.is_set():
                        texts = [answer.text for answer in ballot.answers]
                        yield {
                            blind.ballot: ballot,
                            blind.status: note(asked.notice, "warn"),
                            blind.panes: unnamed_html(texts),
                            **votable(True),
                        }
                        return
            ended = note("Stopped.")
        except QALoRAError as error:
            ended = note(str(error), "bad")
        if not stop.dropped:
            yield {**reset(), blind.status: ended}

    def answered(ready: Ready, asked: Asked, stopped: Any) -> Ballot | None:
        """Both answers, whole: seen while it grows, the slower one would be known."""
        left, right = chance.sample(ready.systems, 2)
        answers: dict[str, Answer] = {}
        together = ready.answerer.answer_together(
            asked.question, asked.context, systems=[left, right], settings=ready.settings
        )
        with closing(together):  # type: ignore[type-var]
            for last in together:
                answers = last.answers
                if stopped():
                    return None
        return Ballot(
            secrets.token_hex(8), ready.run.id, asked, (left, right),
            (answers[left], answers[right]), dataclasses.asdict(ready.settings),
        )  # fmt: skip

    def cast(choice: str, ballot: Ballot | None, visitor: object) -> Update:
        if ballot is None:
            return {blind.status: note("Press Next question first.", "warn")}
        who = _visitor(visitor)
        left, right = ballot.systems
        try:
            vote = Vote(
                ballot.run, left, right, ballot.asked.question, ballot.asked.context,
                ballot.answers[0].text, ballot.answers[1].text,
                {"left": left, "right": right}.get(choice, choice),
                settings=ballot.settings, visitor=who, ballot=ballot.id,
            )  # fmt: skip
            stored = add_vote(engine.runs_dir, vote)
        except QALoRAError as error:
            return {blind.status: note(str(error), "bad")}
        said = {
            "left": f"You preferred A: {title_of(left)}.",
            "right": f"You preferred B: {title_of(right)}.",
            TIE: "You called it a tie.",
            BOTH_BAD: "You called both bad.",
        }[choice]
        status = note(said, "good") if stored else note(VOTED)
        references = references_of(engine, ballot.run, ballot.asked)
        panes = []
        for letter, system, answer in zip("AB", ballot.systems, ballot.answers, strict=True):
            scores = None
            if references:
                from qa_lora.scoring import score

                scores = score(answer.text, references)
            panes.append(Pane(system, answer, scores, f"{letter}: {title_of(system)}"))
        return {
            blind.ballot: None,
            blind.visitor: who,
            blind.status: status,
            blind.panes: panes_html(panes, done=True, prefix="blind-"),
            blind.reference: reference_html(references),
            **votable(False),
            **shown_tally(engine, blind, ballot.run, downloads),
        }

    def changed(request: gr.Request) -> Update:
        """Another run is in view; what this one's models say is not shown any more."""
        stops.press(request.session_hash, PART, drop=True)
        return reset()

    def stop(request: gr.Request) -> None:
        stops.press(request.session_hash, PART)

    free: dict[str, Any] = {
        "show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None,
    }  # fmt: skip
    shown = [
        blind.ballot, blind.status, blind.draw, blind.panes, blind.reference, *blind.votes,
    ]  # fmt: skip
    taken = [header.run, blind.question, *controls.inputs()]
    gr.on([blind.ask.click, blind.question.submit], ask, taken, shown, **free)
    blind.stop.click(stop, None, None, **free)
    after = [*shown, blind.visitor, blind.tally, blind.as_csv, blind.as_json]
    for button, choice in zip(blind.votes, CHOICES, strict=True):

        def vote(ballot: Ballot | None, visitor: object, choice: str = choice) -> Update:
            return cast(choice, ballot, visitor)

        button.click(vote, [blind.ballot, blind.visitor], after, **free)
    header.viewed.change(changed, None, shown, **free)


def _visitor(value: object) -> str:
    """The browser's random word; a new one for whatever else comes from there."""
    if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{16}", value):
        return value
    return secrets.token_hex(8)
