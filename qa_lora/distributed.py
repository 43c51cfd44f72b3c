"""The processes of one training under a launcher such as ``accelerate launch``.

The first process alone writes, prints and decides. What it decides, and what any of them fails at,
all learn before they go on, for a process that waits for one that has left waits for ever. With one
process everything here is a plain call and loads no torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

from qa_lora.errors import QALoRAError, TrainingError, first_line

__all__ = [
    "any_of",
    "asks_for",
    "collective",
    "count",
    "from_first",
    "gather",
    "index",
    "is_first",
    "leave",
    "together",
]

T = TypeVar("T")

# What torchrun and accelerate set, and what MPI's starters set instead.
SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")

PATIENCE = timedelta(days=7)
"""How long processes wait for the first one, which may be in line behind another run."""


def count() -> int:
    """How many processes train together."""
    return _from_environment(SIZES, 1)


def index() -> int:
    """Which of them this is, from 0."""
    return _from_environment(RANKS, 0) if count() > 1 else 0


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return index() == 0


def from_first(work: Callable[[], T]) -> T:
    """Let the first process do something; all get what it gives, or raise what it raises."""
    if count() == 1:
        return work()
    import torch.distributed as dist

    group = _group()
    outcome, error = _attempt(work) if is_first() else (_Outcome(), None)
    told = [outcome]
    with collective():
        dist.broadcast_object_list(told, src=0, group=group)
    if error is not None:
        raise error
    result: T = told[0].result()
    return result


def gather(work: Callable[[], T]) -> list[T]:
    """Let every process do something; all get what each gives, in order.

    Raises:
        Exception: On all of them, if one fails: the error of the first that does.
    """
    if count() == 1:
        return [work()]
    import torch.distributed as dist

    group = _group()
    outcome, error = _attempt(work)
    outcomes: list[Any] = [None] * count()
    with collective():
        dist.all_gather_object(outcomes, outcome, group=group)
    if error is not None and all(other.error is None for other in outcomes[: index()]):
        raise error
    return [other.result() for other in outcomes]


def together(work: Callable[[], T]) -> T:
    """Let every process do something; each gets its own result once all have succeeded."""
    if count() == 1:
        return work()
    mine: list[T] = []
    gather(lambda: mine.append(work()))
    return mine[0]


def any_of(*flags: bool) -> list[bool]:
    """For each flag, whether it is up in any process."""
    if count() == 1:
        return list(flags)
    import torch
    import torch.distributed as dist

    group = _group()
    raised = torch.tensor(flags, dtype=torch.int32)
    with collective():
        dist.all_reduce(raised, op=dist.ReduceOp.MAX, group=group)
    return [bool(flag) for flag in raised.tolist()]


def leave() -> None:
    """Take leave of the other processes, once all is done."""
    if count() == 1:
        return
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def asks_for(what: str) -> bool:
    """Whether accelerate's configuration asks for "FSDP" or "DEEPSPEED"."""
    return os.environ.get(f"ACCELERATE_USE_{what}", "false").lower() in ("1", "true")


@contextmanager
def collective() -> Iterator[None]:
    """Say in one sentence that another process is gone, while this one exchanges with it."""
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(
            "Another process of this training has ended unexpectedly.",
            "Its own message stands above; a run that has a checkpoint can be resumed.",
        ) from error


@dataclass(frozen=True)
class _Outcome:
    """What a piece of work gave, in a form that other processes can read."""

    value: Any = None
    error: Exception | None = None

    def result(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.value


def _attempt(work: Callable[[], Any]) -> tuple[_Outcome, Exception | None]:
    try:
        return _Outcome(work()), None
    except QALoRAError as error:
        return _Outcome(error=error), error
    except Exception as error:
        # Not every exception survives the way to another process; its words do.
        words = f"{type(error).__name__} in process {index()}: {first_line(error)}"
        return _Outcome(error=RuntimeError(words)), error


@cache
def _group() -> Any:
    """The processes' own line for objects and flags, apart from that of the gradients."""
    import torch
    import torch.distributed as dist

    on_cpu = not torch.cuda.is_available()
    if on_cpu:
        # Without it accelerate takes each process for a training of its own.
        os.environ["ACCELERATE_USE_CPU"] = "true"
    from accelerate import PartialState

    PartialState(cpu=on_cpu)
    return dist.new_group(backend="gloo", timeout=PATIENCE)


def _from_environment(names: tuple[str, ...], default: int) -> int:
    values = (os.environ.get(name, "") for name in names)
    return next((int(value) for value in values if value.isdecimal()), default)
