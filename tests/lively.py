"""A tiny model whose answers depend on the question, and adapters that change them."""

from __future__ import annotations

from pathlib import Path

import torch

from qa_lora.adapters import attach_lora, save_adapter
from qa_lora.models import load_base
from qa_lora.prompts import PromptTemplate


def make_model(tiny: Path, folder: Path) -> Path:
    """The tiny T5 with weights so large that its answers differ, and some of them end."""
    # The products are too small to share, and waiting for each other costs more than they do.
    torch.set_num_threads(1)
    loaded = load_base(str(tiny), precision="fp32")
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weights in loaded.model.named_parameters():
            if "layer_norm" not in name:
                weights.copy_(4 * weights.std() * torch.randn_like(weights))
        loaded.model.shared.weight[1] *= 1.6
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder


def make_adapter(model: Path, folder: Path, *, seed: int = 1, **lora: object) -> Path:
    """A LoRA adapter with random weights, saved as training does."""
    loaded = load_base(str(model), precision="fp32")
    settings = {"r": 4, "alpha": 8, "dropout": 0.1, "target_modules": "q,v,wo"} | lora
    tuned = attach_lora(loaded.model, **settings)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weights in tuned.named_parameters():
            if "lora_B" in name:
                weights.copy_(0.5 * torch.randn_like(weights))
    save_adapter(
        tuned,
        folder,
        tokenizer=loaded.tokenizer,
        template=PromptTemplate(),
        card="# card",
        weights={name: p for name, p in tuned.named_parameters() if p.requires_grad},
    )
    return folder
