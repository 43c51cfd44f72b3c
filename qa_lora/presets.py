"""Named starting points for a training."""

from __future__ import annotations

from typing import Any

__all__ = ["PRESETS"]

PRESETS: dict[str, dict[str, Any]] = {
    "Quick demo": {
        "learning_rate": 2e-3,
        "batch_size": 32,
        "max_steps": 400,
        "evaluate_every": 50,
        "checkpoint_every": 50,
    },
    "Balanced": {},
    "Quality": {
        "lora_r": 16,
        "target_modules": "all-linear",
        "learning_rate": 3e-4,
        "epochs": 6.0,
        "gradient_accumulation": 2,
        "schedule": "cosine",
    },
    "Notebook": {
        "model": "google/flan-t5-large",
        "data": ("hf://datasets/Hello-SimpleAI/HC3/all.jsonl\nMohamedRashad/ChatGPT-prompts"),
        "learning_rate": 1e-4,
        "batch_size": 4,
        "epochs": 3.0,
        "warmup_ratio": 0.0,
        "precision": "fp32",
        "base_dropout": True,
        "validation_fraction": 0.15,
        "test_fraction": 0.15,
        "keep": "last",
        "max_new_tokens": 256,
    },
}
"""Named starting points; what a preset does not name has its default."""
