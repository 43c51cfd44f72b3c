"""Write docs/scaling.md from the cost model in qa_lora/estimate; `make docs` runs it."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path

from qa_lora.config import BATCH_TOKENS, TrainConfig
from qa_lora.estimate import (
    FLAN_T5,
    Estimate,
    ModelShape,
    Room,
    RowLengths,
    estimate,
    flops,
    model_shape,
)
from qa_lora.estimate.activations import packed_bytes

TARGET = Path(__file__).with_name("scaling.md")

# What `benchmarks/train_throughput.py --shape SHAPE` gave for "(d) this project" on two CPU cores,
# in real tokens a second; None where it is still to be run.
MEASURED_TOKENS_PER_SECOND: dict[str, float | None] = {
    "pocket": 3974,
    "google/flan-t5-small": 893,
    "google/flan-t5-base": 349,
}
# What `benchmarks/memory_estimate.py` gave: GB estimated and peak GB of the process, two CPU cores.
MEASURED_MEMORY: dict[str, tuple[float, float]] = {
    "pocket": (0.67, 0.68),
    "google/flan-t5-small": (1.79, 1.87),
    "google/flan-t5-base": (4.17, 3.69),
}

ROW = (30, 150)
"""Source and target tokens of a row: the medians of HC3."""
CPU_RATE = 100e9
GPU_RATE, GPU_PEAK = 600e12, 989e12
"""Operations a second in matrix products."""
GPU_TRAFFIC, GPU_PASSES = 3e12, 2
"""Bytes a second between a GPU and its memory, and how often what is kept is written and read."""
GPU_LAUNCH, LAUNCHES = 8e-6, {"encoder": 60, "decoder": 100}
"""Seconds of starting a kernel, and kernels of a layer, forward and backward."""
GPU_SIZES = (8, 16, 24, 40, 80, 141)
RAM_SIZES = (2, 4, 8, 16, 32, 64, 128, 256)
DEVICES = (1, 2, 8, 64)
NODE = 8
LINK = {"node": 100e9, "network": 25e9, "cpu": 1e9}
"""Bytes a second between devices: within a node, between nodes, between CPUs."""
LATENCY = {"node": 20e-6, "network": 50e-6, "cpu": 500e-6}
"""Seconds of one exchange of nothing."""
MODELS = {"pocket": model_shape("pocket"), **FLAN_T5}
CONFIG = TrainConfig()


def adapter_bytes(shape: ModelShape) -> int:
    """fp32 bytes of the default adapter, and of its gradient."""
    return 4 * shape.adapter_parameters(CONFIG.lora_r, CONFIG.target_modules)


def token_bytes(shape: ModelShape, weight: int) -> float:
    """Activation bytes that one more token takes."""

    def of(rows: int) -> int:
        return packed_bytes(
            shape,
            [ROW] * rows,
            weight=weight,
            rank=CONFIG.lora_r,
            targets=shape.targets(CONFIG.target_modules),
            dropout=True,
            device="cpu",
        )

    return (of(200) - of(100)) / (100 * sum(ROW))


def needs(shape: ModelShape, kind: str, free: float) -> Estimate:
    """The estimate with micro-batches of 2,048 tokens, the least that computes well."""
    room = (
        Room("cpu", "CPU", "fp32", int(free))
        if kind == "cpu"
        else Room("gpu", "GPU", "bf16", int(free))
    )
    lengths = RowLengths((ROW,) * 1000, (ROW,) * 100, 100, True)
    config = CONFIG.model_copy(update={"batch_tokens": BATCH_TOKENS["cpu"], "batch_size": 32})
    return estimate(config, shape, room, lengths)


def smallest(shape: ModelShape, kind: str) -> str:
    """The smallest usual memory that it fits."""
    for size in RAM_SIZES if kind == "cpu" else GPU_SIZES:
        if needs(shape, kind, size * 1e9).fits == "yes":
            return f"{size} GB"
    return "none"


def tokens_per_second(shape: ModelShape, kind: str, devices: int) -> float:
    """Real tokens a second of all devices together: compute, then one all-reduce a step."""
    tokens = BATCH_TOKENS[kind] if kind == "gpu" else 32 * sum(ROW)
    rows = tokens / sum(ROW)
    rate = GPU_RATE if kind == "gpu" else CPU_RATE
    seconds = flops(shape, [ROW]) * rows / rate
    if kind == "gpu":
        seconds += token_bytes(shape, 2) * tokens * GPU_PASSES / GPU_TRAFFIC
        launches = LAUNCHES["encoder"] * shape.encoder_layers
        launches += LAUNCHES["decoder"] * shape.decoder_layers
        seconds += launches * GPU_LAUNCH
    if devices > 1:
        link = "cpu" if kind == "cpu" else "node" if devices <= NODE else "network"
        volume = 2 * (devices - 1) / devices * adapter_bytes(shape)
        seconds += volume / LINK[link] + 2 * math.log2(devices) * LATENCY[link]
    return devices * tokens / seconds


def gathered_tokens_per_second(shape: ModelShape, devices: int) -> float:
    """The same on GPUs with weights in shards, gathered once forward and once backward."""
    tokens = BATCH_TOKENS["gpu"]
    seconds = devices * tokens / tokens_per_second(shape, "gpu", devices)
    link = LINK["node" if devices <= NODE else "network"]
    seconds += 2 * shape.parameters * 2 * (devices - 1) / devices / link
    return devices * tokens / seconds


def text() -> str:
    """All of docs/scaling.md."""
    return "\n".join([*_memory(), *_speed(), *_sharded(), *_measured()]) + "\n"


def _wrapped(words: str, bullet: str = "") -> str:
    return textwrap.fill(
        words,
        100,
        initial_indent=bullet,
        subsequent_indent=" " * len(bullet),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _name(model: str) -> str:
    return model.removeprefix("google/")


def _rounded(value: float) -> str:
    """Two digits that mean something: the model knows no more."""
    if value <= 0:
        return "0"
    digits = 1 - math.floor(math.log10(value))
    return f"{round(value, digits):,.{max(0, digits)}f}"


def _memory() -> list[str]:
    lines = [
        "# Scaling",
        "",
        _wrapped(
            "Made from `qa_lora/estimate` by `make docs`; do not edit. What a training needs with "
            "the default adapter (rank 8 on q and v) and how fast it is expected to be, from "
            "pocket to FLAN-T5 XXL. **Every GPU figure here is the model's alone**; the one "
            "training that was measured on a GPU, with a small batch, is in "
            "[performance.md](performance.md). CPU figures were measured where the last section "
            "says so."
        ),
        "",
        "## Memory",
        "",
        _wrapped(
            f"Rows have {ROW[0]} source and {ROW[1]} target tokens; micro-batches have 2,048 "
            "tokens, the least that computes well. Activations are what the packed path "
            "(`qa_lora/packed`) keeps for the backward pass. The optimizer is AdamW's two moments "
            "and the gradient. A device is large enough if a tenth of it stays free at the upper "
            "end of the estimate."
        ),
        "",
        "| model | parameters | adapter | optimizer | activations a token, bf16 | fp32 | "
        "smallest GPU, bf16 | RAM without a GPU, fp32 |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, shape in MODELS.items():
        adapter = adapter_bytes(shape)
        lines.append(
            f"| {_name(name)} | {_rounded(shape.parameters / 1e6)} M | {adapter / 1e6:.1f} MB | "
            f"{3 * adapter / 1e6:.1f} MB | {_rounded(token_bytes(shape, 2) / 1e6)} MB | "
            f"{_rounded(token_bytes(shape, 4) / 1e6)} MB | {smallest(shape, 'gpu')} | "
            f"{smallest(shape, 'cpu')} |"
        )
    return lines


def _speed() -> list[str]:
    head = " | ".join(f"{count} device{'s' * (count > 1)}" for count in DEVICES)
    lines = [
        "",
        "## Speed",
        "",
        "Real tokens a second of all devices together, from this model of cost:",
        "",
        _wrapped(
            "A frozen base costs 4 operations a parameter and token, 2 forward and 2 backward. A "
            "source token passes the encoder and the decoder's keys and values of it, a target "
            "token the decoder and the lm_head. Attention costs 12 a score and channel.",
            "- ",
        ),
        _wrapped(
            f"Two CPU cores achieve {CPU_RATE / 1e9:.0f} GFLOP/s in all (fp32, AVX-512, no AMX).",
            "- ",
        ),
        _wrapped(
            f"A GPU of the H100's class achieves {GPU_RATE / 1e12:.0f} TFLOP/s in bf16 products, "
            f"{100 * GPU_RATE / GPU_PEAK:.0f} % of its peak; {GPU_TRAFFIC / 1e12:.0f} TB/s move "
            f"each activation byte {GPU_PASSES} times beside them; and starting a kernel takes "
            f"{1e6 * GPU_LAUNCH:.0f} µs, {LAUNCHES['encoder']} times an encoder layer and "
            f"{LAUNCHES['decoder']} times a decoder layer, which is what bounds small models.",
            "- ",
        ),
        _wrapped(
            f"Each device computes a batch of its own ({BATCH_TOKENS['gpu']:,} tokens on a GPU, "
            "32 rows on a CPU). Then the adapter's gradient is exchanged, once a step: "
            "2 (n - 1) / n of its bytes, and 2 log2(n) latencies, at "
            f"{LINK['node'] / 1e9:.0f} GB/s among the {NODE} GPUs of a node, "
            f"{LINK['network'] / 1e9:.0f} GB/s beyond, and {LINK['cpu'] / 1e9:.0f} GB/s among "
            "CPUs.",
            "- ",
        ),
        "",
    ]
    for kind, title in (("cpu", "2 CPU cores each, fp32"), ("gpu", "H100-class GPUs, bf16")):
        lines += [f"| {title} | {head} |", "|---|" + "--:|" * len(DEVICES)]
        for name, shape in MODELS.items():
            rates = (_rounded(tokens_per_second(shape, kind, count)) for count in DEVICES)
            lines.append(f"| {_name(name)} | {' | '.join(rates)} |")
        lines.append("")
    return lines


def _sharded() -> list[str]:
    shape = FLAN_T5["google/flan-t5-xxl"]
    lines = [
        "## A model that one device does not hold",
        "",
        _wrapped(
            f"FLAN-T5 XXL has {shape.parameters * 2 / 1e9:.0f} GB of weights in bf16, so a GPU of "
            f"{smallest(shape, 'gpu')} trains it alone, and a copy on each of several is faster "
            "than shards. On smaller ones FSDP or DeepSpeed's ZeRO-3 divides the weights and "
            "gathers them twice a micro-batch. Rows then take the plain path, which is slower than "
            "the packed one; this model counts the gathering only."
        ),
        "",
        _wrapped(
            "`configs/fsdp.yaml` cuts the adapter, too; `configs/deepspeed_zero3.yaml` cuts the "
            "frozen base alone, which is nearly all of the memory, and knows no DoRA. Both were "
            "run on two CPU processes, with a stop and a resume, and give the losses of one "
            "process to 1e-5; neither was run on a GPU. ZeRO-3 gathers each layer when it is "
            "needed and not before, so FSDP, which gathers ahead, should be the faster one."
        ),
        "",
        "| flan-t5-xxl in shards | weights on each | tokens/s |",
        "|---|--:|--:|",
    ]
    lines += [
        f"| {devices} GPUs | {shape.parameters * 2 / devices / 1e9:.1f} GB | "
        f"{_rounded(gathered_tokens_per_second(shape, devices))} |"
        for devices in DEVICES[1:]
    ]
    return lines


def _measured() -> list[str]:
    lines = [
        "",
        "## What was measured",
        "",
        _wrapped(
            "On two CPU cores of a virtual machine, fp32: tokens a second by "
            "`benchmarks/train_throughput.py`, memory by `benchmarks/memory_estimate.py` with one "
            "thread. "
            "All other figures on this page are the model's."
        ),
        "",
        "| model | tokens/s, model | measured | memory, estimate | measured peak |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, measured in MEASURED_TOKENS_PER_SECOND.items():
        found = "not yet" if measured is None else _rounded(measured)
        memory = MEASURED_MEMORY.get(name)
        cells = "not yet | not yet" if memory is None else f"{memory[0]} GB | {memory[1]} GB"
        lines.append(
            f"| {_name(name)} | {_rounded(tokens_per_second(MODELS[name], 'cpu', 1))} | {found} | "
            f"{cells} |"
        )
    return lines


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
