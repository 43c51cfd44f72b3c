"""The full state of a training on disk, to go on from as if nothing had happened."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from qa_lora.checksums import write_checksums
from qa_lora.errors import RunError, first_line
from qa_lora.files import replaced_folder
from qa_lora.recovery import (
    CHECKPOINT_FORMAT,
    CHECKPOINT_STATE,
    check_processes,
    read_checkpoint_state,
)
from qa_lora.sharding import FullState, fill, shard_state

__all__ = ["Progress", "load", "random_states", "save"]

WEIGHTS, BEST, STATE = "weights.safetensors", "best.safetensors", "optimizer.pt"


@dataclass
class Progress:
    """How far a training is; everything in it survives a checkpoint."""

    step: int = 0
    """Optimizer steps done; the place in the data follows from it."""
    elapsed_seconds: float = 0.0
    tokens: int = 0
    """Real source and target tokens trained on."""
    best_step: int | None = None
    best_loss: float | None = None
    """Validation loss at the best step."""
    halvings: int = 0
    """How often the micro-batches were halved because memory ran out."""
    last_loss: float | None = None
    """The last validation loss."""
    train_loss: float | None = None
    """That of the last step."""
    best_rouge: float | None = None
    """ROUGE-L at the best step, where it decides which is best."""
    evaluations_without_improvement: int = 0
    """Validations in a row that found nothing better."""
    processes: int = 1
    """How many train together; the effective batch depends on it."""
    rows_digest: str = ""
    """Of the rows of a stream that were read so far; nothing where all were there."""
    epoch_rows: int | None = None
    """How many rows an epoch has, once a stream is through."""
    learning_rate_scale: float = 1.0
    """Below 1 once the training went back from a loss that was no number."""


def save(
    folder: Path,
    progress: Progress,
    *,
    previous: Path | None = None,
    weights: dict[str, torch.Tensor],
    best_weights: dict[str, torch.Tensor] | None,
    optimizer: torch.optim.Optimizer | FullState,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    random_numbers: Sequence[dict[str, Any]] = (),
) -> None:
    """Replace the checkpoint in `folder` in one step.

    Args:
        folder: Where the checkpoint lies.
        progress: How far the training is.
        previous: Where the checkpoint that was there before is kept; deleted if None.
        weights: The trainable weights.
        best_weights: Those of the best validation loss so far, if there are any.
        optimizer: Its state is saved.
        scheduler: Its state is saved.
        random_numbers: What :func:`random_states` gives in each process that trains; only this
            one's if empty.

    Raises:
        OSError, SafetensorError: If the disk is full or the folder cannot be written; the old
            checkpoint is intact.
    """
    state = {
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "random_numbers": list(random_numbers) or [random_states()],
    }
    with replaced_folder(folder, keep=previous) as new:
        save_file(weights, new / WEIGHTS)
        if best_weights is not None:
            save_file(best_weights, new / BEST)
        # By way of memory: torch does not tell a full disk from other failures when it writes.
        buffer = io.BytesIO()
        torch.save(state, buffer)
        (new / STATE).write_bytes(buffer.getbuffer())
        values = {"format": CHECKPOINT_FORMAT, **vars(progress)}
        (new / CHECKPOINT_STATE).write_text(json.dumps(values), "utf-8")
        write_checksums(new)


def load(
    folder: Path,
    *,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    processes: int = 1,
    process: int = 0,
) -> tuple[Progress, dict[str, torch.Tensor] | None]:
    """Bring a training back to its checkpoint, random numbers included.

    Args:
        folder: Where the checkpoint lies.
        model: Its trainable weights are overwritten.
        optimizer: Its state is overwritten.
        scheduler: Its state is overwritten.
        processes: How many train together.
        process: Which of them this is, from 0.

    Returns:
        How far the training was, and the best weights so far, if there were any.

    Raises:
        RunError: If the checkpoint is missing, damaged, of another model, or of another number of
            processes.
    """
    values = read_checkpoint_state(folder)
    check_processes(values, processes)
    try:
        values.pop("format", None)
        progress = Progress(**values)
        # Only tensors and plain containers are read: a checkpoint cannot run code.
        state: dict[str, Any] = torch.load(folder / STATE, map_location="cpu", weights_only=True)
        weights = load_file(folder / WEIGHTS)
        best = load_file(folder / BEST) if (folder / BEST).exists() else None
        trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
        shapes = {name: parameter.shape for name, parameter in trainable.items()}
        if shapes != {name: tensor.shape for name, tensor in weights.items()}:
            raise RunError(
                f"The checkpoint in {folder} is of another model or other LoRA settings.",
                "Start a new run instead.",
            )
        with torch.no_grad():
            for name, parameter in trainable.items():
                fill(parameter, weights[name])
        optimizer.load_state_dict(shard_state(state["optimizer"], optimizer))
        scheduler.load_state_dict(state["scheduler"])
        # Version 0.1 saved torch's beside the rest, and knew of one process only.
        _set_random_states(state.get("random_numbers", [state])[process])
    except RunError:
        raise
    except Exception as error:  # torch, safetensors and json each raise their own for damage
        raise RunError(
            f"The checkpoint in {folder} is damaged: {first_line(error)}.",
            "Start a new run with the same settings.",
        ) from None
    return progress, best


def random_states() -> dict[str, Any]:
    """Where each generator of random numbers stands, in plain containers and tensors.

    Torch draws the dropout masks; the order of rows has a generator of its own, made from the seed.
    """
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 - what libraries draw from
    return {
        "torch_rng": torch.get_rng_state(),
        # That of this process's own GPU: a look at the others would take memory there.
        "cuda_rng": [torch.cuda.get_rng_state()] if torch.cuda.is_available() else [],
        "numpy_rng": [kind, torch.from_numpy(np.asarray(keys, np.int64)), *rest],
        "python_rng": random.getstate(),
    }


def _set_random_states(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch_rng"])
    # On other hardware it goes on, with other random numbers.
    if torch.cuda.is_available() and len(state["cuda_rng"]) == 1:
        torch.cuda.set_rng_state(state["cuda_rng"][0])
    if "python_rng" in state:  # version 0.1 saved torch's alone
        random.setstate(state["python_rng"])
        kind, keys, *rest = state["numpy_rng"]
        np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
