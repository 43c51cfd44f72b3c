"""What can be answered by hand, and what is left to `generate`."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.trainable_tokens import TrainableTokensLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper

from qa_lora.generation import GenerationSettings
from qa_lora.packed.layers import ACTIVATIONS
from qa_lora.packed.model import ARCHITECTURES

__all__ = ["why_not"]

STEERED_BY = (
    "bad_words_ids",
    "begin_suppress_tokens",
    "encoder_no_repeat_ngram_size",
    "encoder_repetition_penalty",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "guidance_scale",
    "penalty_alpha",
    "sequence_bias",
    "suppress_tokens",
    "watermarking_config",
)
"""Settings of a model's own by which `generate` takes other than the likeliest token."""


def why_not(model: PeftModel, adapter: str | None, settings: GenerationSettings) -> str | None:
    """Why answers cannot be computed by hand; None if they can.

    Args:
        model: With its adapters.
        adapter: The one that answers, None for the base.
        settings: How the answers are generated.
    """
    if settings.do_sample or settings.num_beams > 1:
        return "the answers are not greedy"
    if getattr(settings, "repetition_penalty", 1.0) != 1.0:
        return "repetition is penalised"
    if getattr(settings, "min_new_tokens", 0) > 0:
        return "answers have a least length"
    base = model.get_base_model()
    if type(base).__name__ not in ARCHITECTURES:
        return f"{type(base).__name__} is no T5"
    if base.config.dense_act_fn not in ACTIVATIONS:
        return f"its activation is {base.config.dense_act_fn}"
    if base.generation_config.decoder_start_token_id is None:
        return "it says not which token the decoder starts with"
    brought = [n for n in STEERED_BY if getattr(base.generation_config, n, None) not in (None, 1.0)]
    if brought:
        return f"its own settings have {brought[0]}"
    return _why_not_weights(base) or (_why_not_adapter(model, adapter) if adapter else None)


def _why_not_weights(base: Any) -> str | None:
    """Layers must be torch's own, frozen or with LoRA beside them, on one device."""
    for name, module in base.named_modules():
        if isinstance(module, BaseTunerLayer):
            if not isinstance(module, (LoraLinear, TrainableTokensLayer)):
                return f"{name} has an adapter that is no plain LoRA"
            if module.merged:
                return f"an adapter is merged into {name}"
        elif isinstance(module, ModulesToSaveWrapper):
            return f"an adapter has a {name} of its own"
        elif isinstance(module, torch.nn.Linear):
            if type(module) is not torch.nn.Linear:
                return f"{name} is a {type(module).__name__}"
            if getattr(module, "bias", None) is not None and ".lora_B." not in name:
                return f"{name} has a bias"
    devices = {p.device for p in base.parameters()}
    if len(devices) > 1 or any(device.type == "meta" for device in devices):
        return "its weights lie on several devices"
    for name, parameter in base.named_parameters():
        if type(parameter) is not torch.nn.Parameter:
            return f"{name} is a {type(parameter).__name__}"
        if parameter.dtype not in (torch.float32, torch.bfloat16):
            return f"{name} is stored as {parameter.dtype}"
        if parameter.numel() == 0:
            return f"{name} lies elsewhere"
    return None


def _why_not_adapter(model: PeftModel, adapter: str) -> str | None:
    config = model.peft_config[adapter]
    if not isinstance(config, LoraConfig):
        return f"{adapter} is no LoRA"
    if config.modules_to_save:
        return f"{adapter} has whole layers of its own"
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear) and adapter in module.lora_A:
            if adapter in module.lora_variant or module.fan_in_fan_out:
                return f"the adapter of {name} is no plain LoRA"
            if module.lora_bias[adapter]:
                return f"the adapter of {name} has a bias"
    return None
