"""README of a Space: the front matter that the Hub reads, and what stands below it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qa_lora.spaces.config import GIVEN, SpaceConfig

__all__ = ["front_matter", "read_front_matter", "space_readme", "write_front_matter"]

_TEXT = """
# {title}

{title} teaches a question-answering model a new way to answer, and shows whether that paid: it
trains a LoRA adapter from your questions and answers while you watch the loss, puts base and
fine-tuned answers side by side, and scores both on questions that the training never saw.

A model and a data set are part of it: press **Start training** to see the whole of it. Keep a
Space of your own private unless you mean to let others train on your hardware.
"""


def front_matter(config: SpaceConfig) -> dict[str, Any]:
    """What the Hub reads at the top of README.md; lists that are empty are left out."""
    values = config.model_dump(mode="json", exclude=GIVEN)
    return {key: value for key, value in values.items() if value != []}


def read_front_matter(readme: str | Path) -> dict[str, Any]:
    """The front matter that a README has now; empty when it has none."""
    from huggingface_hub import metadata_load

    return dict(metadata_load(readme) or {})


def write_front_matter(readme: str | Path, config: SpaceConfig) -> None:
    """Replace a README's front matter, or put one in front; the text below stays as it is."""
    from huggingface_hub import metadata_save

    metadata_save(readme, front_matter(config))


def space_readme(config: SpaceConfig) -> str:
    """README.md of a Space. The project's own has pictures that a Space does not get."""
    import yaml

    values = yaml.safe_dump(front_matter(config), sort_keys=False, allow_unicode=True)
    return f"---\n{values}---\n{_TEXT.format(title=config.title)}"
