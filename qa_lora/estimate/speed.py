"""How fast a device trains: from past runs in the runs folder, or from a stated rate; no torch."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from qa_lora.config import TrainConfig
from qa_lora.errors import ModelError, QALoRAError
from qa_lora.estimate.lengths import RowLengths
from qa_lora.estimate.shapes import ModelShape, model_shape
from qa_lora.event_log import EventReader
from qa_lora.events import Started, Step
from qa_lora.runs import Run, list_runs

__all__ = [
    "PastRun",
    "default_flops",
    "flops",
    "is_plain",
    "past_runs",
    "read_past_run",
    "token_rates",
]

NEWEST = 30
"""Runs that are looked at."""
WARM_UP_STEPS = 2

CPU_CORE_FLOPS = {"fp32": 50e9, "bf16": 90e9}
"""What a core achieves in this project's loop: fp32 with AVX-512, bf16 with AMX."""
GPU_FLOPS = {"H100": 400e12, "H200": 400e12, "A100": 125e12, "L4": 40e12, "T4": 3e12}
"""What a GPU is assumed to achieve in bf16, about 40 % of its peak; T4, which has no bf16, fp32."""
OTHER_GPU_FLOPS = 20e12
UNKNOWN = 2.5
"""A device that has not trained yet may be faster or slower than its stated rate by this."""


@dataclass(frozen=True)
class PastRun:
    """What a training that was done here tells about the next one."""

    model: str
    data: str
    device: str
    precision: str
    plain: bool
    """Whether it took transformers' own forward pass."""
    tokens_per_second: float
    """Real tokens, the median of its steps."""


def is_plain(config: TrainConfig) -> bool:
    """Whether a training on one device takes transformers' own forward pass; see session.py."""
    return config.base_dropout or config.gradient_checkpointing or config.use_dora


def past_runs(runs_dir: Path) -> list[PastRun]:
    """The newest runs of a folder that trained for some steps, newest first."""
    found: list[PastRun] = []
    for run in list_runs(runs_dir)[:NEWEST]:
        try:
            stat = run.events_path.stat()
        except OSError:
            continue
        past = _read(run.path, stat.st_mtime_ns, stat.st_size)
        if past is not None:
            found.append(past)
    return found


@lru_cache(maxsize=4 * NEWEST)
def _read(folder: Path, changed: int, size: int) -> PastRun | None:
    """What a run tells; asked again only when its log has grown."""
    return read_past_run(Run(folder))


def read_past_run(run: Run) -> PastRun | None:
    """What a run tells; None if it did not train for long enough or is damaged."""
    try:
        config = run.config()
        events = EventReader(run.events_path).new()
    except (QALoRAError, OSError):
        return None
    started = next((event for event in events if isinstance(event, Started)), None)
    steps = [event.tokens_per_second for event in events if isinstance(event, Step)]
    # The first steps wait for pages of the weights and for compiled kernels.
    steps = steps[WARM_UP_STEPS:]
    if started is None or not steps or min(steps) <= 0:
        return None
    return PastRun(
        model=config.model,
        data=config.data,
        device=started.device,
        precision=started.precision,
        plain=is_plain(config),
        tokens_per_second=statistics.median(steps),
    )


def flops(shape: ModelShape, rows: Sequence[tuple[int, int]]) -> float:
    """Floating-point operations of training a frozen base on rows once.

    Two a parameter and token forward, two backward (the input's gradient alone: a frozen weight has
    none), each stack over its own tokens; attention twelve a score and channel.
    """
    M, N = sum(s for s, _ in rows), sum(t for _, t in rows)
    sizes = {"encoder": 0, "decoder": 0, "memory": 0}
    for each in shape.linears:
        sizes[each.stack] += each.inputs * each.outputs * shape.layers(each)
    head = shape.vocabulary * shape.d_model
    linear = 4.0 * (M * (sizes["encoder"] + sizes["memory"]) + N * (sizes["decoder"] + head))
    ss = sum(s * s for s, _ in rows)
    tt = sum(t * t + s * t for s, t in rows)
    scores = shape.encoder_layers * ss + shape.decoder_layers * tt
    return linear + 12.0 * shape.inner * scores


def token_rates(
    config: TrainConfig,
    shape: ModelShape,
    lengths: RowLengths,
    past: Iterable[PastRun],
    *,
    device: str,
    precision: str,
    gpu: bool,
) -> tuple[float, float, str]:
    """Real tokens a second that a training will do.

    Args:
        config: Its settings.
        shape: Its base model's.
        lengths: Of its rows.
        past: Trainings that were done before; the most similar one on the same device counts.
        device: Name of the device.
        precision: "bf16" or "fp32".
        gpu: Whether the device is a GPU.

    Returns:
        Low, high, and in words where they are from.
    """
    per_token = flops(shape, lengths.train) / max(1, lengths.tokens)
    here = [run for run in past if (run.device, run.precision) == (device, precision)]
    for run in sorted(here, key=lambda run: _factor(run, config)):
        rate, factor, name = run.tokens_per_second, _factor(run, config), "the same model"
        if run.model != config.model:
            try:
                other = model_shape(run.model)
            except ModelError:
                continue
            rate *= flops(other, lengths.train) / max(1, lengths.tokens) / per_token
            name = run.model
        return rate / factor, rate * factor, f"a past run of {name} here"
    rate = default_flops(device, precision, gpu=gpu) / per_token
    return rate / UNKNOWN, rate * UNKNOWN, "a stated rate of this kind of device"


def _factor(run: PastRun, config: TrainConfig) -> float:
    """By what factor a training may be faster or slower than a past one."""
    factor = 1.15
    if run.model != config.model:
        factor *= 1.5
    if run.data != config.data:
        factor *= 1.2
    if run.plain != is_plain(config):
        factor *= 2.0
    return factor


def default_flops(device: str, precision: str, *, gpu: bool) -> float:
    """Operations a second that a device is taken to achieve before it has trained.

    Args:
        device: Its name.
        precision: "bf16" or "fp32".
        gpu: Whether it is a GPU.
    """
    if gpu:
        return next((rate for name, rate in GPU_FLOPS.items() if name in device), OTHER_GPU_FLOPS)
    return CPU_CORE_FLOPS[precision] * (os.cpu_count() or 1)
