"""The form above the results: what is scored, by whom, and how far it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import gradio as gr

from qa_lora.errors import QALoRAError
from qa_lora.ui.add_adapter import AddAdapter, build_add_adapter, wire_add_adapter
from qa_lora.ui.data_card import FILE_TYPES
from qa_lora.ui.engine import Engine, Job
from qa_lora.ui.evaluate.ordering import MOST_ADAPTERS, SPLITS, job_html, make_order, on_upload
from qa_lora.ui.words import note

__all__ = ["Form", "build_form", "wire_form"]

OTHERS = "Up to four; they answer the same questions."


@dataclass(frozen=True)
class Form:
    """The controls above the results."""

    split: Any
    upload: Any
    adapters: Any
    rows: Any
    seed: Any
    start: Any
    cancel: Any
    message: Any
    clock: Any
    finished: Any
    """Changes when a scoring of the run in view has ended."""
    progress: Any
    add_adapter: AddAdapter

    def inputs(self) -> list[Any]:
        """What :func:`make_order` takes."""
        return [self.split, self.adapters, self.rows, self.seed]


def build_form(*, demo: bool = False) -> Form:
    """Lay the form out; a `demo` shows only what was scored before."""
    with gr.Row(equal_height=False, visible=not demo, elem_id="evaluate-form"):
        split = gr.Dropdown(
            SPLITS, value="test", label="Questions",
            info="A split of the run's data, or your file.",
            elem_id="split", min_width=220, scale=3,
            # An upload of another page is not in this one's list; what comes in is checked.
            allow_custom_value=True,
        )  # fmt: skip
        adapters = gr.Dropdown(
            [], value=[], label="Other adapters of the same base", info=OTHERS, multiselect=True,
            elem_id="adapters", min_width=260, scale=4, allow_custom_value=True, interactive=True,
        )  # fmt: skip
        rows = gr.Number(
            200, label="At most, rows", info="Empty: all.", placeholder="all",
            elem_id="rows", min_width=90, scale=1,
        )  # fmt: skip
        seed = gr.Number(
            0, label="Draw seed", info="Of those rows.", elem_id="draw-seed", min_width=90, scale=1
        )
    with gr.Row(equal_height=False, visible=not demo, elem_id="evaluate-buttons"):
        start = gr.Button("Score", variant="primary", elem_id="score", min_width=110)
        cancel = gr.Button("Cancel", elem_id="cancel-score", min_width=110, interactive=False)
        upload = gr.UploadButton(
            "Score on a file…", file_types=FILE_TYPES, elem_id="score-file", min_width=140
        )
    message = gr.HTML("", elem_id="score-message", js_on_load=None)
    add_adapter = build_add_adapter("evaluate", demo=demo)
    clock = gr.Timer(0.5, active=False)
    finished = gr.State("")
    progress = gr.HTML("", elem_id="progress", js_on_load=None)
    return Form(
        split, upload, adapters, rows, seed, start, cancel, message, clock, finished, progress,
        add_adapter,
    )  # fmt: skip


def wire_form(
    engine: Engine,
    run: Any,
    form: Form,
    looked: Sequence[Any],
    show: Callable[..., dict[Any, Any]],
    shown: Sequence[Any],
    opened: Sequence[Any],
) -> None:
    """Connect the form's events.

    Args:
        engine: What the server holds.
        run: The component of the run in view.
        form: The controls.
        looked: What `show` takes; the first is the run in view.
        show: Shows an evaluation: the newest, if the page has not heard of it.
        shown: What it changes.
        opened: Events that bring the tab or another run into view.
    """

    def start(run_id: str | None, *values: Any) -> dict[Any, Any]:
        found = engine.find(run_id)
        if found is None or not found.has_adapter():
            return {form.message: note("This run has no adapter yet.", "warn")}
        try:
            job = engine.score(found, make_order(engine, found, engine.access.uploads(), *values))
        except QALoRAError as error:
            return {form.message: note(str(error), "bad"), form.clock: gr.Timer(active=True)}
        return {form.message: "", form.clock: gr.Timer(active=True), **busy(job)}

    def busy(job: Job) -> dict[Any, Any]:
        return {
            form.progress: job_html(job),
            form.start: gr.Button(interactive=False),
            form.cancel: gr.Button(interactive=not job.cancelled),
        }

    def idle(run_id: str | None, job: Job | None) -> dict[Any, Any]:
        found = engine.find(run_id)
        ready = found is not None and found.has_adapter() and not found.alive()
        ready = ready and found is not None and engine.access.owns(found.path)
        return {
            form.start: gr.Button(interactive=ready),
            form.cancel: gr.Button(interactive=False),
            form.finished: job.key if job is not None else "",
        }

    def cancel(run_id: str | None) -> dict[Any, Any]:
        try:
            job = engine.jobs.get(engine.own(run_id).id)
        except QALoRAError as error:
            return {form.message: note(str(error), "warn")}
        if job is None or not job.busy:
            return {form.message: ""}
        job.stop.set()
        return {form.message: "", **busy(job)}

    def upload(run_id: str | None, path: str | None) -> dict[Any, Any]:
        if not path:
            return {form.message: ""}
        try:
            uploads = engine.access.uploads_for(path)
            kept, said = on_upload(engine, uploads, engine.find(run_id), path)
        except QALoRAError as error:
            return {form.message: note(str(error), "bad")}
        choices = [*SPLITS, (f"{kept.name} (uploaded)", str(kept))]
        return {
            form.message: note(said, "good"),
            form.split: gr.Dropdown(choices=choices, value=str(kept)),
        }

    def tick(run_id: str | None) -> dict[Any, Any]:
        """Progress of a scoring."""
        job = engine.job(run_id)
        if job is not None and job.busy:
            return busy(job)
        return {
            **idle(run_id, job),
            form.progress: job_html(job),
            form.clock: gr.Timer(active=False),
        }

    def open_tab(run_id: str | None) -> dict[Any, Any]:
        """The tab comes into view, or another run does: a scoring may be under way."""
        job = engine.job(run_id)
        if job is not None and job.busy:
            return {**busy(job), form.message: "", form.clock: gr.Timer(active=True)}
        return {
            **idle(run_id, job),
            form.progress: "",
            form.message: "",
            form.clock: gr.Timer(active=False),
        }

    def offer(
        run_id: str | None, chosen: Sequence[str] | None, *, again: bool = False
    ) -> dict[Any, Any]:
        """Which other adapters there are; choices that still stand are kept.

        A page that is told of it `again` may have chosen more by the time it hears of it.
        """
        found = engine.find(run_id)
        others: dict[str, str] = {}
        with suppress(QALoRAError):  # a run whose settings cannot be read
            others = engine.adapters.fitting(found) if found else {}
        named = map(str, chosen) if isinstance(chosen, list) else ()
        kept = [name for name in named if name in others][:MOST_ADAPTERS]
        info = OTHERS if others else "There is no other adapter of this base yet."
        choices = [(label, name) for name, label in others.items()]
        value = {} if again and kept == (chosen or []) else {"value": kept}
        return {form.adapters: gr.Dropdown(choices=choices, info=info, **value)}

    def offer_again(run_id: str | None, chosen: Sequence[str] | None) -> dict[Any, Any]:
        return offer(run_id, chosen, again=True)

    quiet: dict[str, Any] = {
        "show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None,
    }  # fmt: skip
    state = [form.progress, form.clock, form.start, form.cancel]
    form.start.click(start, [run, *form.inputs()], [*state, form.message], **quiet)
    form.cancel.click(cancel, run, [*state, form.message], **quiet)
    form.upload.upload(upload, [run, form.upload], [form.message, form.split], **quiet)
    ended = [*state, form.finished]
    form.clock.tick(tick, looked[0], ended, **quiet)
    # How a scoring stands is said apart from what takes long to read: an answer that was long on
    # its way would come after later ones, and undo them. What is read is read by one event of a
    # page, which gradio begins again when its cause happens again.
    for handler, taken, changed, causes in (
        (open_tab, looked[0], [*ended, form.message], opened),
        (show, looked, shown, [*opened, form.finished.change]),
        (offer_again, [looked[0], form.adapters], [form.adapters], opened),
    ):
        gr.on(list(causes), handler, taken, changed, trigger_mode="always_last", **quiet)
    wire_add_adapter(engine, looked[0], form.add_adapter, form.adapters, offer, opened)
