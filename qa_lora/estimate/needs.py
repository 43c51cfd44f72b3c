"""What a training will need, before it starts: memory by parts, and time. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from qa_lora.config import TrainConfig
from qa_lora.estimate.activations import packed_bytes, plain_bytes
from qa_lora.estimate.lengths import RowLengths, count_rows, largest_micro_batch
from qa_lora.estimate.shapes import ModelShape, model_shape
from qa_lora.estimate.speed import PastRun, is_plain, past_runs, token_rates

__all__ = ["Estimate", "Part", "Room", "estimate", "estimate_config", "this_room"]

FLOOR_BYTES = 490_000_000
"""Python, torch, transformers, peft and the data's libraries on a CPU; measured, with pocket."""
CONTEXT_BYTES = 600_000_000
"""What CUDA itself takes of a GPU."""
HEAP = {"cpu": 1.35, "gpu": 1.15}
"""Memory that freed pieces leave unused between those in use, as a factor on activations."""
SPREAD = 0.15
"""The range is this much below and above."""
TIGHT = 0.9
START_SECONDS = 8.0
PROBE_SECONDS = 0.5


@dataclass(frozen=True)
class Room:
    """The device that would train."""

    kind: Literal["cpu", "gpu"]
    name: str
    precision: str
    free_bytes: int
    """Of the memory that the model will lie in."""


@dataclass(frozen=True)
class Part:
    """One part of the memory."""

    name: str
    bytes: int
    why: str


@dataclass(frozen=True)
class Estimate:
    """What a training needs."""

    parts: tuple[Part, ...]
    low_bytes: int
    high_bytes: int
    free_bytes: int
    fits: Literal["yes", "tight", "no"]
    device: str
    precision: str
    packed: bool
    """Whether rows are computed without padding; see qa_lora/packed."""
    adapter_parameters: int
    steps: int
    epochs: float
    tokens_per_second: tuple[float, float]
    epoch_seconds: tuple[float, float]
    seconds: tuple[float, float]
    """Of the whole run: starting, training, validating, scoring."""
    speed_from: str

    @property
    def memory(self) -> str:
        """The range in words, such as "0.7-0.9 GB"."""
        return f"{_range(self.low_bytes / 1e9, self.high_bytes / 1e9)} GB"

    @property
    def time(self) -> str:
        """The whole run in words, such as "1-2 min"."""
        return _duration(*self.seconds)

    @property
    def epoch_time(self) -> str:
        """An epoch's training in words."""
        return _duration(*self.epoch_seconds)

    @property
    def sentence(self) -> str:
        """Whether it fits, in one sentence, with what to do where it does not."""
        free = f"{self.free_bytes / 1e9:.1f} GB"
        if self.fits == "yes":
            return f"It fits: {free} are free on {self.device}."
        change = "a smaller model" if self._largest == "weights" else "a smaller batch_tokens"
        if self.fits == "tight":
            return f"It may not fit: {free} are free on {self.device}; {change} needs less."
        return f"It does not fit: only {free} are free on {self.device}; choose {change}."

    @property
    def _largest(self) -> str:
        return max(self.parts, key=lambda part: part.bytes).name

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {**asdict(self), "sentence": self.sentence}


def estimate(
    config: TrainConfig,
    shape: ModelShape,
    room: Room,
    lengths: RowLengths,
    past: Sequence[PastRun] = (),
) -> Estimate:
    """Estimate memory and time of a training on one device.

    Args:
        config: The settings.
        shape: The base model's.
        room: Where it would train.
        lengths: Of the rows.
        past: Trainings that were done here.

    Raises:
        ModelError: If a LoRA target matches no layer.
    """
    packed = not is_plain(config)
    parts = _parts(config, shape, room, lengths, packed=packed)
    total = sum(part.bytes for part in parts)
    low, high = int(total * (1 - SPREAD)), int(total * (1 + SPREAD))
    fits: Literal["yes", "tight", "no"] = "yes"
    if high > TIGHT * room.free_bytes:
        fits = "no" if low > room.free_bytes else "tight"

    per_epoch = math.ceil(len(lengths.train) / config.effective_batch_size)
    steps = config.max_steps or max(1, math.ceil(config.epochs * per_epoch))
    epochs = steps / max(1, per_epoch)
    slow, fast, source = token_rates(
        config, shape, lengths, past,
        device=room.name, precision=room.precision, gpu=room.kind == "gpu",
    )  # fmt: skip
    epoch_seconds = (lengths.tokens / fast, lengths.tokens / slow)
    rest = [_beside(config, shape, room, lengths, steps, rate) for rate in (fast, slow)]
    return Estimate(
        parts=parts,
        low_bytes=low,
        high_bytes=high,
        free_bytes=room.free_bytes,
        fits=fits,
        device=room.name,
        precision=room.precision,
        packed=packed,
        adapter_parameters=shape.adapter_parameters(
            config.lora_r, config.target_modules, dora=config.use_dora
        ),
        steps=steps,
        epochs=epochs,
        tokens_per_second=(slow, fast),
        epoch_seconds=epoch_seconds,
        seconds=(epoch_seconds[0] * epochs + rest[0], epoch_seconds[1] * epochs + rest[1]),
        speed_from=source,
    )


def estimate_config(config: TrainConfig, runs_dir: Path) -> Estimate:
    """Estimate a training here, reading its data; loads torch, to ask about the device.

    Args:
        config: The settings.
        runs_dir: Where past runs lie.

    Raises:
        QALoRAError: If the data cannot be used, or the model's size is not known.
    """
    from qa_lora.data import load_split

    shape = model_shape(config.model)
    lengths = count_rows(config, load_split(config, whole=False))
    return estimate(config, shape, this_room(config.precision), lengths, past_runs(runs_dir))


def this_room(precision: str) -> Room:
    """The device that a training here would use; loads torch.

    Args:
        precision: As in the settings.
    """
    from qa_lora import devices

    device = devices.choose_device()
    return Room(
        "cpu" if device.type == "cpu" else "gpu",
        devices.device_name(device),
        "bf16" if "bfloat16" in str(devices.choose_dtype(precision, device)) else "fp32",
        devices.free_memory_bytes(device),
    )


def _parts(
    config: TrainConfig, shape: ModelShape, room: Room, lengths: RowLengths, *, packed: bool
) -> tuple[Part, ...]:
    weight = 2 if room.precision == "bf16" else 4
    targets = shape.targets(config.target_modules)
    rows = largest_micro_batch(config, room.kind, lengths)
    if packed:
        activations = packed_bytes(
            shape,
            rows,
            weight=weight,
            rank=config.lora_r,
            targets=targets,
            dropout=config.lora_dropout > 0,
            device=room.kind,
        )
    else:
        activations = plain_bytes(
            shape,
            rows,
            weight=weight,
            rank=config.lora_r,
            targets=targets,
            base_dropout=config.base_dropout,
            checkpointing=config.gradient_checkpointing,
        )
    weights = shape.parameters * weight
    if packed and room.kind == "cpu":
        # What was joined is there twice: in the file's pages, or as pieces that the heap keeps.
        weights += shape.joined_parameters * weight
    adapter = 4 * shape.adapter_parameters(
        config.lora_r, config.target_modules, dora=config.use_dora
    )
    on_cpu = room.kind == "cpu"
    tokens = sum(s + t for s, t in rows)
    return (
        Part(
            "libraries",
            (FLOOR_BYTES if on_cpu else CONTEXT_BYTES) + 60 * lengths.tokens * on_cpu,
            "Python, torch and the data" if on_cpu else "CUDA itself",
        ),
        Part("weights", weights, f"{shape.parameters:,} frozen parameters in {room.precision}"),
        Part("adapter", adapter, f"rank {config.lora_r} on {config.target_modules}, in fp32"),
        # A copy of the best adapter lies beside it, on the CPU.
        Part("optimizer", 3 * adapter + adapter * on_cpu, "gradient and AdamW's two moments"),
        Part(
            "activations",
            int(activations * HEAP[room.kind]),
            f"of {len(rows)} rows of {tokens:,} tokens together, the largest micro-batch",
        ),
    )


def _beside(
    config: TrainConfig,
    shape: ModelShape,
    room: Room,
    lengths: RowLengths,
    steps: int,
    rate: float,
) -> float:
    """Seconds of what is not training: starting, validating, probing, scoring."""
    validations = steps // config.evaluate_every + 1
    # A forward pass alone is half of the work.
    validating = sum(s + t for s, t in lengths.validation) / (2 * rate) * validations
    answers = sorted(t for _, t in lengths.train) or [config.max_new_tokens]
    longest = min(answers[-1], config.max_new_tokens)
    # Each token of an answer reads the decoder's weights once for its batch.
    bytes_read = shape.parameters * (2 if room.precision == "bf16" else 4)
    token_seconds = 0.01 + bytes_read / (1e12 if room.kind == "gpu" else 8e9)
    probing = validations * longest * token_seconds * (config.probe_rows > 0)
    batches = math.ceil(min(config.score_rows, lengths.test_rows) / 8)
    scoring = 2 * batches * longest * token_seconds
    return START_SECONDS + validating + probing + scoring


def _duration(low: float, high: float) -> str:
    unit, size = "s", 1
    for unit, size in (("s", 1), ("min", 60), ("h", 3600), ("days", 86_400)):  # noqa: B007
        if high < 90 * size:
            break
    return f"{_range(low / size, high / size, whole_from=3)} {unit}"


def _range(low: float, high: float, whole_from: float = 10) -> str:
    """Two numbers as one, with as many digits as they are worth."""
    digits = 0 if high >= whole_from else 1
    first, last = f"{low:.{digits}f}", f"{high:.{digits}f}"
    return first if first == last else f"{first}\N{EN DASH}{last}"
