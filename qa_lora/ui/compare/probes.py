"""Many questions in one click: a table that fills up, and a CSV of it."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from qa_lora.data.example import QAExample
from qa_lora.errors import ConfigError, DataError, QALoRAError
from qa_lora.formulas import neutralise
from qa_lora.probe_questions import bundled_probe_questions, questions_from_lines
from qa_lora.prompts import is_blank
from qa_lora.ui.compare.asking import Ready, Stops, checked, offered, take_turn
from qa_lora.ui.compare.controls import SETTINGS, Controls
from qa_lora.ui.compare.tables import probe_table, progress_html
from qa_lora.ui.engine import Engine
from qa_lora.ui.header import Header
from qa_lora.ui.words import note

__all__ = ["Probes", "build_probes", "probes_csv", "wire_probes"]

Update = dict[Any, Any]
ALL, NEAR, GENERAL, HELD_OUT, OWN = "all", "near", "general", "held-out", "own"
SETS = [
    ("All 40", ALL), ("20 near the bundled data", NEAR), ("20 general", GENERAL),
    ("20 held out, by chance", HELD_OUT), ("My own", OWN),
]  # fmt: skip
DRAWN = 20
MOST_OWN = 500
GROUP = 8
"""Questions answered at once: the table grows by so many, and Stop waits for no more."""
PART = "probes"
NOTHING = (
    '<div class="empty"><b>Try many questions at once</b>Choose a set and press Ask all: a row a '
    "question, a column a model.</div>"
)


@dataclass(frozen=True)
class Batch:
    """A page's batch, kept on the server."""

    systems: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    contexts: tuple[str, ...] = ()
    answers: tuple[tuple[int, dict[str, str]], ...] = ()
    """The rows that are done: index, and each system's answer."""


@dataclass(frozen=True)
class Probes:
    """The components."""

    which: Any
    own: Any
    start: Any
    stop: Any
    as_csv: Any
    status: Any
    table: Any
    batch: Any


def build_probes() -> Probes:
    """Lay them out."""
    which = gr.Radio(SETS, value=ALL, label="Questions", elem_id="probe-set")
    own = gr.Textbox(
        label="My own questions", info=f"One a line, at most {MOST_OWN}.", lines=5, max_lines=16,
        visible=False, elem_id="probe-own", max_length=200_000,
    )  # fmt: skip
    with gr.Row(elem_id="probe-buttons"):
        start = gr.Button("Ask all", variant="primary", elem_id="probe-start", min_width=100)
        stop = gr.Button("Stop", elem_id="probe-stop", min_width=80)
        as_csv = gr.DownloadButton(
            "Download CSV", elem_id="probe-csv", min_width=130, interactive=False
        )
    status = gr.HTML("", elem_id="probe-status", js_on_load=None)
    table = gr.HTML(NOTHING, elem_id="probe-table", js_on_load=None)
    return Probes(which, own, start, stop, as_csv, status, table, gr.State(Batch()))


def wire_probes(
    engine: Engine,
    header: Header,
    controls: Controls,
    probes: Probes,
    stops: Stops,
    downloads: Path,
) -> None:
    """Connect the events."""

    def questions(run_id: str | None, which: str, own: str) -> list[QAExample]:
        if which == HELD_OUT:
            found = offered(engine, run_id)
            if not found:
                raise DataError(
                    "This run has no held-out questions that can be asked by themselves."
                )
            return random.SystemRandom().sample(found, min(DRAWN, len(found)))
        if which == OWN:
            lines = [line for line in questions_from_lines(own or "") if not is_blank(line)]
            if not lines:
                raise DataError("There is no question yet.", "Write them below, one a line.")
            if len(lines) > MOST_OWN:
                raise DataError(f"These are {len(lines):,} questions.", f"Ask {MOST_OWN} at most.")
        else:
            sets = bundled_probe_questions()
            lines = list({NEAR: sets.near, GENERAL: sets.general}.get(which, sets.all))
        return [QAExample("", checked(line).question, "") for line in lines]

    def start(
        request: gr.Request,
        run_id: str | None,
        which: str,
        own: str,
        columns: Sequence[str] | None,
        *values: Any,
    ) -> Iterator[Update]:
        try:
            examples = questions(run_id, which, own)
        except QALoRAError as error:
            yield {probes.status: note(str(error), "warn")}
            return
        try:
            with (
                stops.watched(request.session_hash, PART) as stop,
                closing(take_turn(engine, run_id, columns, SETTINGS, values, stop)) as steps,
            ):
                for step in steps:
                    if isinstance(step, str):
                        yield {probes.status: note(step)}
                    else:
                        yield from _batch(step, examples, stop.is_set)
                        return
            yield {probes.status: note("Stopped before it began.")}
        except ConfigError as error:
            yield {probes.status: note(str(error), "warn")}
        except QALoRAError as error:
            yield {probes.status: note(str(error), "bad")}

    def _batch(ready: Ready, examples: Sequence[QAExample], stopped: Any) -> Iterator[Update]:
        batch = Batch(
            ready.systems,
            tuple(example.question for example in examples),
            tuple(example.context for example in examples),
        )
        answers: dict[int, dict[str, str]] = {}
        failed = ""
        total = len(examples)
        yield {probes.as_csv: gr.DownloadButton(interactive=False), **shown(batch, "Answering…")}
        for first in range(0, total, GROUP):
            if stopped():
                break
            group = ready.answerer.answer_many(
                examples[first : first + GROUP], systems=ready.systems, settings=ready.settings,
                should_stop=stopped,
            )  # fmt: skip
            try:
                for i, said in group:
                    answers[first + i] = {name: answer.text for name, answer in said.items()}
            except QALoRAError as error:
                failed = f"{error} "
            batch = replace(batch, answers=tuple(sorted(answers.items())))
            if failed:
                break
            # What is done can be taken away at any time, so also after Stop or a closed page.
            yield {probes.batch: batch, **shown(batch, "Answering…")}
        path = downloads / f"{ready.run.id}-probes-{random.SystemRandom().randrange(16**8):08x}.csv"
        # The mark at the start tells spreadsheets that this is UTF-8.
        path.write_text(probes_csv(batch), "utf-8-sig", newline="")
        done = len(batch.answers)
        ended = f"{failed}{done} of {total} answered"
        ended += "; stopped." if done < total and not failed else "."
        yield {
            probes.batch: batch,
            probes.status: note(ended, "bad" if failed else ""),
            probes.table: table_of(batch, only_done=done < total) or NOTHING,
            probes.as_csv: gr.DownloadButton(value=str(path), interactive=done > 0),
        }

    def shown(batch: Batch, message: str) -> Update:
        done, total = len(batch.answers), len(batch.questions)
        return {
            probes.status: progress_html(done, total, f"{message} {done} of {total}"),
            probes.table: table_of(batch),
        }

    def stop(request: gr.Request) -> None:
        stops.press(request.session_hash, PART)

    free: dict[str, Any] = {
        "show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None,
    }  # fmt: skip
    probes.which.change(
        lambda which: gr.Textbox(visible=which == OWN), probes.which, probes.own, **free
    )
    probes.start.click(
        start,
        [header.run, probes.which, probes.own, *controls.inputs()],
        [probes.batch, probes.status, probes.table, probes.as_csv],
        **free,
    )
    probes.stop.click(stop, None, None, **free)


def table_of(batch: Batch, only_done: bool = False) -> str:
    """The batch as a table; without the rows that never got an answer if `only_done`."""
    answers = dict(batch.answers)
    kept = [i for i in range(len(batch.questions)) if i in answers or not only_done]
    return probe_table(
        [batch.questions[i] for i in kept],
        batch.systems,
        {place: answers[i] for place, i in enumerate(kept) if i in answers},
    )


def probes_csv(batch: Batch) -> str:
    """A row a question that was answered: question, context, an answer a system."""
    answers: Mapping[int, Mapping[str, str]] = dict(batch.answers)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(["question", "context", *batch.systems])
    for i, said in answers.items():
        texts = (batch.questions[i], batch.contexts[i], *(said[name] for name in batch.systems))
        writer.writerow([neutralise(text) for text in texts])
    return out.getvalue()
