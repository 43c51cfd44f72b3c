"""Training by hand: the loop, from rows of questions and answers to a LoRA adapter.

`train` is a generator of events. It prints nothing and draws nothing; who iterates decides what to
do with what it tells, and the order of the loop below is the order in which things happen.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import torch

from qa_lora import checkpoint, distributed
from qa_lora.adapters import count_parameters
from qa_lora.config import TrainConfig
from qa_lora.data import begin
from qa_lora.devices import device_name, peak_memory_bytes
from qa_lora.errors import NonFiniteLossError, RunError
from qa_lora.events import (
    Checkpointed,
    Event,
    Finished,
    FinishReason,
    MemoryRanOut,
    RolledBack,
    Started,
    Step,
    StreamEnded,
)
from qa_lora.fetching import base_commit, fetch_base
from qa_lora.gradient_sync import copy_from_first
from qa_lora.optimizer_step import optimizer_step
from qa_lora.preparing import prepare
from qa_lora.recovery import read_checkpoint_state
from qa_lora.saving import CheckpointClock, keep_adapter, save_checkpoint
from qa_lora.session import Session
from qa_lora.tracking import Tracker
from qa_lora.training_rows import StoppedWaitingError
from qa_lora.validation import evaluate, probe

__all__ = ["train"]

SPEED_WINDOW = 20
"""Tokens per second are those of this many last steps."""


def train(
    config: TrainConfig,
    folder: Path,
    *,
    resume: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    should_pause: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Fine-tune a LoRA adapter, telling each step.

    Loss and gradient of a step are means over the real label tokens of its whole effective batch:
    all micro-batches, on all processes. The adapter ends up in ``folder/adapter``, what is needed
    to go on in ``folder/checkpoint``.

    Args:
        config: The settings.
        folder: The run's folder.
        resume: Go on from the checkpoint there.
        should_stop: Asked before the first step and after every one; when true, what was done is
            saved and the training ends.
        should_pause: Asked after every step; when true, what was done is saved and the iteration
            ends without `Finished`, for the training goes on from there.

    Yields:
        Events, from `Started` to `Finished`; `Downloading` before, if the model is not here yet.

    Raises:
        QALoRAError: If data or model cannot be used, the loss is no longer a number, or the disk
            is full. What was saved before is intact.
    """
    split, coming = distributed.together(lambda: begin(config))
    step = _checkpointed_step(folder) if resume else 0
    commit = base_commit(folder)
    if not (yield from fetch_base(config.model, should_stop, commit=commit, step=step)):
        yield Finished(step, "stopped", None, None, 0.0, 0.0)
        return
    run = distributed.together(lambda: prepare(config, folder, split, coming))
    if not run.adapter_sharded:
        copy_from_first(run.trainable)
    if resume:
        _load_checkpoint(run)
    tracker = Tracker(run.accelerator, config, folder, run.progress.step)
    try:
        for event in _story(run, config, should_stop, should_pause):
            tracker.log(event)
            yield event
    finally:
        tracker.close()


def _story(
    run: Session,
    config: TrainConfig,
    should_stop: Callable[[], bool],
    should_pause: Callable[[], bool],
) -> Iterator[Event]:
    """All events of a training that is prepared."""
    session_start = time.monotonic() - run.progress.elapsed_seconds
    trainable, everything = count_parameters(run.model)
    yield Started(
        step=run.progress.step,
        total_steps=run.total_steps,
        trainable_parameters=trainable,
        all_parameters=everything,
        train_rows=run.plan.rows,
        validation_rows=len(run.validation_rows),
        test_rows=run.test_rows,
        test_fingerprint=run.test_fingerprint,
        device=device_name(run.accelerator.device),
        precision="bf16" if run.dtype is torch.bfloat16 else "fp32",
        time=time.time(),
        run=run.folder.name,
        processes=distributed.count(),
        notice=run.notice,
    )
    while True:
        try:
            reason = yield from _steps(run, config, session_start, should_stop, should_pause)
            break
        except StoppedWaitingError:
            run.progress.elapsed_seconds = time.monotonic() - session_start
            yield Checkpointed(step=run.progress.step, seconds=save_checkpoint(run))
            reason = "stopped"
            break
        except NonFiniteLossError as error:
            # A first step that fails was not made to fail by the learning rate.
            again = run.progress.learning_rate_scale == 1.0 and run.progress.step > 0
            if config.on_nonfinite_loss == "stop" or not again:
                raise
            yield from _roll_back(run, config.learning_rate, error)

    if reason is None:
        return
    progress = run.progress
    if reason in ("stopped", "out_of_time") and progress.step % config.evaluate_every:
        # After the checkpoint: a resumed run must not know of this extra look.
        yield from evaluate(run)
    if run.best is None and config.keep == "best" and progress.step > 0:
        keep_adapter(run, run.trainable_weights())
    progress.elapsed_seconds = time.monotonic() - session_start
    yield Finished(
        step=progress.step,
        reason=reason,
        train_loss=progress.train_loss,
        validation_loss=run.kept_loss,
        seconds=progress.elapsed_seconds,
        tokens_per_second=progress.tokens / max(progress.elapsed_seconds, 1e-9),
    )


def _steps(
    run: Session,
    config: TrainConfig,
    session_start: float,
    should_stop: Callable[[], bool],
    should_pause: Callable[[], bool],
) -> Generator[Event, None, FinishReason | None]:
    """The steps from where the training is to its end, or to a pause.

    Returns:
        The reason why it ended; None if it goes on.
    """
    progress = run.progress
    clock = CheckpointClock(config.checkpoint_every, config.checkpoint_seconds)
    if run.out_of_patience:
        return "early_stopped"
    if progress.step < run.total_steps and any(distributed.any_of(_late(run, config))):
        return "out_of_time"
    if progress.step < run.total_steps and any(distributed.any_of(should_stop())):
        if progress.step == 0:
            yield Checkpointed(step=0, seconds=save_checkpoint(run))
        return "stopped"
    if progress.step == 0:
        if config.on_nonfinite_loss == "retry" and progress.learning_rate_scale == 1.0:
            # The start is a state to go back to.
            yield Checkpointed(step=0, seconds=save_checkpoint(run))
        yield from evaluate(run)
        yield from probe(run)

    speed: deque[tuple[int, float]] = deque(maxlen=SPEED_WINDOW)
    epoch_rows = progress.epoch_rows
    for epoch, rows in run.remaining_batches(should_stop):
        if progress.epoch_rows is not None and epoch_rows is None:
            epoch_rows = progress.epoch_rows
            yield StreamEnded(progress.step, epoch_rows, run.total_steps)
        step_start = time.monotonic()
        halvings = progress.halvings
        loss, grad_norm, tokens = optimizer_step(run, rows)
        if progress.halvings > halvings:
            yield MemoryRanOut(progress.step, run.micro_rows, run.micro_tokens)
        now = time.monotonic()
        progress.step += 1
        progress.train_loss = loss
        progress.tokens += tokens
        progress.elapsed_seconds = now - session_start
        speed.append((tokens, now - step_start))
        yield Step(
            step=progress.step,
            epoch=epoch,
            loss=loss,
            learning_rate=run.last_learning_rate,
            grad_norm=grad_norm,
            tokens_per_second=sum(t for t, _ in speed) / sum(s for _, s in speed),
            elapsed_seconds=progress.elapsed_seconds,
            eta_seconds=_left(run, config),
            peak_memory_bytes=peak_memory_bytes(run.accelerator.device),
        )
        is_last = progress.step == run.total_steps
        if is_last or progress.step % config.evaluate_every == 0:
            yield from evaluate(run)
            yield from probe(run)
        is_over = is_last or run.out_of_patience
        late, stopping, pausing, due = distributed.any_of(
            not is_over and _late(run, config),
            not is_over and should_stop(),
            not is_over and should_pause(),
            clock.due(progress.step),
        )
        is_over |= late
        if is_over or stopping or pausing or due:
            progress.elapsed_seconds = time.monotonic() - session_start
            clock.saved(seconds := save_checkpoint(run))
            yield Checkpointed(step=progress.step, seconds=seconds)
        if late:
            return "out_of_time"
        if stopping:
            return "stopped"
        if pausing:
            return None
        if is_over and not is_last:
            return "early_stopped"
    return "completed"


def _left(run: Session, config: TrainConfig) -> float:
    """Seconds until the last step at the speed so far, or until the minutes are over."""
    elapsed, step = run.progress.elapsed_seconds, run.progress.step
    left = elapsed / step * (run.total_steps - step)
    most = 60 * config.max_minutes
    return min(left, max(0.0, most - elapsed)) if most else left


def _late(run: Session, config: TrainConfig) -> bool:
    """Whether the training has had its minutes, as they stood after the last step."""
    return 0 < 60 * config.max_minutes <= run.progress.elapsed_seconds


def _checkpointed_step(folder: Path) -> int:
    try:
        return int(read_checkpoint_state(folder / "checkpoint")["step"])
    except RunError:
        return 0  # what is wrong with it is said when it is read


def _load_checkpoint(run: Session) -> None:
    run.progress, run.best = distributed.together(
        lambda: checkpoint.load(
            run.folder / "checkpoint",
            processes=distributed.count(),
            process=distributed.index(),
            model=run.model,
            optimizer=run.optimizer,
            scheduler=run.scheduler,
        )
    )
    run.plan.rows = run.progress.epoch_rows or run.plan.rows
    # A stop may have kept an adapter that the uninterrupted run never looked at, and a kill may
    # have come between checkpoint and adapter.
    if run.best is not None and run.keep == "best":
        keep_adapter(run, run.best)
    elif run.keep == "last" and run.progress.step > 0:
        keep_adapter(run, run.trainable_weights())


def _roll_back(run: Session, learning_rate: float, error: NonFiniteLossError) -> Iterator[Event]:
    """Go back to the last checkpoint, and on from there with half the learning rate."""
    _load_checkpoint(run)
    run.optimizer.zero_grad()
    scale = run.progress.learning_rate_scale = run.progress.learning_rate_scale / 2
    schedule = run.scheduler.state_dict()
    for key in ("base_lrs", "_last_lr"):
        schedule[key] = [rate / 2 for rate in schedule[key]]
    run.scheduler.load_state_dict(schedule)
    for group in run.optimizer.param_groups:
        group["lr"] /= 2
        group["initial_lr"] /= 2
    yield RolledBack(
        step=run.progress.step, learning_rate=learning_rate * scale, reason=error.message
    )
    # A run that is resumed from here keeps the lower rate.
    yield Checkpointed(step=run.progress.step, seconds=save_checkpoint(run))
