"""The process that trains a run: writes its events, then scores the held-out questions.

``python -m qa_lora.worker RUN_DIR`` is what the app starts; the command line runs the same
:func:`execute` in the foreground.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from qa_lora import distributed, event_log, runs, turns
from qa_lora.backup.keeper import Keeper
from qa_lora.config import TrainConfig
from qa_lora.environment import write_environment, write_train_rows
from qa_lora.errors import QALoRAError, TrainingError, first_line
from qa_lora.events import (
    BackedUp,
    Event,
    Failed,
    Finished,
    Recovered,
    RolledBack,
    Scored,
    Scoring,
    Started,
    StreamEnded,
)
from qa_lora.interrupts import Signals
from qa_lora.recovery import rewind
from qa_lora.runs import Run
from qa_lora.secrets import guard_output
from qa_lora.threads import wait_politely

__all__ = ["execute", "score", "train", "wait_for_turn"]


def train(config: TrainConfig, runs_dir: str | Path | None = None) -> Iterator[Event]:
    """Create a run and train it here, telling each step; the run's folder holds the result.

    Args:
        config: The settings.
        runs_dir: Where the run's folder is made; :func:`qa_lora.runs.default_runs_dir` if None.

    Yields:
        Events, from `Started` to `Finished` and, if rows are held out for it, `Scored`.

    Raises:
        QALoRAError: If the training cannot go on; the run's log says so, too.
    """
    folder = runs_dir if runs_dir is not None else runs.default_runs_dir()
    run = distributed.from_first(lambda: runs.create(config, folder))
    yield from execute(run)


def execute(run: Run, *, resume: bool = False, seconds: float | None = None) -> Iterator[Event]:
    """Train a run in this process, writing each event before it is told.

    SIGTERM, Ctrl-C and a closed terminal finish the step, save, and end the training as stopped;
    while it loads they end it before the first step, while it scores after the batch. A second
    Ctrl-C does not wait.

    Args:
        run: A run that was created, or that can be resumed.
        resume: Go on from its checkpoint; begin anew if it has none.
        seconds: Train for about so long, at least one step, and leave a checkpoint to go on from.
            No event says that such a piece has ended, for the training has not. Whoever asks for
            the pieces claims and releases the run, and calls :func:`score` after the last one.

    Raises:
        QALoRAError: If the training cannot go on; the log's last event says so, too.
    """
    in_pieces = seconds is not None
    ends = time.monotonic() + (seconds or 0.0)

    def should_pause() -> bool:
        return in_pieces and time.monotonic() >= ends

    recovered = distributed.from_first(lambda: _begin(run, resume, claim=not in_pieces))
    if recovered is not None:
        yield recovered
    keeper: Keeper | None = None
    try:
        with Signals() as signals:
            goes_on = distributed.from_first(lambda: resume and run.has_checkpoint())
            # Whoever asks for pieces keeps the backup, so that no GPU waits for it.
            keeper = Keeper.of(run) if distributed.is_first() and not in_pieces else None
            for event in _train_and_score(
                run, goes_on, signals, should_pause, scored=not in_pieces
            ):
                if goes_on and isinstance(event, Started):
                    distributed.from_first(partial(run.check_held_out, event.test_fingerprint))
                if distributed.is_first():
                    _write(run, event)
                yield event
                if keeper is not None:
                    yield from _write_all(run, keeper.after(event))
            if keeper is not None:
                yield from _write_all(run, keeper.finish())
    except Exception as error:
        failed = _explain(error, run)
        if distributed.is_first():
            _write_last(run, failed)
        if keeper is not None and run.has_checkpoint():
            _write_all(run, keeper.finish())
        if isinstance(error, QALoRAError):
            raise
        raise TrainingError(failed.error, failed.hint) from error
    finally:
        if not in_pieces:
            run.release()


def score(run: Run, *, seconds: float | None = None) -> Iterator[Event]:
    """Score the held-out questions of a run that was trained in pieces, writing each event.

    Args:
        run: The run; whoever asked for the pieces holds it.
        seconds: After so long it ends with a report of what is done.

    Raises:
        QALoRAError: If they cannot be scored; the log's last event says so, too.
    """
    ends = time.monotonic() + seconds if seconds is not None else math.inf
    try:
        for event in _score(
            run,
            run.config().score_rows,
            lambda: run.stop_requested() or time.monotonic() >= ends,
        ):
            _write(run, event)
            yield event
    except Exception as error:
        failed = _explain(error, run)
        _write_last(run, failed)
        if isinstance(error, QALoRAError):
            raise
        raise TrainingError(failed.error, failed.hint) from error


def _begin(run: Run, resume: bool, *, claim: bool) -> Recovered | None:
    """Take the run over, and its log back to the checkpoint."""
    if claim:
        run.claim()
    turns.leave(run.path)
    return rewind(run) if resume else None


def _write(run: Run, event: Event) -> None:
    if isinstance(event, RolledBack):
        # What followed did not happen: the log tells one story.
        event_log.truncate(run.events_path, event.step)
    if isinstance(event, Started):
        write_environment(run, event)
    if isinstance(event, StreamEnded):
        write_train_rows(run, event.train_rows)
    event_log.append(run.events_path, event)


def _write_all(run: Run, events: list[BackedUp]) -> list[BackedUp]:
    """Note what became of backups; a full disk has been told of already."""
    with suppress(OSError):
        for event in events:
            event_log.append(run.events_path, event)
    return events


def _write_last(run: Run, failed: Failed) -> None:
    try:
        event_log.append(run.events_path, failed)
    except OSError:
        with suppress(OSError):  # worker.log may lie on the same full disk
            sys.stderr.write(f"{failed.error} {failed.hint}\n")


def wait_for_turn(run: Run, moved: Callable[[int], None] = lambda place: None) -> bool:
    """Wait here until the run's turn has come; a run without a ticket does not wait.

    Args:
        run: The run; this process is noted as the one that works on it.
        moved: Told the place in line, 1 for the next, whenever it changes.

    Returns:
        Whether its turn has come; false if it was cancelled, by a stop or a signal. A run that
        had not begun is then a stopped one, any other is what it was.

    Raises:
        RunError: If another process works on it, or the folder cannot be written.
    """
    run.claim()
    with Signals() as signals:
        came = turns.wait(
            run.path,
            cancelled=lambda: signals.received or run.stop_requested(),
            moved=moved,
        )
    if not came:
        if event_log.last_word(run.events_path) is None:
            event_log.append(run.events_path, Finished(0, "stopped", None, None, 0.0, 0.0))
        run.release()
    return came


def _train_and_score(
    run: Run,
    resume: bool,
    signals: Signals,
    should_pause: Callable[[], bool],
    *,
    scored: bool,
) -> Iterator[Event]:
    config = run.config()
    from qa_lora.training import train as train_events  # loads torch

    def should_stop() -> bool:
        return signals.received or run.stop_requested()

    finished: Finished | None = None
    for event in train_events(
        config, run.path, resume=resume, should_stop=should_stop, should_pause=should_pause
    ):
        if isinstance(event, Finished):
            finished = event
        yield event
    if finished is None or finished.reason == "stopped":
        return
    if scored and config.score_rows:
        yield from _score(run, config.score_rows, should_stop)


def _score(run: Run, limit: int, should_stop: Callable[[], bool]) -> Iterator[Event]:
    from qa_lora.evaluation import Progress, evaluate_stream

    for item in evaluate_stream(run, limit=limit, should_stop=should_stop):
        if isinstance(item, Progress):
            yield Scoring(done=item.done, total=item.total)
        else:
            yield Scored(
                evaluation=item.number or 0,
                rows=item.rows,
                base=item.base,
                tuned=item.tuned,
                difference=item.difference,
            )


def _explain(error: Exception, run: Run) -> Failed:
    """The last event of a training that could not go on."""
    last = event_log.last_word(run.events_path)
    step = getattr(last, "step", 0)
    if isinstance(error, QALoRAError):
        return Failed(step=step, error=error.message, hint=error.hint)
    from qa_lora.devices import is_out_of_memory  # loads torch, as the training did

    if is_out_of_memory(error):
        return Failed(
            step=step,
            error="There is not enough memory for this training.",
            hint="Halve batch_size and double gradient_accumulation: the result stays the same.",
        )
    if isinstance(error, OSError):
        return Failed(
            step=step,
            error=f"The run could not be written: {error.strerror or first_line(error)}.",
            hint="Free some disk space and resume the run.",
        )
    return Failed(
        step=step,
        error=f"An unexpected error ended the training: {type(error).__name__}: "
        f"{first_line(error)}.",
        hint="worker.log in the run's folder says where it happened.",
    )


def main(arguments: list[str]) -> int:
    """Train the run whose folder is named, when its turn has come; resume it if it was begun."""
    guard_output()
    wait_politely()
    run = Run(Path(arguments[0]))
    try:
        if wait_for_turn(run):
            begun = run.events_path.exists() or run.has_checkpoint()
            for _ in execute(run, resume=begun):
                pass
    except QALoRAError as error:
        with suppress(OSError):
            sys.stderr.write(f"{error}\n")
            if error.__cause__ is not None:
                import traceback

                traceback.print_exception(error.__cause__)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
