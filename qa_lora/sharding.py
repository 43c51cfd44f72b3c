"""A model too large for one device, cut into shards.

Each process holds a part of every weight, and weights come together while they compute, as a
configuration of accelerate asks: by torch's FSDP (``fully_shard``), or by DeepSpeed's ZeRO-3, which
here cuts the frozen base alone. Every process must do the same number of forward passes, for each
of them is an exchange.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from qa_lora import distributed
from qa_lora.errors import ConfigError

__all__ = [
    "FullState",
    "Way",
    "evened",
    "fill",
    "shard",
    "shard_frozen",
    "shard_state",
    "wanted",
    "whole",
]

T = TypeVar("T")
Way: TypeAlias = Literal["FSDP", "ZeRO-3"]


def wanted() -> Way | None:
    """The shards that the launcher's configuration asks for, if there is more than one process.

    Raises:
        ConfigError: If it asks for what there is no use for here, or not for all that is needed.
    """
    way: Way | None = None
    if distributed.asks_for("DEEPSPEED"):
        _check_deepspeed(os.environ)
        # Else transformers cuts the weights as it reads them, in its own way.
        os.environ["ACCELERATE_DEEPSPEED_ZERO3_INIT"] = "false"
        way = "ZeRO-3"
    elif distributed.asks_for("FSDP"):
        # Else transformers reads the weights in the first process alone, for accelerate to pass on.
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
        way = "FSDP"
    return way if distributed.count() > 1 else None


def _check_deepspeed(environment: Mapping[str, str]) -> None:
    """Refuse what is not followed, rather than training another way than was asked for."""
    shipped = "Take configs/deepspeed_zero3.yaml."
    if "ACCELERATE_DEEPSPEED_CONFIG_FILE" in environment:
        raise ConfigError("A configuration file of DeepSpeed's own is not read here.", shipped)
    if environment.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") != "3":
        raise ConfigError(
            "Only stage 3 of DeepSpeed's ZeRO is used here: the others divide optimizer and "
            "gradients, which are small for an adapter.",
            f"{shipped[:-1]}, or configs/multi_gpu.yaml if the model fits on one GPU.",
        )
    if environment.get("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", "none") != "none":
        raise ConfigError(
            "Weights are not offloaded here, as this configuration of DeepSpeed asks.", shipped
        )


def shard(model: PeftModel, device: torch.device) -> None:
    """Cut a model's weights into one shard a process, in place.

    Args:
        model: With its adapter; its weights may lie on the CPU.
        device: Where this process computes.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(device.type, (distributed.count(),))
    blocks = set(getattr(model.get_base_model(), "_no_split_modules", None) or ())
    for module in list(model.modules()):
        if type(module).__name__ in blocks:
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for module in model.modules():
        if hasattr(module, "set_gradient_divide_factor"):
            # The loss is divided by the label tokens of all processes, so gradients are summed.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo knows no other
    # `generate` calls encoder and decoder on their own; what they share must come together before.
    register_fsdp_forward_method(model, "generate")
    model.to(device)


def shard_frozen(base: PreTrainedModel) -> None:
    """Cut a frozen model's weights into one shard a process by DeepSpeed's ZeRO-3, in place.

    An adapter that is attached afterwards is none of DeepSpeed's business: each process has it
    whole, trains it as without shards, and saves it as it is.

    Args:
        base: Without an adapter; its weights may lie on the CPU.
    """
    import deepspeed

    # What transformers and torch say of themselves is enough.
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    settings = {
        "train_micro_batch_size_per_gpu": 1,  # must be given; no step is taken here
        "zero_optimization": {"stage": 3},
        "bf16": {"enabled": base.dtype is torch.bfloat16},
    }
    if not deepspeed.comm.is_initialized():
        deepspeed.init_distributed()  # takes over the processes' connections
    # Weight by weight, so that no device ever holds all of them.
    deepspeed.zero.Init(module=base, config_dict_or_path=settings)
    deepspeed.initialize(model=base, config=settings)


def evened(parts: list[list[T]], filler: list[T]) -> list[tuple[list[T], float]]:
    """As many forward passes for this process as the busiest one has.

    Args:
        parts: The rows of each pass of this process.
        filler: The rows of a pass that is done for company.

    Returns:
        The rows of each pass and their weight, 0 for those that fill up.
    """
    most = max(distributed.gather(lambda: len(parts)))
    return [(part, 1.0) for part in parts] + [(filler, 0.0)] * (most - len(parts))


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A weight with the parts of all processes; every process must ask for it."""
    # Asked of the tensor, so that a training of one process need not load what shards.
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def fill(parameter: torch.Tensor, value: torch.Tensor) -> None:
    """Set a weight, or this process's part of it, to a whole value."""
    parameter.copy_(_like(value, parameter))


def _like(value: torch.Tensor, parameter: Any) -> torch.Tensor:
    if not hasattr(parameter, "device_mesh"):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(
        value.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
    )


@dataclass(frozen=True)
class FullState:
    """An optimizer's state with whole tensors, to be saved."""

    state: dict[str, Any]

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer) -> FullState:
        """Collect it; every process must."""
        state = optimizer.state_dict()
        tensors = {
            number: {name: _whole_if_tensor(value) for name, value in values.items()}
            for number, values in state["state"].items()
        }
        return cls({**state, "state": tensors})

    def state_dict(self) -> dict[str, Any]:
        """The state."""
        return self.state


def _whole_if_tensor(value: Any) -> Any:
    return whole(value) if isinstance(value, torch.Tensor) else value


def shard_state(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's saved state, each tensor cut as its weight is."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    tensors = {
        number: {
            name: _like(value, weights[number])
            if isinstance(value, torch.Tensor) and value.shape == weights[number].shape
            else value
            for name, value in values.items()
        }
        for number, values in state["state"].items()
    }
    return {**state, "state": tensors}
