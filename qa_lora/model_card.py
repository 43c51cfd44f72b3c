"""The README.md of an adapter's folder: what it is and how to load it."""

from __future__ import annotations

from qa_lora.config import TrainConfig

__all__ = ["adapter_card"]


def adapter_card(config: TrainConfig) -> str:
    """Markdown with the front matter that the Hub and peft read.

    Args:
        config: The settings of the training that made the adapter.
    """
    base = config.model
    front = f"base_model: {base}\n" if "/" in base and not base.startswith(("/", ".")) else ""
    settings = "\n".join(f"| {name} | `{value}` |" for name, value in config.changed().items())
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
from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM

base = AutoModelForSeq2SeqLM.from_pretrained("{base}")
model = PeftModel.from_pretrained(base, "path/to/this/folder")
```
"""
