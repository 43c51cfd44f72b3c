"""What computes here, and in which number format."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from qa_lora import zero_gpu

__all__ = [
    "DeviceSummary",
    "choose_device",
    "choose_dtype",
    "device_name",
    "device_summary",
    "free_memory_bytes",
    "is_out_of_memory",
    "peak_memory_bytes",
]


@dataclass(frozen=True)
class DeviceSummary:
    """What computes here."""

    name: str
    precision: str
    memory_bytes: int

    def __str__(self) -> str:
        return f"{self.name}, {self.memory_bytes / 1e9:.0f} GB, {self.precision}"


def choose_device() -> torch.device:
    """The GPU of this process if there is one, Apple's GPU if there is one, else the CPU."""
    if zero_gpu.withheld():
        return torch.device("cpu")  # what torch shows there is only a picture of a GPU
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The number format of the frozen weights.

    Never fp16, in which T5's activations overflow.

    Args:
        precision: "bf16", "fp32", or "auto" for bf16 where the hardware multiplies it natively.
        device: Where the model will be.
    """
    if precision == "bf16":
        return torch.bfloat16
    if precision == "auto":
        if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16
        if device.type == "cpu" and _cpu_multiplies_bf16():
            return torch.bfloat16
    return torch.float32


def device_name(device: torch.device) -> str:
    """What a person calls it, such as "CPU, 2 cores"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        cores = torch.get_num_threads()
        return f"CPU, {cores} core{'' if cores == 1 else 's'}"
    return f"Apple GPU ({platform.machine()})"


def device_summary(precision: str = "auto") -> DeviceSummary:
    """Name, precision and memory of the device a training here would use."""
    device = choose_device()
    short = "bf16" if choose_dtype(precision, device) is torch.bfloat16 else "fp32"
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    else:
        memory = psutil.virtual_memory().total
    return DeviceSummary(device_name(device), short, memory)


def free_memory_bytes(device: torch.device) -> int:
    """Memory that is free on a device now, within what a container may use."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = psutil.virtual_memory().available
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text("ascii"))
        # Not memory.current: pages of files count there, and give way.
        lines = (group / "memory.stat").read_text("ascii").splitlines()
        used = next(int(line.split()[1]) for line in lines if line.startswith("anon "))
    except (OSError, ValueError, StopIteration):  # no such group, or "max"
        return free
    return max(0, min(free, limit - used))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: torch raises another kind on each device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text


def peak_memory_bytes(device: torch.device) -> int:
    """Most memory used so far: the GPU's by this process, or this process's own."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _cpu_multiplies_bf16() -> bool:
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)
