"""An adapter merged into its base: a transformers folder that needs neither peft nor QA LoRA."""

from __future__ import annotations

import errno
import json
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from transformers import PreTrainedModel

from qa_lora import runs
from qa_lora.adapters import attach_adapter
from qa_lora.base_names import base_name
from qa_lora.catalog import POCKET
from qa_lora.config import TrainConfig
from qa_lora.errors import ConfigError, ModelError, RunError, first_line, quoted, shorten
from qa_lora.files import replaced_folder
from qa_lora.loading_snippet import merged_snippet
from qa_lora.locate import Located, locate
from qa_lora.models import load_adapter_tokenizer, load_base
from qa_lora.prompts import PromptTemplate

__all__ = ["MERGED", "Merged", "merge"]

NAMES = {"float32": "float32", "fp32": "float32", "bfloat16": "bfloat16", "bf16": "bfloat16"}
MERGED = "merge.json"
"""Says that a folder was written here, and may be written again."""

TOLERANCE = 1e-3
"""Share of the largest logit by which rounding may move one when weights are added up."""

PROBE_TOKENS = 32


@dataclass(frozen=True)
class Merged:
    """A merged model on the disk."""

    folder: Path
    base: str
    precision: str
    parameters: int
    bytes: int


def merge(
    run: str | Path | runs.Run,
    out: str | Path,
    precision: str = "float32",
    *,
    runs_dir: str | Path | None = None,
    overwrite: bool = False,
) -> Merged:
    """Write a run's base with its adapter merged in, as a folder that transformers loads.

    The sum is made in float32, whatever the training stored its base in. In float32 greedy answers
    are those of the adapter; bfloat16 rounds every weight and may change a few.

    Args:
        run: A run's id or folder, an imported adapter, an adapter's folder, or its Hub id.
        out: The folder to write.
        precision: "float32" or "bfloat16" (or fp32, bf16): of the weights that are written.
        runs_dir: Where run ids are looked up.
        overwrite: Whether an earlier merge there may be replaced.

    Raises:
        ConfigError: If the precision is none of the two.
        ModelError: If there is no adapter that can be used, or its weights cannot be added to the
            base's.
        RunError: If `out` holds something, or cannot be written; what was there is as it was.
    """
    if precision not in NAMES:
        raise ConfigError(f"precision must be float32 or bfloat16 (it is {shorten(precision)}).")
    precision = NAMES[precision]
    target = Path(out).expanduser()
    _check_target(target, overwrite=overwrite)
    found = locate(run, runs_dir)
    loaded = load_base(
        found.base, precision="fp32", device=torch.device("cpu"), commit=found.commit
    )
    tokenizer = load_adapter_tokenizer(found.folder, loaded.tokenizer)
    template = PromptTemplate.load(found.folder)
    config = found.run.config() if found.run else TrainConfig()
    merged = _merge(attach_adapter(loaded.model, found.folder), found)
    merged.generation_config.max_new_tokens = config.max_new_tokens
    merged.to(getattr(torch, precision))
    card = _card(found, target.resolve().name, precision, template, config.max_new_tokens)
    _check_target(target, overwrite=overwrite)  # all this took a while
    try:
        with replaced_folder(target.resolve()) as new:
            merged.save_pretrained(new, max_shard_size="5GB")
            tokenizer.save_pretrained(str(new))
            template.save(new)
            (new / "README.md").write_text(card, "utf-8")
            note = {
                "files": sorted(path.name for path in new.iterdir()),
                "base": base_name(found.base),
                "commit": found.commit,
                "adapter": _name(found),
                "precision": precision,
                "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            }
            (new / MERGED).write_text(json.dumps(note, indent=2) + "\n", "utf-8")
    except (OSError, SafetensorError) as error:
        raise _unwritable(target, error) from None
    size = sum(path.stat().st_size for path in target.iterdir())
    return Merged(target, found.base, precision, merged.num_parameters(), size)


def _merge(model: PeftModel, found: Located) -> PreTrainedModel:
    """Add the adapter's weights to the base's, and make sure that it computes the same."""
    before = _logits(model)
    try:
        merged: PreTrainedModel = model.merge_and_unload(safe_merge=True)
    except Exception as error:  # peft raises bare exceptions of many kinds
        raise ModelError(
            f"The adapter in {found.folder} cannot be merged: {first_line(error)}.",
            "It still works as an adapter.",
        ) from None
    if hasattr(merged, "peft_config"):
        del merged.peft_config
    merged.requires_grad_(False).eval()
    most = (_logits(merged) - before).abs().max() / before.abs().max().clamp(min=1e-9)
    if not bool(most <= TOLERANCE):  # also if it is no number
        raise ModelError(
            f"The adapter in {found.folder} cannot be merged: the merged model would answer "
            f"otherwise (its logits differ by {float(most):.1%}).",
            "It still works as an adapter.",
        )
    return merged


@torch.no_grad()
def _logits(model: torch.nn.Module) -> torch.Tensor:
    """What a model says to tokens drawn by chance and, at their end, to the last of its rows."""
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    rows = base.get_input_embeddings().weight.shape[0]
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(0, rows, (1, PROBE_TOKENS), generator=generator)
    ids = torch.cat([drawn, torch.arange(max(0, rows - PROBE_TOKENS), rows)[None]], dim=1)
    logits: torch.Tensor = model(input_ids=ids, labels=ids).logits
    return logits


def _check_target(target: Path, *, overwrite: bool) -> None:
    try:
        if target.is_file():
            raise RunError(f"{target} is a file.", "Name a folder to write.")
        if not target.is_dir() or not any(target.iterdir()):
            return
        if not (target / MERGED).is_file():
            raise RunError(
                f"The folder {target} is not empty, and no merged model: it is left as it is.",
                "Name another folder.",
            )
    except OSError as error:
        raise _unwritable(target, error) from None
    if not overwrite:
        raise RunError(
            f"There is a merged model in {target} already.",
            "Name another folder, or give --overwrite.",
        )
    others = _added(target)
    if others:
        raise RunError(
            f"The folder {target} holds more than the merged model, such as {quoted(others[0])}: "
            "it is left as it is.",
            "Move that elsewhere, or name another folder.",
        )


def _added(target: Path) -> list[str]:
    """What somebody else put beside a merged model."""
    try:
        known = json.loads((target / MERGED).read_text("utf-8"))["files"]
        return sorted({path.name for path in target.iterdir()} - {MERGED, *known})
    except (OSError, ValueError, KeyError, TypeError):
        return []  # one from before its files were written down


def _unwritable(target: Path, error: Exception) -> RunError:
    # safetensors says which system error it met in words only.
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
    why = "the disk is full" if full else getattr(error, "strerror", None) or first_line(error)
    return RunError(
        f"The merged model could not be written to {target}: {why}.",
        "Nothing of it was left there.",
    )


def _name(found: Located) -> str:
    return found.run.id if found.run else found.folder.resolve().name


def _card(
    found: Located, name: str, precision: str, template: PromptTemplate, max_new_tokens: int
) -> str:
    base = base_name(found.base)
    front = f"base_model: {base}\n" if "/" in base and base != POCKET else ""
    code = merged_snippet(f"path/to/{name}", template=template, max_new_tokens=max_new_tokens)
    return f"""---
library_name: transformers
pipeline_tag: text-generation
{front}tags:
- t5
- question-answering
---

# {base} with a LoRA adapter merged in

The adapter {_name(found)}, added to the weights of {base} in float32 and stored in {precision}.
`prompt.json` holds the prompt it expects.

```python
{code}```
"""
