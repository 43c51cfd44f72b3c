"""The base models that are offered by name, with what they weigh; loads no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["HUB_ID", "MODELS", "POCKET", "ModelChoice"]

_NAME = r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
HUB_ID = re.compile(rf"(?!.*(--|\.\.|\.git$)){_NAME}(/{_NAME})?")
"""What the Hub calls a model, a data set or an adapter: nothing that could be another address."""


@dataclass(frozen=True)
class ModelChoice:
    """A base model in the list; any other Hub id or folder can be typed instead."""

    id: str
    label: str
    parameters: int

    @property
    def description(self) -> str:
        """Parameters in a few words, such as "248 M parameters"."""
        count = self.parameters / 1e6
        size = f"{count / 1000:.2f} B" if count >= 1000 else f"{count:.3g} M"
        return f"{size} parameters"


POCKET = "pocket"
MODELS = (
    ModelChoice(POCKET, "pocket (bundled, no download)", 7_300_000),
    ModelChoice("google/flan-t5-small", "FLAN-T5 small", 76_961_152),
    ModelChoice("google/flan-t5-base", "FLAN-T5 base", 247_577_856),
    ModelChoice("google/flan-t5-large", "FLAN-T5 large", 783_150_080),
    ModelChoice("google/flan-t5-xl", "FLAN-T5 XL", 2_849_757_184),
    ModelChoice("google/flan-t5-xxl", "FLAN-T5 XXL", 11_135_332_352),
)
