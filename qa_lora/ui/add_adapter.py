"""Bring in an adapter from elsewhere: the folded part of the Compare and the Evaluate tab."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, TypeAlias

import gradio as gr

from qa_lora.base_names import same_base, same_state
from qa_lora.errors import QALoRAError
from qa_lora.fetching import base_commit
from qa_lora.imported import Imported
from qa_lora.ui.engine import Engine
from qa_lora.ui.words import note

__all__ = ["AddAdapter", "build_add_adapter", "wire_add_adapter"]

Update = dict[Any, Any]
Base: TypeAlias = tuple[str, str | None]
"""Name and, of a base of the Hub, commit."""

NOTHING = "<p class='subdued'>No adapter was brought in yet.</p>"


@dataclass(frozen=True)
class AddAdapter:
    """The components."""

    source: Any
    name: Any
    base: Any
    add: Any
    upload: Any
    message: Any
    listed: Any
    which: Any
    remove: Any


def build_add_adapter(part: str, *, demo: bool = False) -> AddAdapter:
    """Lay it out.

    Args:
        part: The tab, for the names of the elements.
        demo: Whether nothing can be brought in, so that nothing of it is shown.
    """
    with gr.Accordion(
        "Add an adapter", open=False, visible=not demo, elem_id=f"{part}-add-adapter"
    ):
        with gr.Row(equal_height=True):
            source = gr.Textbox(
                label="Hub id or folder", placeholder="someone/flan-t5-lora", max_lines=1,
                info="A LoRA adapter in PEFT's format. Only safetensors is read.",
                elem_id=f"{part}-source", scale=4, min_width=240,
            )  # fmt: skip
            name = gr.Textbox(
                label="Name", placeholder="made from where it comes from", max_lines=1,
                info="What its column is called.", elem_id=f"{part}-name", scale=2, min_width=200,
            )  # fmt: skip
            base = gr.Textbox(
                label="Its base model", placeholder="as its settings say", max_lines=1,
                info="Only if they name a folder elsewhere.",
                elem_id=f"{part}-base", scale=2, min_width=200,
            )  # fmt: skip
        with gr.Row(equal_height=False):
            add = gr.Button("Add", variant="primary", elem_id=f"{part}-add", scale=0, min_width=110)
            upload = gr.UploadButton(
                "Upload a .zip…", file_types=[".zip"], elem_id=f"{part}-zip", scale=0,
                min_width=170,
            )  # fmt: skip
        message = gr.HTML("", elem_id=f"{part}-add-message", js_on_load=None)
        listed = gr.HTML(NOTHING, elem_id=f"{part}-imported", js_on_load=None)
        with gr.Row(equal_height=False, elem_id=f"{part}-kept"):
            which = gr.Dropdown(
                [], label="Imported adapter to remove",
                elem_id=f"{part}-which", interactive=True, visible=False,
                allow_custom_value=True, scale=4, min_width=240,
            )  # fmt: skip
            remove = gr.Button(
                "Remove", elem_id=f"{part}-remove", visible=False, scale=0, min_width=110
            )
    return AddAdapter(source, name, base, add, upload, message, listed, which, remove)


def imported_html(found: Sequence[Imported], base: Base | None) -> str:
    """The table of adapters from elsewhere, and why one cannot be chosen now.

    Args:
        found: The adapters.
        base: The base of the run in view and its commit; None if there is no such run.
    """
    if not found:
        return NOTHING
    rows = "".join(_row(each, base) for each in found)
    return (
        '<div class="scroll" tabindex="0"><table class="metrics"><thead><tr><th>Adapter</th>'
        "<th>Base</th><th>LoRA</th><th class='n'>Parameters</th><th>From</th><th></th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
        "<p class='subdued'>What an adapter from elsewhere was trained on is not known here: "
        "questions that are held out from the run in view may be among it.</p>"
    )


def _row(each: Imported, base: Base | None) -> str:
    if base is None:
        usable = "a run of this base is needed in view"
    elif _fits(each, base):
        usable = "can be chosen"
    else:
        usable = f"not now: the run in view stands on {_said(base)}"
    commit = f" at {each.commit[:8]}" if each.commit else ""
    return (
        f"<tr><td><b>{escape(each.name)}</b></td><td>{escape(each.base)}</td>"
        f"<td>{escape(each.made_of())}</td><td class='n'>{each.numbers:,}</td>"
        f"<td>{escape(f'{each.kind}: {each.source}{commit}, {each.when[:10]}')}</td>"
        f"<td>{escape(usable)}</td></tr>"
    )


def wire_add_adapter(
    engine: Engine,
    run: Any,
    part: AddAdapter,
    chosen: Any,
    offer: Callable[[str | None, Sequence[str] | None], Update],
    opened: Sequence[Any],
) -> None:
    """Connect its events.

    Args:
        engine: What the server holds.
        run: The component of the run in view.
        part: The components.
        chosen: The component in which adapters are chosen.
        offer: From the run in view and what is chosen to the update of `chosen`.
        opened: Events that bring the tab or another run into view.
    """

    def show(run_id: str | None) -> Update:
        """What is there now."""
        found, base = engine.adapters.listed(), _base_in_view(engine, run_id)
        removable = engine.adapters.removable()
        return {
            part.listed: imported_html(found, base),
            part.which: gr.Dropdown(choices=removable, value=None, visible=bool(removable)),
            part.remove: gr.Button(visible=bool(removable)),
        }

    def bring(
        run_id: str | None, columns: Sequence[str] | None, source: str | Path, name: str, base: str
    ) -> Iterator[Update]:
        """Import it, and choose it at once where that is possible."""
        yield {
            part.message: note("Looking at the adapter…"),
            part.add: gr.Button(interactive=False),
        }
        ready = {part.add: gr.Button(interactive=True)}
        try:
            kept = engine.adapters.bring(source, name.strip(), base.strip())
        except QALoRAError as error:
            yield {**ready, part.message: note(str(error), "bad")}
            return
        view = _base_in_view(engine, run_id)
        said = f"Added {kept.name}: for {kept.base}, {kept.made_of()}."
        if view is None or not _fits(kept, view):
            where = "" if view is None else f"; the run in view stands on {_said(view)}"
            needed = _said((kept.base, kept.base_commit))
            said += f" It can be chosen when a run of {needed} is in view{where}."
        yield {
            **ready,
            **show(run_id),
            **offer(run_id, [*(columns or ()), kept.name]),
            part.message: note(said, "good"),
            part.source: "",
            part.name: "",
            part.base: "",
        }

    def add(
        run_id: str | None, columns: Sequence[str] | None, source: str, name: str, base: str
    ) -> Iterator[Update]:
        yield from bring(run_id, columns, str(source or ""), str(name or ""), str(base or ""))

    def upload(
        run_id: str | None, columns: Sequence[str] | None, path: str | None, name: str, base: str
    ) -> Iterator[Update]:
        if path:
            yield from bring(run_id, columns, Path(path), str(name or ""), str(base or ""))
            with suppress(OSError):  # what is needed of it was copied
                Path(path).unlink()

    def remove(run_id: str | None, columns: Sequence[str] | None, name: str | None) -> Update:
        try:
            if not name:
                return {part.message: note("Choose the adapter to remove.", "warn")}
            engine.adapters.remove(str(name))
        except QALoRAError as error:
            return {part.message: note(str(error), "bad")}
        return {
            **show(run_id),
            **offer(run_id, columns),
            part.message: note(f"Removed {name}."),
        }

    quiet: dict[str, Any] = {
        "show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None,
    }  # fmt: skip
    shown = [part.listed, part.which, part.remove]
    changed = [*shown, chosen, part.message, part.add, part.source, part.name, part.base]
    gr.on(
        [part.add.click, part.source.submit], add,
        [run, chosen, part.source, part.name, part.base], changed, trigger_mode="once", **quiet,
    )  # fmt: skip
    part.upload.upload(upload, [run, chosen, part.upload, part.name, part.base], changed, **quiet)
    part.remove.click(remove, [run, chosen, part.which], [*shown, chosen, part.message], **quiet)
    gr.on(list(opened), show, run, shown, trigger_mode="always_last", **quiet)


def _fits(each: Imported, base: Base) -> bool:
    return same_base(each.base, base[0]) and same_state(each.base_commit, base[1])


def _said(base: Base) -> str:
    name, commit = base
    return f"{name} at {commit[:8]}" if commit else name


def _base_in_view(engine: Engine, run_id: str | None) -> Base | None:
    run = engine.find(run_id)
    with suppress(QALoRAError):  # a run whose settings cannot be read
        if run is not None and run.has_adapter():
            return run.config().model, base_commit(run.path)
    return None
