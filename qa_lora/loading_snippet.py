"""The code that loads an adapter without this project: with transformers and peft alone."""

from __future__ import annotations

import json
from pathlib import PurePosixPath, PureWindowsPath

from qa_lora.catalog import POCKET
from qa_lora.prompts import PromptTemplate

__all__ = ["loading_snippet", "merged_snippet"]

QUESTION = "What is the capital of Peru?"


def loading_snippet(
    base: str,
    adapter: str,
    *,
    template: PromptTemplate | None = None,
    own_tokenizer: bool = True,
    max_new_tokens: int = 128,
) -> str:
    """Python that answers a question with an adapter on its base.

    No embedding has to be resized: tokens that a training added use rows that the base has to
    spare, and the adapter brings these rows with it.

    Args:
        base: The base model: a Hub id, "pocket" or a folder. Of a folder only the last part is
            shown, for the code is published.
        adapter: Where the adapter is: a Hub id or a folder, as it is to be shown.
        template: How a question becomes a prompt; the usual way if None.
        own_tokenizer: Whether the tokenizer lies beside the adapter, as it does beside ours.
        max_new_tokens: Longest answer.
    """
    where, remark = _shown(base)
    prompt = _literal((template or PromptTemplate()).render(QUESTION))
    base_, adapter_ = _literal(where), _literal(adapter)
    return f"""from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

base = AutoModelForSeq2SeqLM.from_pretrained({base_}, dtype="float32"){remark}
model = PeftModel.from_pretrained(base, {adapter_})
tokenizer = AutoTokenizer.from_pretrained({adapter_ if own_tokenizer else base_})

ids = tokenizer({prompt}, return_tensors="pt").input_ids
answer = model.generate(input_ids=ids, max_new_tokens={max_new_tokens})[0]
print(tokenizer.decode(answer, skip_special_tokens=True))
"""


def merged_snippet(folder: str, *, template: PromptTemplate, max_new_tokens: int) -> str:
    """Python that answers a question with a merged model; see :func:`loading_snippet`."""
    folder, prompt = _literal(folder), _literal(template.render(QUESTION))
    return f"""from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

model = AutoModelForSeq2SeqLM.from_pretrained({folder})
tokenizer = AutoTokenizer.from_pretrained({folder})

ids = tokenizer({prompt}, return_tensors="pt").input_ids
answer = model.generate(input_ids=ids, max_new_tokens={max_new_tokens})[0]
print(tokenizer.decode(answer, skip_special_tokens=True))
"""


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _shown(base: str) -> tuple[str, str]:
    """What stands for the base, and a remark behind it."""
    if base == POCKET:
        return f"path/to/{POCKET}", "  # it ships with QA LoRA, in qa_lora/bundled"
    windows, posix = PureWindowsPath(base), PurePosixPath(base)
    if windows.is_absolute() or "\\" in base:
        return f"path/to/{windows.name}", ""
    if posix.is_absolute() or base.startswith((".", "~")) or base.count("/") > 1:
        return f"path/to/{posix.name}", ""
    return base, ""
