"""What holding models and comparing with them takes.

    python -m generating.memory base|one|two ASKED_JSON

prints one JSON object: the most memory in use over what Python and its libraries take.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import psutil
import torch

from generating.questions import Asked

QUESTIONS = 4
"""How many are answered, one after the other, as on the Compare page."""


def main() -> None:
    from qa_lora.adapters import attach_adapter
    from qa_lora.answering import Answerer, GenerationSettings, generate_batch
    from qa_lora.data.example import QAExample
    from qa_lora.devices import peak_memory_bytes
    from qa_lora.encoding import fit_prompts
    from qa_lora.models import load_base
    from qa_lora.prompts import PromptTemplate

    how, asked_json = sys.argv[1:]
    asked = Asked(**json.loads(asked_json))
    device = torch.device(asked.device)
    texts = json.loads(Path(asked.questions).read_text(encoding="utf-8"))[:QUESTIONS]
    before = 0 if device.type == "cuda" else psutil.Process().memory_info().rss
    base = load_base(asked.base, precision=asked.precision, device=device)
    prompts = fit_prompts(
        base.tokenizer, PromptTemplate(), [QAExample("", text, "") for text in texts], 256
    )

    def answer(model: Any) -> None:
        for prompt in prompts:
            generate_batch(model, base.tokenizer, [prompt], max_new_tokens=asked.max_new_tokens)

    adapter_bytes = 0
    if how == "base":
        answer(base.model)
    else:
        model = attach_adapter(base.model, asked.adapter)
        adapter_bytes = sum(
            p.numel() * p.element_size() for name, p in model.named_parameters() if "lora_" in name
        )
    if how == "one":
        answerer = Answerer(
            model,
            base.tokenizer,
            template=PromptTemplate(),
            max_source_tokens=256,
            settings=GenerationSettings(max_new_tokens=asked.max_new_tokens),
        )
        for text in texts:
            for _ in answerer.compare(text):
                pass
    if how == "two":
        other = load_base(asked.base, precision=asked.precision, device=device)
        answer(other.model)
        answer(model)
    peak = peak_memory_bytes(device) - before
    print(json.dumps({"peak_bytes": peak, "adapter_bytes": adapter_bytes}))


if __name__ == "__main__":
    main()
