"""The ways to answer that are compared; each answers all questions in this process.

    python -m generating.ways WAY ASKED_JSON ROWS [BATCH]

prints one JSON object: seconds, also those of the processors, answers by question, tokens, and
peak memory.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch

from generating.questions import Asked

MAX_SOURCE_TOKENS = 256

Said = dict[int, tuple[str, int]]
"""By question: the answer and its number of tokens, the end token not counted."""


class Loaded:
    """Model, adapter, prompts."""

    def __init__(self, asked: Asked) -> None:
        from qa_lora.adapters import attach_adapter
        from qa_lora.data.example import QAExample
        from qa_lora.encoding import fit_prompts
        from qa_lora.generation import end_ids
        from qa_lora.models import load_adapter_tokenizer, load_base
        from qa_lora.prompts import PromptTemplate

        self.longest = self.asked_longest = asked.max_new_tokens
        self.device = torch.device(asked.device)
        base = load_base(asked.base, precision=asked.precision, device=self.device)
        self.model = attach_adapter(base.model, asked.adapter).eval()
        self.tokenizer = load_adapter_tokenizer(Path(asked.adapter), base.tokenizer)
        texts = json.loads(Path(asked.questions).read_text(encoding="utf-8"))
        self.examples = [QAExample("", text, "") for text in texts]
        self.template = PromptTemplate.load(Path(asked.adapter))
        self.prompts = fit_prompts(self.tokenizer, self.template, self.examples, MAX_SOURCE_TOKENS)
        self.ends = end_ids(self.model, self.tokenizer)

    def off(self, system: str) -> Any:
        """The context in which a system answers."""
        return self.model.disable_adapter() if system == "base" else nullcontext()

    def said(self, ids: Sequence[int]) -> tuple[str, int]:
        """Text and length of an answer's ids, whatever follows its end."""
        end = next((i for i, token in enumerate(ids) if token in self.ends), len(ids))
        text = self.tokenizer.decode(
            ids[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text.strip(), end


def row_by_row(loaded: Loaded, rows: Sequence[int], _: int) -> dict[str, Said]:
    """The notebook's way: one `generate` call a question, twice."""
    found: dict[str, Said] = {"base": {}, "tuned": {}}
    for i in rows:
        ids = torch.tensor([loaded.prompts[i].ids], device=loaded.device)
        for system, said in found.items():
            with loaded.off(system):
                out = loaded.model.generate(
                    input_ids=ids, max_new_tokens=loaded.longest, do_sample=False
                )
            said[i] = loaded.said(out[0, 1:].tolist())
    return found


def padded(loaded: Loaded, rows: Sequence[int], size: int) -> dict[str, Said]:
    """Plain batches in file order, padded to their longest prompt, twice."""
    found: dict[str, Said] = {"base": {}, "tuned": {}}
    for system, said in found.items():
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            prompts = [{"input_ids": loaded.prompts[i].ids} for i in part]
            batch = loaded.tokenizer.pad(prompts, return_tensors="pt").to(loaded.device)
            with loaded.off(system):
                out = loaded.model.generate(
                    input_ids=batch["input_ids"],
                    attention_mask=batch["attention_mask"],
                    max_new_tokens=loaded.longest,
                    do_sample=False,
                )
            said.update(
                (i, loaded.said(ids[1:])) for i, ids in zip(part, out.tolist(), strict=True)
            )
    return found


def ours(loaded: Loaded, rows: Sequence[int], tokens: int) -> dict[str, Said]:
    """This project's, as an evaluation does it; `tokens` is its budget, 0 for the usual one."""
    from qa_lora.answering import Answerer, GenerationSettings

    answerer = Answerer(
        loaded.model,
        loaded.tokenizer,
        template=loaded.template,
        max_source_tokens=MAX_SOURCE_TOKENS,
        settings=GenerationSettings(max_new_tokens=loaded.longest),
    )
    found: dict[str, Said] = {"base": {}, "tuned": {}}
    examples = [loaded.examples[i] for i in rows]
    for place, said in answerer.answer_many(examples, batch_tokens=tokens or None):
        for system, answer in said.items():
            found[system][rows[place]] = answer.text, answer.tokens
    return found


WAYS: dict[str, Callable[[Loaded, Sequence[int], int], dict[str, Said]]] = {
    "row": row_by_row,
    "padded": padded,
    "ours": ours,
}


def gaps(loaded: Loaded, told: dict[str, dict[str, tuple[str, int]]]) -> list[dict[str, Any]]:
    """Where answers part from those of :func:`row_by_row`, and how close the two logits are there.

    Args:
        loaded: The model.
        told: By system and question, the answer that differs.
    """
    found = []
    for system, answers in told.items():
        for i, (text, _) in answers.items():
            ids = torch.tensor([loaded.prompts[int(i)].ids], device=loaded.device)
            with loaded.off(system):
                out = loaded.model.generate(
                    input_ids=ids,
                    max_new_tokens=loaded.longest,
                    do_sample=False,
                    output_logits=True,
                    return_dict_in_generate=True,
                )
            said = out.sequences[0, 1:].tolist()
            step = next(
                (n for n in range(len(said)) if not text.startswith(loaded.said(said[: n + 1])[0])),
                len(said) - 1,
            )
            # An answer that goes on where the other one ended parts at the end.
            highest = torch.stack(out.logits)[: step + 1, 0].float().topk(2).values
            gap = highest[:, 0] - highest[:, 1]
            place = int(gap.argmin())
            found.append(
                {
                    "system": system,
                    "question": int(i),
                    "step": place,
                    "gap": float(gap[place]),
                    "logit": float(highest[place, 0]),
                }
            )
    return found


def main() -> None:
    from qa_lora.devices import peak_memory_bytes

    way, asked, rows, number = sys.argv[1:]
    loaded = Loaded(Asked(**json.loads(asked)))
    before = peak_memory_bytes(loaded.device)
    if way == "gaps":
        print(json.dumps(gaps(loaded, json.loads(rows))))
        return
    places = json.loads(rows)
    loaded.longest = 4
    WAYS[way](loaded, places[:2], int(number))  # what is done once, such as loading kernels
    loaded.longest = loaded.asked_longest
    _wait(loaded.device)
    began, computed = time.perf_counter(), time.process_time()
    found = WAYS[way](loaded, places, int(number))
    _wait(loaded.device)
    seconds, computed = time.perf_counter() - began, time.process_time() - computed
    print(
        json.dumps(
            {
                "seconds": seconds,
                "cpu_seconds": computed,
                "answers": found,
                "tokens": sum(n for said in found.values() for _, n in said.values()),
                "loaded_memory_bytes": before,
                "peak_memory_bytes": peak_memory_bytes(loaded.device),
            }
        )
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
