"""What a training tells while it runs: small frozen records, and their JSON.

``events.jsonl`` of a run holds one of them a line. A reader ignores a torn last line and fields it
does not know, so old readers can follow new runs.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

__all__ = [
    "BackedUp",
    "Checkpointed",
    "Downloading",
    "Evaluated",
    "Event",
    "Failed",
    "Finished",
    "MemoryRanOut",
    "Probe",
    "Probed",
    "Recovered",
    "RolledBack",
    "Scored",
    "Scoring",
    "Started",
    "Step",
    "StreamEnded",
    "from_json",
    "to_json",
]

FinishReason: TypeAlias = Literal["completed", "stopped", "early_stopped", "out_of_time"]


@dataclass(frozen=True)
class Downloading:
    """The base model is on its way from the Hub, before the training begins."""

    type: ClassVar[str] = "downloading"
    model: str
    """Its Hub id."""
    bytes_done: int
    """What is here already, from an earlier try, too."""
    bytes_total: int
    """0 until the Hub has said it."""
    step: int = 0
    """Where the training that waits for it goes on."""


@dataclass(frozen=True)
class Started:
    """Training begins, or goes on after `step` steps."""

    type: ClassVar[str] = "started"
    step: int
    total_steps: int
    trainable_parameters: int
    all_parameters: int
    train_rows: int
    validation_rows: int
    test_rows: int
    test_fingerprint: str
    """Of the held-out rows: two runs can be compared only where it is the same."""
    device: str
    precision: str
    time: float
    """Seconds since the epoch."""
    run: str = ""
    """The run's id: the name of its folder."""
    processes: int = 1
    """How many train together."""
    notice: str = ""
    """What the reader should know about the settings, in a sentence."""


@dataclass(frozen=True)
class Step:
    """One optimizer step is done."""

    type: ClassVar[str] = "step"
    step: int
    epoch: float
    loss: float
    """Nats: mean negative log-likelihood of the effective batch's real label tokens."""
    learning_rate: float
    grad_norm: float
    tokens_per_second: float
    """Real (unpadded) source and target tokens."""
    elapsed_seconds: float
    eta_seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True)
class StreamEnded:
    """The last row of a stream was read, and it is known how long the training is."""

    type: ClassVar[str] = "stream_ended"
    step: int
    train_rows: int
    total_steps: int

    def corrected(self, started: Started) -> Started:
        """The begin of the training, with what is known now."""
        return dataclasses.replace(
            started, train_rows=self.train_rows, total_steps=self.total_steps
        )


@dataclass(frozen=True)
class MemoryRanOut:
    """The micro-batches were halved after `step` steps; the effective batch is as it was."""

    type: ClassVar[str] = "memory_ran_out"
    step: int
    micro_rows: int
    """Most rows of one forward pass from now on."""
    micro_tokens: int
    """Most real tokens of one forward pass of several rows from now on."""


@dataclass(frozen=True)
class Evaluated:
    """The validation loss after `step` steps."""

    type: ClassVar[str] = "evaluated"
    step: int
    loss: float
    perplexity: float
    """exp(loss)."""
    rougeL: float | None = None  # noqa: N815 - the metric's name
    """Of greedy answers to validation questions, where early_stopping_metric asks for it."""


@dataclass(frozen=True)
class Probe:
    """One fixed question and the answer of the moment."""

    question: str
    reference: str
    """The answer in the data; empty for a question of the user's own."""
    answer: str


@dataclass(frozen=True)
class Probed:
    """The answers to the probe questions after `step` steps."""

    type: ClassVar[str] = "probed"
    step: int
    probes: tuple[Probe, ...]


@dataclass(frozen=True)
class Checkpointed:
    """Everything up to `step` is safe on disk."""

    type: ClassVar[str] = "checkpointed"
    step: int
    seconds: float = 0.0
    """Time it took."""


@dataclass(frozen=True)
class BackedUp:
    """The run as it was after `step` steps is safe elsewhere, or could not be brought there."""

    type: ClassVar[str] = "backed_up"
    step: int
    seconds: float = 0.0
    """Time it took, beside the training."""
    error: str = ""
    """Why it failed, in a sentence; empty if it did not."""


@dataclass(frozen=True)
class Recovered:
    """The latest checkpoint was damaged; the training goes on from the one before, of `step`."""

    type: ClassVar[str] = "recovered"
    step: int
    reason: str
    """A sentence."""


@dataclass(frozen=True)
class RolledBack:
    """The loss was no number; the training goes on from `step` with a lower learning rate."""

    type: ClassVar[str] = "rolled_back"
    step: int
    learning_rate: float
    """The highest of the schedule from now on."""
    reason: str
    """A sentence."""


@dataclass(frozen=True)
class Finished:
    """Training ended as asked; the adapter is in its folder."""

    type: ClassVar[str] = "finished"
    step: int
    reason: FinishReason
    train_loss: float | None
    validation_loss: float | None
    """That of the adapter that was kept."""
    seconds: float
    tokens_per_second: float


@dataclass(frozen=True)
class Failed:
    """Training ended by an error; what was saved before it is intact."""

    type: ClassVar[str] = "failed"
    step: int
    error: str
    hint: str


@dataclass(frozen=True)
class Scoring:
    """Held-out rows are being answered, base and tuned, after training."""

    type: ClassVar[str] = "scoring"
    done: int
    total: int


@dataclass(frozen=True)
class Scored:
    """The held-out rows are scored; evaluation number `evaluation` holds the report."""

    type: ClassVar[str] = "scored"
    evaluation: int
    rows: int
    base: dict[str, float] = field(default_factory=dict)
    tuned: dict[str, float] = field(default_factory=dict)
    difference: dict[str, dict[str, float]] = field(default_factory=dict)


Event: TypeAlias = (
    Downloading
    | Started
    | Step
    | StreamEnded
    | MemoryRanOut
    | Evaluated
    | Probed
    | Checkpointed
    | BackedUp
    | Recovered
    | RolledBack
    | Finished
    | Failed
    | Scoring
    | Scored
)

_TYPES: dict[str, type[Any]] = {
    cls.type: cls
    for cls in (
        Downloading, Started, Step, StreamEnded, MemoryRanOut, Evaluated, Probed, Checkpointed,
        BackedUp, Recovered, RolledBack, Finished, Failed, Scoring, Scored,
    )
}  # fmt: skip


def _kinds(cls: type[Any]) -> dict[str, tuple[type, ...]]:
    """What JSON gives for each field of a record."""
    found: dict[str, tuple[type, ...]] = {}
    for each in dataclasses.fields(cls):
        kind = str(each.type)
        plain = kind.removesuffix(" | None")
        # A whole number may stand for one with a fraction.
        kinds = {"int": (int,), "float": (int, float), "str": (str,)}.get(plain, (object,))
        if plain.startswith("dict["):
            kinds = (dict,)
        found[each.name] = (*kinds, type(None)) if kind != plain else kinds
    return found


_KINDS = {cls: _kinds(cls) for cls in (*_TYPES.values(), Probe)}


def to_json(event: Event) -> str:
    """The event as one line of JSON, without the line's end."""
    return json.dumps({"type": event.type, **dataclasses.asdict(event)}, ensure_ascii=False)


def from_json(line: str) -> Event | None:
    """Read one line of an event log.

    Returns:
        The event, or None if the line is torn, damaged or of a kind this version does not know.
    """
    try:
        values = json.loads(line)
        cls = _TYPES[values.pop("type")]
        if cls is Probed:
            values["probes"] = tuple(_known(Probe, probe) for probe in values["probes"])
        event: Event = _known(cls, values)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return event


def _known(cls: type[Any], values: dict[str, Any]) -> Any:
    """A record of the fields this version knows.

    Raises:
        TypeError: If one is missing, or of another kind than it is written as.
    """
    kinds = _KINDS[cls]
    known = {name: value for name, value in values.items() if name in kinds}
    for name, value in known.items():
        if not isinstance(value, kinds[name]):
            raise TypeError(name)
    return cls(**known)
