"""The README.md of an adapter's folder: what it is and how to load it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qa_lora.config import SOURCES, TrainConfig
from qa_lora.data.sources import without_folders
from qa_lora.loading_snippet import loading_snippet
from qa_lora.prompts import PromptTemplate

__all__ = ["adapter_card"]

PROMPTS = ("prompt", "context_prompt", "history_prompt")


def adapter_card(config: TrainConfig) -> str:
    """Markdown with the front matter that the Hub and peft read.

    Args:
        config: The settings of the training that made the adapter.
    """
    base = _without_path(config.model)
    front = f"base_model: {base}\n" if "/" in base and base == config.model else ""
    template = PromptTemplate(**{name: getattr(config, name) for name in PROMPTS})
    code = loading_snippet(
        config.model if base == config.model else f"path/to/{base}",
        "path/to/this/folder",
        template=template,
        max_new_tokens=config.max_new_tokens,
    )
    settings = "\n".join(
        f"| {name} | {_cell(name, value)} |" for name, value in config.changed().items()
    )
    changed = (
        f"\nSettings that differ from the defaults:\n\n| setting | value |\n|---|---|\n{settings}\n"
    )
    return f"""---
library_name: peft
pipeline_tag: text-generation
{front}tags:
- lora
- t5
- question-answering
---

# A LoRA adapter for {base}

Trained with QA LoRA on questions and answers; `prompt.json` holds the prompt it expects.
{changed if settings else ""}
```python
{code}```
"""


def _cell(name: str, value: Any) -> str:
    text = str(value)
    if name in SOURCES:
        text = ", ".join(without_folders(text).splitlines())
    elif name in ("model", "init_adapter"):
        text = _without_path(text)
    return "`" + text.replace("|", "\\|").replace("\n", " ") + "`"


def _without_path(source: str) -> str:
    """A local file or folder by its name alone: the card may be published."""
    path = Path(source)
    return (
        path.name
        if path.is_absolute() or source.startswith(("~", ".")) or path.exists()
        else source
    )
