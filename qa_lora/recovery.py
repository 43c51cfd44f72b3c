"""Where a run goes on from: the latest checkpoint that is whole, and a log that ends there.

Loads no torch; what else a checkpoint holds is read by checkpoint.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qa_lora.checksums import find_damage
from qa_lora.errors import RunError
from qa_lora.event_log import append, truncate
from qa_lora.events import Checkpointed, Recovered

if TYPE_CHECKING:
    from qa_lora.runs import Run

__all__ = [
    "CHECKPOINT_FORMAT",
    "CHECKPOINT_STATE",
    "check_processes",
    "read_checkpoint_state",
    "rewind",
]

CHECKPOINT_STATE = "state.json"
"""File of a checkpoint that names its step."""
CHECKPOINT_FORMAT = 2
"""Since 2 a checkpoint has checksums."""


def rewind(run: Run) -> Recovered | None:
    """Take the event log back to the checkpoint, so that the run is one story again.

    The latest checkpoint that is whole is what is in ``checkpoint/`` afterwards. Without any, the
    story begins anew.

    Returns:
        What the log now says of a checkpoint that was damaged; None if the latest one is whole.

    Raises:
        RunError: If no checkpoint is whole, or the folder cannot be written.
    """
    step, reason = -1, ""
    for folder in (run.checkpoint, run.previous_checkpoint):
        if not folder.is_dir():
            continue
        try:
            step = read_checkpoint_state(folder)["step"]
        except RunError as error:
            reason = reason or error.message
            continue
        break
    if step < 0 and reason:
        raise RunError(
            f"The checkpoint of the run {run.id} cannot be used: {reason}",
            "Start a new run with the same settings.",
        )
    try:
        if step >= 0 and folder != run.checkpoint:
            if run.checkpoint.is_dir():
                damaged = run.path / "checkpoint.damaged"
                shutil.rmtree(damaged, ignore_errors=True)
                run.checkpoint.rename(damaged)
            folder.rename(run.checkpoint)
        kept = truncate(run.events_path, step)
        if kept and not any(isinstance(e, Checkpointed) and e.step == step for e in kept):
            append(run.events_path, Checkpointed(step=step))  # the kill came just before
        if not reason:
            return None
        recovered = Recovered(step=step, reason=reason)
        append(run.events_path, recovered)
    except OSError as error:
        raise RunError(f"The run {run.id} cannot be written: {error.strerror}.") from None
    return recovered


def read_checkpoint_state(folder: Path) -> dict[str, Any]:
    """What a checkpoint says of itself: its step and the rest of the progress.

    Raises:
        RunError: If it is missing, damaged, or of a later version.
    """
    reason = None
    values: Any = None
    try:
        values = json.loads((folder / CHECKPOINT_STATE).read_text("utf-8"))
        step, version = values["step"], values.get("format", 1)
        if not isinstance(step, int) or not isinstance(version, int):
            reason = f"{CHECKPOINT_STATE} names no step"
        elif version > CHECKPOINT_FORMAT:
            reason = "it is of a later version of QA LoRA"
        elif version > 1:
            reason = find_damage(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        reason = f"{CHECKPOINT_STATE} is missing or unreadable"
    if reason is not None:
        raise RunError(
            f"The checkpoint in {folder} is damaged: {reason}.",
            "Start a new run with the same settings.",
        )
    state: dict[str, Any] = values
    return state


def check_processes(state: Mapping[str, Any], now: int) -> None:
    """Say that a checkpoint was made by another number of processes.

    Args:
        state: What the checkpoint says of itself.
        now: How many processes would go on from it.

    Raises:
        RunError: If it was, for the effective batch would be another one.
    """
    before = state.get("processes", 1)
    if before != now:
        raise RunError(
            f"This run was trained by {_count(before)} and cannot go on with {_count(now)}, for "
            "the effective batch would be another.",
            f"Resume it with accelerate launch --num_processes {before}."
            if before != 1
            else "Resume it without accelerate launch.",
        )


def _count(processes: int) -> str:
    return f"{processes} process" + ("es" if processes > 1 else "")
