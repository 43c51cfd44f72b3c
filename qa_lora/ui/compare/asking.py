"""What all parts of the tab do before a model answers: check the input, wait, hold the model."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qa_lora.admission import check_answers
from qa_lora.errors import ConfigError, QALoRAError, RunError
from qa_lora.hub_downloads import describe
from qa_lora.prompts import is_blank
from qa_lora.turns import ordinal
from qa_lora.ui.engine import Engine

if TYPE_CHECKING:
    from qa_lora.answering import Answerer, GenerationSettings
    from qa_lora.answering.together import Together
    from qa_lora.data import QAExample
    from qa_lora.runs import Run

__all__ = [
    "MAX_QUESTION",
    "NO_ADAPTER",
    "Asked",
    "Ready",
    "Stop",
    "Stops",
    "checked",
    "chosen_systems",
    "held_out",
    "offered",
    "paced",
    "references_of",
    "settings_of",
    "take_turn",
    "usable_run",
]

MAX_QUESTION = 20_000
LOOK_SECONDS = 0.3
FRAME_SECONDS = 0.1
FRAME_CHARACTERS = 2_000
"""A browser draws all of an answer at each frame; a longer answer gets fewer of them."""
MAX_COLUMNS = 4
NO_ADAPTER = (
    "This run has no adapter yet. Open Train and press Start, or choose another run on top."
)


@dataclass(frozen=True)
class Asked:
    """A question and its context as they can be answered."""

    question: str
    context: str = ""
    notice: str = ""
    """What was done to them, if anything."""


def checked(question: object, context: object = "") -> Asked:
    """Question and context as text that any tokenizer takes, cut to what the page allows.

    Raises:
        QALoRAError: If there is no question, or nothing in it can be seen.
    """
    texts = {"question": _text(question), "context": _text(context)}
    if is_blank(texts["question"]):
        raise QALoRAError("There is no question yet.", "Type one, or click a held-out one.")
    cut = [
        f"Only the first {MAX_QUESTION:,} of the {name}'s {len(text):,} characters are used."
        for name, text in texts.items()
        if len(text) > MAX_QUESTION
    ]
    kept = [text[:MAX_QUESTION] for text in texts.values()]
    return Asked(kept[0], kept[1], " ".join(cut))


def _text(value: object) -> str:
    """Whatever a browser sent as text, without halves of surrogate pairs."""
    text = value if isinstance(value, str) else "" if value is None else str(value)
    return text.encode("utf-8", "replace").decode("utf-8")


class Stop(threading.Event):
    """Set when an answer is to end."""

    dropped = False
    """Whether what was said so far is not wanted either; then the handler shows nothing more."""


class Stops:
    """Who has pressed Stop: a flag for each page and part of the tab, looked at while answering."""

    def __init__(self) -> None:
        self._flags: dict[tuple[str, str], Stop] = {}
        self._lock = threading.Lock()

    @contextmanager
    def watched(self, page: str | None, part: str) -> Iterator[Stop]:
        """A flag that this page's Stop sets, and so does the next question in the same part."""
        key, flag = (page or "", part), Stop()
        with self._lock:
            before = self._flags.get(key)
            self._flags[key] = flag
        if before is not None:
            before.set()
        try:
            yield flag
        finally:
            with self._lock:
                if self._flags.get(key) is flag:
                    del self._flags[key]

    def press(self, page: str | None, part: str, *, drop: bool = False) -> None:
        """Stop what this page waits for in this part; `drop` also what was said so far."""
        with self._lock:
            flag = self._flags.get((page or "", part))
        if flag is not None:
            flag.dropped = flag.dropped or drop
            flag.set()

    def leave(self, page: str | None) -> None:
        """Stop whatever a page waits for: it was closed."""
        with self._lock:
            parts = [part for of, part in self._flags if of == (page or "")]
        for part in parts:
            self.press(page, part)


@dataclass(frozen=True)
class Ready:
    """The model's turn, with all columns loaded."""

    run: Run
    answerer: Answerer
    systems: tuple[str, ...]
    settings: GenerationSettings


def usable_run(engine: Engine, run_id: str | None) -> Run:
    """The run in view.

    Raises:
        RunError: If there is none, or it has no adapter.
    """
    run = engine.find(run_id)
    if run is None or not run.has_adapter():
        raise RunError(NO_ADAPTER)
    return run


def chosen_systems(engine: Engine, run: Run, columns: Sequence[str] | None) -> tuple[str, ...]:
    """The columns in order: base, tuned, others; only what the page offers, whoever asks.

    Raises:
        ConfigError: If they are fewer than two or more than four.
    """
    offered = ["base", "tuned", *engine.adapters.fitting(run)]
    named = columns if isinstance(columns, (list, tuple)) else ()
    systems = tuple(name for name in offered if name in named)
    if not 2 <= len(systems) <= MAX_COLUMNS:
        raise ConfigError(f"Choose 2 to {MAX_COLUMNS} columns to compare (chosen: {len(systems)}).")
    return systems


def settings_of(names: Sequence[str], values: Sequence[Any]) -> GenerationSettings:
    """The controls' values as settings; an empty control means the default.

    Raises:
        ConfigError: If a value is out of bounds.
    """
    from qa_lora.answering import GenerationSettings

    given = {}
    for name, value in zip(names, values, strict=True):
        if value is None:
            continue
        kind = type(getattr(GenerationSettings, name))
        try:
            given[name] = kind(value)
        except (TypeError, ValueError, OverflowError):
            raise ConfigError(f"{name} must be a number (it is {value!r}).") from None
    return GenerationSettings(**given)


def take_turn(
    engine: Engine,
    run_id: str | None,
    columns: Sequence[str] | None,
    names: Sequence[str],
    values: Sequence[Any],
    stop: threading.Event,
) -> Generator[str | Ready, None, None]:
    """Wait for the model and load the columns; close it to let the next one have the model.

    Args:
        engine: What the server holds.
        run_id: The run in view.
        columns: The systems to ask.
        names: Settings of :class:`GenerationSettings`.
        values: Their values.
        stop: Ends the waiting.

    Yields:
        What is being waited for, in a sentence, as often as it changes; then the model's turn.
        Nothing more if `stop` was set.

    Raises:
        QALoRAError: If there is nothing to ask, or it cannot be loaded.
    """
    run = usable_run(engine, run_id)
    systems = chosen_systems(engine, run, columns)
    yield "Answering…" if engine.holds(run) else "Loading the model…"
    with engine.fetching(run) as download:
        while download is not None and not download.wait(LOOK_SECONDS):
            if stop.is_set():
                return
            yield f"Downloading {describe(download.repo, download.done, download.total)}…"
        if download is not None:
            yield "Loading the model…"
    engine.warm_up()
    settings = settings_of(names, values)
    check_answers(engine.serving, settings.max_new_tokens, settings.num_beams)
    others = [system for system in systems if system not in ("base", "tuned")]
    with engine.enter_line(run) as ticket:
        while not ticket.ready(LOOK_SECONDS):
            if stop.is_set():
                return
            # Also when nothing changed: a closed page leaves the line only at a yield.
            yield _place(engine, ticket.place)
        if not stop.is_set():
            answerer = engine.answerer(run, others)
            yield Ready(run, answerer, systems, settings)


def paced(together: Iterator[Together], stop: threading.Event) -> Generator[Together, None, None]:
    """Growing answers, as often as a page is shown them; the last ones in any case.

    Args:
        together: What the model says; it is closed in the end.
        stop: Ends it where it is.
    """
    shown = 0.0
    last: Together | None = None
    with closing(together):  # type: ignore[type-var]
        for last in together:
            now = time.monotonic()
            if stop.is_set() or last.done:
                break
            longest = max((len(answer.text) for answer in last.answers.values()), default=0)
            if now - shown >= FRAME_SECONDS * max(1.0, longest / FRAME_CHARACTERS):
                shown = now
                yield last
    if last is not None:
        yield last


def _place(engine: Engine, before: int) -> str:
    """Who has the model while this one waits."""
    scored = engine.scored_now()
    if before <= 1:
        return f"The run {scored} is being scored; you are next." if scored else "You are next."
    return f"You are {ordinal(before)} in line for the model."


def held_out(engine: Engine, run_id: str | None) -> Sequence[QAExample]:
    """The run's test questions; none if there is no run or its data cannot be read any more."""
    run = engine.find(run_id)
    try:
        return engine.split(run).test if run else ()
    except QALoRAError:
        return ()


def offered(engine: Engine, run_id: str | None) -> list[QAExample]:
    """The test questions that can be asked by themselves: those that go on no earlier turns."""
    return [example for example in held_out(engine, run_id) if not example.history]


def references_of(engine: Engine, run_id: str | None, asked: Asked) -> list[str]:
    """The right answers, if this is a held-out question of the run."""
    from qa_lora.data import question_key

    key = question_key(asked.question, asked.context)
    found = [
        e.answer
        for e in held_out(engine, run_id)
        if question_key(e.question, e.context, e.history) == key
    ]
    return list(dict.fromkeys(found))
