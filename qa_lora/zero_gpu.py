"""ZeroGPU Spaces: a GPU exists only inside calls of some seconds, so a training runs in pieces.

Such a Space lends its app a GPU for the length of one call of a function that the package
``spaces`` has wrapped. The wrapper forks a process for it and kills that when the time is over;
outside of it torch shows a GPU that cannot be used. So a run's process, which would want the GPU to
itself, is here a thread of the app that asks for one piece of the training after the other. Each
piece resumes from the checkpoint of the one before, which gives the same bytes as a training in one
piece.

Everywhere else nothing here does anything, and nothing is imported.
"""

from __future__ import annotations

import contextvars
import os
import re
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from qa_lora.errors import ConfigError, QALoRAError, first_line
from qa_lora.secrets import redact

if TYPE_CHECKING:
    from qa_lora.runs import Run

__all__ = ["active", "call_seconds", "drive", "launch", "on_gpu", "set_up", "withheld"]

SECONDS_VARIABLE = "QA_LORA_GPU_SECONDS"
DEFAULT_SECONDS = 60
"""Of one call. Longer ones wait longer for a GPU, and a visitor's quota must cover a whole call."""
TRIES = 3
WAIT_SECONDS = 15.0
"""Before a GPU is asked for again, when none was free."""

_FINAL = ("quota", "credits", "duration")
"""In the titles of refusals that asking again does not change."""

_MODULES = (
    "qa_lora.training",
    "qa_lora.evaluation",
    "qa_lora.answering.effect",
    "transformers.models.t5.modeling_t5",
    "transformers.models.t5.tokenization_t5",
)
"""What pieces, and handlers of the app beside them, would import when they first need it."""

Outcome: TypeAlias = Literal["goes on", "ended", "failed"]

_call: Callable[..., Any] | None = None
"""The wrapped :func:`_work`; None where there is no ZeroGPU."""
_inside = False
"""Whether this process is one that was forked for a call."""


def set_up() -> None:
    """On a ZeroGPU Space, get ready to ask for the GPU; call it before the app is launched.

    Raises:
        ConfigError: If QA_LORA_GPU_SECONDS is no sensible number.
    """
    global _call
    if os.environ.get("SPACES_ZERO_GPU", "").lower() not in ("1", "t", "true"):
        return
    call_seconds()
    import spaces

    # Now, while there is one thread: a process that is forked while another thread imports a module
    # waits for ever when it needs that one, too.
    for name in _MODULES:
        import_module(name)
    _call = spaces.GPU(duration=lambda function, args, seconds: seconds)(_work)


def active() -> bool:
    """Whether this app has a GPU only by :func:`on_gpu`."""
    return _call is not None


def withheld() -> bool:
    """Whether this process must not touch the GPU that torch shows."""
    return _call is not None and not _inside


def call_seconds() -> int:
    """How long one call may take.

    Raises:
        ConfigError: If QA_LORA_GPU_SECONDS is no sensible number.
    """
    text = os.environ.get(SECONDS_VARIABLE) or str(DEFAULT_SECONDS)
    if not text.isascii() or not text.isdecimal() or not 20 <= int(text) <= 3600:
        raise ConfigError(f"{SECONDS_VARIABLE} is {text!r}; it must be a number from 20 to 3600.")
    return int(text)


def on_gpu(function: Callable[..., Any], *args: Any, seconds: int) -> Any:
    """Call a function where the GPU is: in a forked process on ZeroGPU, else right here.

    Args:
        function: Of a module, so that a process that was forked before can find it.
        args: For it; plain values, for they are pickled. What it returns is, too.
        seconds: How long it may take; it is killed some time after that.

    Raises:
        Exception: What the function raises, or that no GPU is given, which the package says by an
            error of gradio's.
    """
    if _call is None:
        return function(*args)
    return _call(function, args, seconds)


def _work(function: Callable[..., Any], args: tuple[Any, ...], seconds: int) -> Any:
    global _inside
    _inside = _call is not None
    return function(*args)


def launch(folder: Path) -> None:
    """Train the run in a folder in a thread of this process, which is noted as the run's.

    The thread keeps the visitor's request as it was at the click, since the quota that is used is
    that of who makes it; but not the event, or a closed page would end a wait for the GPU.
    """
    from qa_lora.runs import Run

    context = contextvars.copy_context()
    for variable in context:
        if variable.name == "event_id":
            context.run(variable.set, None)
    thread = threading.Thread(
        target=context.run, args=(drive, Run(folder)), name=f"drive {folder.name}", daemon=True
    )
    thread.start()


def drive(run: Run, *, seconds: int | None = None) -> None:
    """Train a run piece by piece when its turn has come, then score it; its log tells how it ends.

    Args:
        run: The run; this process must be noted as the one that works on it.
        seconds: Of one piece; :func:`call_seconds` if None.
    """
    from qa_lora import event_log
    from qa_lora.backup.keeper import Keeper
    from qa_lora.events import BackedUp, Checkpointed, Finished
    from qa_lora.worker import wait_for_turn

    def note(backups: list[BackedUp]) -> None:
        for event in backups:
            event_log.append(run.events_path, event)

    try:
        whole = call_seconds() if seconds is None else seconds
        if not wait_for_turn(run) or not _gather(run):
            return
        keeper = Keeper.of(run)
        while (outcome := _ask(run, _train_piece, whole)) == "goes on":
            if keeper is not None:
                note(keeper.after(Checkpointed(step=_saved(run), seconds=0.0)))
        last = event_log.last_word(run.events_path)
        finished = isinstance(last, Finished) and last.reason != "stopped"
        if outcome == "ended" and finished and run.config().score_rows:
            _ask(run, _score_piece, whole)
        if keeper is not None and run.has_checkpoint():
            note(keeper.finish())
    except Exception:  # of this thread nobody hears
        _log(run.path)
    finally:
        with suppress(OSError):
            run.release()


def _gather(run: Run) -> bool:
    """Fetch model and data from the Hub before a GPU is asked for, whose seconds are counted."""
    from qa_lora import event_log
    from qa_lora.data import load_split
    from qa_lora.events import Failed, Finished
    from qa_lora.fetching import base_commit, fetch_base

    step = max(_saved(run), 0)
    try:
        config = run.config()
        commit = base_commit(run.path)
        for event in fetch_base(config.model, run.stop_requested, commit=commit, step=step):
            event_log.append(run.events_path, event)
        if run.stop_requested() and not run.has_checkpoint():
            stopped = Finished(step, "stopped", None, None, 0.0, 0.0)
            event_log.append(run.events_path, stopped)
            return False
        load_split(config, whole=False)
    except QALoRAError as error:
        event_log.append(run.events_path, Failed(step, error.message, error.hint))
        return False
    return True


def _ask(run: Run, piece: Callable[[str, float], Outcome], whole: int) -> Outcome:
    """One piece, asked for again when that may help; if it does not, the log says why."""
    from qa_lora import event_log
    from qa_lora.events import Failed, Finished

    tries = 0
    while True:
        before = _saved(run)
        try:
            # The rest is for a step that is under way, its validation, and saving.
            outcome: Outcome = on_gpu(
                piece, str(run.path), whole - max(min(10.0, whole / 2), whole / 5), seconds=whole
            )
        except Exception as error:
            _log(run.path)
            after = _saved(run)
            if after > before:
                continue  # it was cut off; what it saved before is kept
            tries += 1
            final = any(word in str(getattr(error, "title", "")).lower() for word in _FINAL)
            if not final and tries < TRIES and _wait(run):
                continue
            trained = isinstance(event_log.last_word(run.events_path), Finished)
            if run.stop_requested():
                if not trained:
                    stopped = Finished(max(after, 0), "stopped", None, None, 0.0, 0.0)
                    event_log.append(run.events_path, stopped)
                return "ended"
            failed = Failed(max(after, 0), *_in_words(error, after, trained))
            event_log.append(run.events_path, failed)
            return "failed"
        return outcome


def _wait(run: Run) -> bool:
    """Wait before a GPU is asked for again; false as soon as the run is to stop."""
    ends = time.monotonic() + WAIT_SECONDS
    while not (stopping := run.stop_requested()) and time.monotonic() < ends:
        time.sleep(min(0.5, WAIT_SECONDS))
    return not stopping


def _train_piece(folder: str, seconds: float) -> Outcome:
    """Runs where the GPU is."""
    from qa_lora import event_log, runs
    from qa_lora.events import Finished
    from qa_lora.worker import execute

    run = runs.Run(Path(folder))
    try:
        begun = run.events_path.exists() or run.has_checkpoint()
        for _ in execute(run, resume=begun, seconds=seconds):
            pass
    except QALoRAError:
        _log(run.path)
        return "failed"
    ended = isinstance(event_log.last_word(run.events_path), Finished)
    return "ended" if ended else "goes on"


def _score_piece(folder: str, seconds: float) -> Outcome:
    """Runs where the GPU is."""
    from qa_lora import runs
    from qa_lora.worker import score

    run = runs.Run(Path(folder))
    try:
        for _ in score(run, seconds=seconds):
            pass
    except QALoRAError:
        _log(run.path)
        return "failed"
    return "ended"


def _saved(run: Run) -> int:
    """The step of the last checkpoint; -1 if there is none."""
    from qa_lora.recovery import read_checkpoint_state

    try:
        return int(read_checkpoint_state(run.checkpoint)["step"])
    except QALoRAError:
        return -1


def _in_words(error: Exception, step: int, trained: bool) -> tuple[str, str]:
    said = re.sub(r"<[^>]*>", "", first_line(error))
    later = (
        f"Resume the run later; it goes on from step {step}."
        if step >= 0
        else "Start it again later."
    )
    if trained:
        later = "The training is done: score it on the Evaluate tab."
    if "aborted" in said and trained:
        return "The GPU was taken away before the held-out questions were scored.", later
    if "aborted" in said:
        return (
            "The GPU was taken away before the training had saved a step.",
            f"Set {SECONDS_VARIABLE} higher, or take a smaller model. {later}",
        )
    return f"ZeroGPU gave no GPU: {said}.", later


def _log(folder: Path) -> None:
    """Write the error that is being handled to the run's log of output."""
    with suppress(OSError), (folder / "worker.log").open("a", encoding="utf-8") as log:
        log.write(redact(traceback.format_exc()))
