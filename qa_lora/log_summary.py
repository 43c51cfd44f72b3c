"""What a row tells of a run's log: of thousands of lines only the few that matter are parsed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qa_lora import event_log
from qa_lora.events import Evaluated, Finished, Scored, Started, Step, StreamEnded, from_json
from qa_lora.runs import EVENTS, Run

__all__ = ["read_log"]

_SKIPPED = tuple(
    f'{{"type": "{kind}"'.encode()
    for kind in ("probed", "checkpointed", "scoring", "recovered", "downloading")
)
_STEP = b'{"type": "step"'


def read_log(run: Run) -> tuple[dict[str, Any], str]:
    """What the log of a run tells of it in one row.

    Returns:
        Fields of :class:`qa_lora.run_summaries.RunSummary` and "scored", the last scoring; and
        what is wrong with the log, in a sentence.
    """
    values: dict[str, Any] = {}
    losses: list[tuple[int, float]] = []
    last_step: Step | None = None
    any_line = any_event = False
    try:
        for event in _events(run.events_path):
            any_line = True
            any_event = any_event or event is not None
            match event:
                case Started():
                    # A run that goes on repeats what came after its last checkpoint.
                    values = {"total_steps": event.total_steps, "step": event.step}
                    losses = [each for each in losses if each[0] <= event.step]
                    last_step = None
                case StreamEnded():
                    values["total_steps"] = event.total_steps
                case Step():
                    last_step = event
                case Evaluated() if math.isfinite(event.loss):
                    losses.append((event.step, event.loss))
                case Finished():
                    values |= {"finished": True, "validation_loss": event.validation_loss}
                    values["seconds"] = event.seconds
                case Scored():
                    values["scored"] = event
                case _:
                    pass
    except OSError as error:
        return values, f"{EVENTS} cannot be read: {error.strerror or error}."
    if last_step is not None:
        values["step"] = last_step.step
        values.setdefault("seconds", last_step.elapsed_seconds)
    if losses:
        values["best_validation_loss"] = min(loss for _, loss in losses)
    return values, f"{EVENTS} holds no event." if any_line and not any_event else ""


def _events(path: Path) -> Iterator[Any]:
    """The events that matter to a row, of all steps the last one; None for a damaged line."""
    step = b""
    for line in event_log.lines(path):
        if line.startswith(_STEP):
            step = line
        elif not line.startswith(_SKIPPED):
            if step:  # before what may come after it, such as the start of a training that went on
                yield from_json(step.decode("utf-8", "replace"))
                step = b""
            yield from_json(line.decode("utf-8", "replace"))
    if step:
        yield from_json(step.decode("utf-8", "replace"))
