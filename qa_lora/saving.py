"""What a training leaves on disk: its checkpoint and the adapter that is kept."""

from __future__ import annotations

import errno

import torch
from safetensors import SafetensorError

from qa_lora import checkpoint
from qa_lora.adapters import save_adapter
from qa_lora.errors import TrainingError, first_line
from qa_lora.session import Session

__all__ = ["keep_adapter", "save_checkpoint"]

UNWRITABLE = (OSError, SafetensorError)
"""What saving raises when the disk is full: the file system's error or safetensors' own."""


def save_checkpoint(run: Session) -> None:
    if not run.accelerator.is_main_process:
        return
    try:
        checkpoint.save(
            run.folder / "checkpoint",
            run.progress,
            weights=run.trainable_weights(),
            best_weights=run.best,
            optimizer=run.optimizer,
            scheduler=run.scheduler,
        )
    except UNWRITABLE as error:
        raise _unwritable("checkpoint", error) from None
    if run.keep == "last":
        keep_adapter(run, run.trainable_weights())


def keep_adapter(run: Session, weights: dict[str, torch.Tensor]) -> None:
    if not run.accelerator.is_main_process:
        return
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
