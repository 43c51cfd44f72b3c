"""What a training leaves on disk: its checkpoint and the adapter that is kept."""

from __future__ import annotations

import errno
import time

import torch
from safetensors import SafetensorError

from qa_lora import checkpoint, distributed, event_log
from qa_lora.adapters import save_adapter
from qa_lora.errors import TrainingError, first_line
from qa_lora.runs import Run
from qa_lora.session import Session
from qa_lora.sharding import FullState

__all__ = ["CheckpointClock", "keep_adapter", "save_checkpoint"]

SAVING_SHARE = 0.01
"""Checkpoints that are due by time take at most this share of it, however slow the disk is."""

UNWRITABLE = (OSError, SafetensorError)
"""What saving raises when the disk is full: the file system's error or safetensors' own."""


class CheckpointClock:
    """Says when the next checkpoint is due: by steps or by time, whichever comes first.

    Args:
        steps: Optimizer steps between two checkpoints.
        seconds: Time between two; None leaves it to the steps.
    """

    def __init__(self, steps: int, seconds: float | None) -> None:
        self._steps = steps
        self._seconds = seconds
        self._last = time.monotonic()
        self._cost = 0.0

    def due(self, step: int) -> bool:
        """Whether to save after this step."""
        if step % self._steps == 0:
            return True
        if self._seconds is None:
            return False
        pause = max(self._seconds, self._cost / SAVING_SHARE)
        return time.monotonic() - self._last >= pause

    def saved(self, seconds: float) -> None:
        """A checkpoint was written, and took this long."""
        self._last, self._cost = time.monotonic(), seconds


def save_checkpoint(run: Session) -> float:
    """Save the full state, and the adapter where the last one is kept; draws no random number.

    Returns:
        Seconds it took.

    Raises:
        TrainingError: If the disk is full or the folder cannot be written.
    """
    begin = time.monotonic()
    folder = Run(run.folder)
    weights = run.trainable_weights()
    optimizer = FullState.of(run.optimizer)
    random_numbers = distributed.gather(checkpoint.random_states)

    def write() -> None:
        try:
            # The story up to here is on the disk before the state that goes on from it.
            event_log.flush(folder.events_path)
            checkpoint.save(
                folder.checkpoint,
                run.progress,
                previous=folder.previous_checkpoint,
                weights=weights,
                best_weights=run.best,
                optimizer=optimizer,
                scheduler=run.scheduler,
                random_numbers=random_numbers,
            )
        except UNWRITABLE as error:
            raise _unwritable("checkpoint", error) from None

    distributed.from_first(write)
    if run.keep == "last" and run.progress.step > 0:
        keep_adapter(run, weights)
    return time.monotonic() - begin


def keep_adapter(run: Session, weights: dict[str, torch.Tensor]) -> None:
    """Make these weights the adapter that is kept.

    Raises:
        TrainingError: If the disk is full or the folder cannot be written.
    """
    distributed.from_first(lambda: _write_adapter(run, weights))


def _write_adapter(run: Session, weights: dict[str, torch.Tensor]) -> None:
    try:
        save_adapter(
            run.model,
            run.folder / "adapter",
            tokenizer=run.tokenizer,
            template=run.template,
            card=run.card,
            weights=weights,
        )
    except UNWRITABLE as error:
        raise _unwritable("adapter", error) from None


def _unwritable(what: str, error: Exception) -> TrainingError:
    # safetensors says which system error it met in words only.
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
    why = "the disk is full" if full else first_line(error)
    return TrainingError(
        f"The {what} could not be saved: {why}. What was saved before it is intact.",
        "Make room there; a run that has a checkpoint can be resumed.",
    )
