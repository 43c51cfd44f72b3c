"""QA LoRA: teach a question-answering model a new way to answer, and prove that it worked.

    import qa_lora

    config = qa_lora.TrainConfig.build("Quick demo")
    for event in qa_lora.train(config):
        print(event)

Every public name is imported when it is first used, so that ``import qa_lora`` is quick and loads
no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qa_lora.answering import Answer, Answerer, Comparison, GenerationSettings, Together, load
    from qa_lora.config import TrainConfig
    from qa_lora.data.example import QAExample
    from qa_lora.errors import (
        ConfigError,
        DataError,
        ModelError,
        QALoRAError,
        RunError,
        TrainingError,
    )
    from qa_lora.evaluation import evaluate, evaluate_stream
    from qa_lora.events import Event
    from qa_lora.presets import PRESETS
    from qa_lora.prompts import PromptTemplate
    from qa_lora.report import Report
    from qa_lora.worker import train

__version__ = "0.1.0"

_HOME = {
    "Answer": "answering",
    "Answerer": "answering",
    "Comparison": "answering",
    "ConfigError": "errors",
    "DataError": "errors",
    "Event": "events",
    "GenerationSettings": "answering",
    "ModelError": "errors",
    "PRESETS": "presets",
    "PromptTemplate": "prompts",
    "QAExample": "data.example",
    "QALoRAError": "errors",
    "Report": "report",
    "RunError": "errors",
    "Together": "answering",
    "TrainConfig": "config",
    "TrainingError": "errors",
    "evaluate": "evaluation",
    "evaluate_stream": "evaluation",
    "load": "answering",
    "train": "worker",
}
"""Public name -> the module of this package it comes from."""

__all__ = [
    "PRESETS",
    "Answer",
    "Answerer",
    "Comparison",
    "ConfigError",
    "DataError",
    "Event",
    "GenerationSettings",
    "ModelError",
    "PromptTemplate",
    "QAExample",
    "QALoRAError",
    "Report",
    "RunError",
    "Together",
    "TrainConfig",
    "TrainingError",
    "__version__",
    "evaluate",
    "evaluate_stream",
    "load",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
