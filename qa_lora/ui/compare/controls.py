"""The controls that all parts of the tab share: which columns, how answers are made, effects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gradio as gr

from qa_lora.errors import QALoRAError
from qa_lora.ui.add_adapter import AddAdapter, build_add_adapter
from qa_lora.ui.compare.asking import (
    MAX_COLUMNS,
    NO_ADAPTER,
    Stops,
    chosen_systems,
    held_out,
    take_turn,
    usable_run,
)
from qa_lora.ui.compare.tables import effect_html
from qa_lora.ui.engine import Engine
from qa_lora.ui.header import Header
from qa_lora.ui.words import note

if TYPE_CHECKING:
    from qa_lora.answering.effect import Effect
    from qa_lora.runs import Run

__all__ = ["SETTINGS", "Controls", "build_controls", "offered_columns", "wire_controls"]

EFFECT_ROWS = 8
"""Held-out questions that an adapter's effect is measured on."""
PART = "effect"
FIRST = ["base", "tuned"]
SETTINGS = (
    "do_sample", "temperature", "top_p", "top_k", "seed", "num_beams", "repetition_penalty",
    "min_new_tokens", "max_new_tokens",
)  # fmt: skip
"""The fields of GenerationSettings that have a control, in the order handlers take them."""
SAMPLED = ("temperature", "top_p", "top_k", "seed")
"""Those that count only where tokens are drawn."""

NUMBERS: dict[str, tuple[str, float, float, str]] = {
    "temperature": (
        "Temperature", 1.0, 0.1,
        "0.001 to 100. Below 1 the likely words become likelier, above 1 the unlikely ones.",
    ),
    "top_p": (
        "Top-p", 1.0, 0.05,
        "Above 0, up to 1. Draw from the likeliest words that together have this probability.",
    ),
    "top_k": (
        "Top-k", 0, 1, "0 or more. Draw from this many of the likeliest words; 0 means from all.",
    ),
    "seed": ("Seed", 0, 1, "0 to 4,294,967,295. The same seed draws the same answer."),
    "num_beams": (
        "Beams", 1, 1,
        "1 to 64. Follow several beginnings and keep the best; shown only when it is complete.",
    ),
    "repetition_penalty": (
        "Repetition penalty", 1.0, 0.1,
        "0.001 to 100; 1 is off. Above 1, words that were already said become less likely.",
    ),
    "min_new_tokens": (
        "Shortest answer, tokens", 0, 1, "0 or more. No answer ends before it has so many.",
    ),
    "max_new_tokens": (
        "Longest answer, tokens", 128, 1,
        "1 to 8,192. Longer answers are cut, and the page says so.",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Controls:
    """The shared controls."""

    columns: Any
    message: Any
    effect: Any
    settings: dict[str, Any]
    add_adapter: AddAdapter
    longest: Any
    """The longest answer of the run in view, as the settings were last set to it."""
    measured: dict[tuple[tuple[str, float], ...], Effect] = field(default_factory=dict)
    """Effects by the adapters that they were measured with: once for all pages."""

    def inputs(self) -> list[Any]:
        """What every handler that asks takes last: the columns, then the settings."""
        return [self.columns, *(self.settings[name] for name in SETTINGS)]


def build_controls(*, demo: bool = False) -> Controls:
    """Lay them out; in a `demo` without what changes something."""
    with gr.Row(equal_height=False, elem_id="compare-controls"):
        with gr.Column(scale=5, min_width=300):
            columns = gr.Dropdown(
                _choices({}), value=FIRST, label="Columns", multiselect=True,
                max_choices=MAX_COLUMNS, interactive=True, elem_id="columns",
                info="Two to four: the base model, this run, and other adapters on the same base.",
                # A page's list may be older than the run that another visitor just trained; what
                # comes in is looked up anyway.
                allow_custom_value=True,
            )  # fmt: skip
            message = gr.HTML("", elem_id="columns-message", js_on_load=None)
        with gr.Column(scale=6, min_width=300):
            effect = gr.HTML(effect_html({}), elem_id="effect", js_on_load=None)
    with gr.Row(equal_height=False, elem_classes="folds"):
        with gr.Accordion("How answers are made", open=False, elem_id="how"):
            settings = _build_settings()
        add_adapter = build_add_adapter("compare", demo=demo)
    longest = gr.State(NUMBERS["max_new_tokens"][1])
    return Controls(columns, message, effect, settings, add_adapter, longest)


def _build_settings() -> dict[str, Any]:
    settings: dict[str, Any] = {
        "do_sample": gr.Radio(
            [("Greedy", False), ("Sampling", True)], value=False, label="Next word",
            info="Greedy takes the likeliest word each time; sampling draws by chance.",
            elem_id="make-do_sample",
        )
    }  # fmt: skip
    with gr.Row(elem_classes="knobs four"):
        for name in SETTINGS[1:]:
            label, value, step, info = NUMBERS[name]
            settings[name] = gr.Number(
                value, label=label, info=info, step=step, min_width=130,
                interactive=name not in SAMPLED, elem_id=f"make-{name}",
                precision=0 if isinstance(value, int) else None,
            )  # fmt: skip
    return settings


def _choices(others: Mapping[str, str]) -> list[tuple[str, str]]:
    """The columns as (label, name); `others` has labels by name."""
    named = [("Base model", "base"), ("Fine-tuned (run in view)", "tuned")]
    return [*named, *((label, name) for name, label in others.items())]


def offered_columns(
    engine: Engine,
    controls: Controls,
    run_id: str | None,
    chosen: Sequence[str] | None,
    before: int | None,
    *,
    again: bool = False,
) -> dict[Any, Any]:
    """What can be compared with the run in view; choices that still stand are kept.

    Args:
        engine: What the server holds.
        controls: The controls.
        run_id: The run in view.
        chosen: The columns.
        before: The longest answer that the settings were last set to.
        again: The page knows of `chosen`, and may have chosen more by the time it hears of this.
    """
    run = engine.find(run_id)
    if run is None or not run.has_adapter():
        return {
            controls.columns: gr.Dropdown(choices=_choices({}), value=FIRST),
            controls.message: note(NO_ADAPTER),
            controls.effect: effect_html({}),
        }
    try:
        others = engine.adapters.fitting(run)
        longest = run.config().max_new_tokens
    except QALoRAError as error:
        return {controls.message: note(str(error), "bad"), controls.effect: effect_html({})}
    choices = _choices(others)
    named = chosen if isinstance(chosen, (list, tuple)) else ()
    kept = [value for _, value in choices if value in named]
    kept = kept[:MAX_COLUMNS] if len(kept) > 1 else FIRST
    changed = {} if again and kept == list(named) else {"value": kept}
    return {
        controls.columns: gr.Dropdown(choices=choices, **changed),
        controls.message: "",
        controls.effect: effect_html(_known_effects(engine, controls, run, kept)),
        # A visitor's own length stays until the run in view has another one. Besides, a value that
        # comes while the settings are folded away is set when they unfold, over what is typed then.
        controls.settings["max_new_tokens"]: gr.skip() if longest == before else longest,
        controls.longest: longest,
    }


def wire_controls(
    engine: Engine, header: Header, controls: Controls, answered: Sequence[Any], stops: Stops
) -> None:
    """Connect their events.

    Args:
        engine: What the server holds.
        header: The shared header.
        controls: The controls.
        answered: Events that end with an answer: then the adapters' effect is measured, once.
        stops: The flags of Stop.
    """

    def sampling_changed(sampling: bool) -> dict[Any, Any]:
        """Only while words are drawn do the drawing's settings count."""
        return {controls.settings[name]: gr.Number(interactive=bool(sampling)) for name in SAMPLED}

    def effects(
        request: gr.Request, run_id: str | None, columns: Sequence[str] | None
    ) -> Iterator[dict[Any, Any]]:
        """What each adapter in view changes; an adapter that cannot be loaded is named here."""
        try:
            run = usable_run(engine, run_id)
            systems = [s for s in chosen_systems(engine, run, columns) if s != "base"]
            found = _known_effects(engine, controls, run, systems)
            yield {controls.message: "", controls.effect: effect_html(found)}
            questions = held_out(engine, run.id)
            missing = [system for system in systems if system not in found]
            if not missing:
                return
            spread = questions[:: max(1, len(questions) // EFFECT_ROWS)][:EFFECT_ROWS]
            with (
                stops.watched(request.session_hash, PART) as stop,
                closing(take_turn(engine, run_id, columns, (), (), stop)) as steps,
            ):
                for step in steps:
                    if isinstance(step, str):
                        continue
                    from qa_lora.answering.effect import measure_effect
                    from qa_lora.generation import Stopped

                    for system in missing:
                        if not spread or stop.is_set():
                            break
                        try:
                            effect = measure_effect(
                                step.answerer, spread, system=system, should_stop=stop.is_set
                            )
                        except Stopped:
                            break
                        controls.measured[_key(engine, run, system)] = found[system] = effect
                        yield {controls.effect: effect_html(found)}
        except QALoRAError as error:
            yield {controls.message: note(str(error), "warn")}

    quiet: dict[str, Any] = {
        "show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None,
    }  # fmt: skip
    sampling = controls.settings["do_sample"]
    drawn = [controls.settings[name] for name in SAMPLED]
    sampling.change(sampling_changed, sampling, drawn, **quiet)
    taken, shown = [header.run, controls.columns], [controls.message, controls.effect]
    controls.columns.input(effects, taken, shown, trigger_mode="always_last", **quiet)
    for event in answered:
        event.then(effects, taken, shown, **quiet)


def _known_effects(
    engine: Engine, controls: Controls, run: Run, systems: Sequence[str]
) -> dict[str, Effect]:
    """The effects of those systems that have been measured as they are now."""
    keys = {system: _key(engine, run, system) for system in systems if system != "base"}
    return {s: controls.measured[key] for s, key in keys.items() if key in controls.measured}


def _key(engine: Engine, run: Run, system: str) -> tuple[tuple[str, float], ...]:
    """Which adapters an effect was measured with: of the run in view, and of the column."""
    keys = []
    for name in (run.id, run.id if system == "tuned" else system):
        folder = engine.adapters.folder(name)
        try:
            when = (folder / "adapter_config.json").stat().st_mtime if folder else 0.0
        except OSError:
            when = 0.0
        keys.append((name, when))
    return tuple(keys)
