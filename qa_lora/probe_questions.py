"""Forty questions to try any adapter with: half of them near the bundled data, half general."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files

__all__ = ["ProbeQuestions", "bundled_probe_questions", "questions_from_lines"]


@dataclass(frozen=True)
class ProbeQuestions:
    """Two sets of questions, none of them in the words of the training data."""

    near: tuple[str, ...]
    """About countries and chemical elements, asked as no training row asks."""
    general: tuple[str, ...]
    """Reasoning, definitions, small talk and instructions: what an adapter should not spoil."""

    @property
    def all(self) -> tuple[str, ...]:
        """Both, the near ones first."""
        return self.near + self.general


def bundled_probe_questions() -> ProbeQuestions:
    """The questions that come with the package."""
    text = files("qa_lora").joinpath("bundled/probe_questions.json").read_text("utf-8")
    values = json.loads(text)
    return ProbeQuestions(tuple(values["near"]), tuple(values["general"]))


def questions_from_lines(text: str) -> list[str]:
    """Questions written one a line; blank lines and repeats are left out, the order stays."""
    lines = (line.strip() for line in text.splitlines())
    return list(dict.fromkeys(line for line in lines if line))
