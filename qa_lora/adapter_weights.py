"""An adapter's weights, looked at before they are loaded: their file, names, sizes and numbers.

Only safetensors is read, which holds numbers and nothing that runs. The head of such a file says
what is in it, so that most of what can be wrong is found without reading a weight.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from qa_lora.adapter_settings import ADAPTER_WEIGHTS
from qa_lora.errors import ModelError, quoted

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "PICKLES",
    "Tensor",
    "check_finite",
    "check_fit",
    "check_sizes",
    "expected_on",
    "read_head",
    "without_weights",
]

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
"""Endings of files that Python unpickles, which can run any code."""

BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Number formats of weights."""

EMBEDDINGS = ("shared.weight", "embed_tokens.weight", "lm_head.weight", "base_layer.weight")
"""Ends of the names of weights that peft may save of the base itself."""

LARGEST_HEAD = 50 * 2**20


@dataclass(frozen=True)
class Tensor:
    """A tensor as the head of a file describes it."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


def read_head(folder: Path, what: str) -> dict[str, Tensor]:
    """The tensors in an adapter's weights file, by name; no weight is read.

    Args:
        folder: The adapter's.
        what: The adapter, as the beginning of a sentence.

    Raises:
        ModelError: If the file is missing, no safetensors, cut off, or holds other than weights.
    """
    path = folder / ADAPTER_WEIGHTS
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            size = path.stat().st_size - 8
            head = json.loads(file.read(length)) if length <= min(size, LARGEST_HEAD) else None
    except FileNotFoundError:
        names = [each.name for each in folder.iterdir()] if folder.is_dir() else []
        raise without_weights(names, what) from None
    except (OSError, ValueError, struct.error, RecursionError):
        head = None
    if not isinstance(head, dict):
        raise ModelError(
            f"{what} is damaged: its {ADAPTER_WEIGHTS} is no safetensors file, or is cut off.",
            "Copy or download it again.",
        )
    head.pop("__metadata__", None)
    found, end = {}, 0
    for name, entry in head.items():
        found[name], first, last = _tensor(name, entry, what)
        if last - first != found[name].numbers * BYTES[found[name].dtype]:
            raise _damaged(what, f"the size of {quoted(name)} is wrong")
        end = max(end, last)
    if not found:
        raise _damaged(what, "it holds no weights")
    if end != size - length:
        raise _damaged(what, "it is cut off" if end > size - length else "it is too long")
    return found


def _tensor(name: str, entry: Any, what: str) -> tuple[Tensor, int, int]:
    try:
        dtype, shape = entry["dtype"], tuple(entry["shape"])
        first, last = entry["data_offsets"]
        whole = all(type(each) is int and each >= 0 for each in (*shape, first, last))
    except (TypeError, KeyError, ValueError):
        whole = False
    if not whole:
        raise _damaged(what, f"what it says about {quoted(name)} makes no sense")
    if dtype not in BYTES:
        raise ModelError(
            f"{what} has numbers of the kind {quoted(str(dtype), 20)} in {quoted(name)}, which "
            "are no weights of LoRA.",
            "Save it in float32, bfloat16 or float16.",
        )
    return Tensor(dtype, shape), first, last


def _damaged(what: str, how: str) -> ModelError:
    return ModelError(f"{what} is damaged: {ADAPTER_WEIGHTS}: {how}.", "Copy or download it again.")


def without_weights(names: Iterable[str], what: str) -> ModelError:
    """What to say of an adapter that has no safetensors.

    Args:
        names: The files that it has.
        what: The adapter, as the beginning of a sentence.
    """
    pickles = sorted(name for name in names if PurePath(name).suffix.lower() in PICKLES)
    if not pickles:
        return ModelError(
            f"{what} has no {ADAPTER_WEIGHTS}.",
            "Only safetensors is read; weights in .bin files are pickles, which can run code.",
        )
    return ModelError(
        f"{what} has no {ADAPTER_WEIGHTS}; {quoted(pickles[0])} is a pickle, which can run code, "
        "and is not read.",
        "Save it again with save_pretrained(folder, safe_serialization=True).",
    )


def check_sizes(settings: Mapping[str, Any], head: Mapping[str, Tensor], what: str) -> None:
    """Refuse weights that are not of the rank in the settings, before memory is taken for that.

    Args:
        settings: Of the adapter, checked.
        head: Of its weights.
        what: The adapter, as the beginning of a sentence.

    Raises:
        ModelError: If a rank differs.
    """
    ranks = {settings["r"], *(settings.get("rank_pattern") or {}).values()}
    found = {each.shape[0] for name, each in head.items() if ".lora_A." in name and each.shape}
    found |= {
        each.shape[0] for name, each in head.items() if ".lora_embedding_A" in name and each.shape
    }
    if not found and not any("lora_" in name for name in head):
        raise ModelError(
            f"{what} is no LoRA adapter: its {ADAPTER_WEIGHTS} holds no LoRA matrices, but such as "
            f"{quoted(next(iter(head)))}.",
            "Save the adapter with PeftModel.save_pretrained, not the whole model.",
        )
    wrong = sorted(found - ranks)
    if wrong or (found and max(ranks) > max(found)):
        raise ModelError(
            f"{what} contradicts itself: its settings say rank "
            f"{', '.join(map(str, sorted(ranks)))}, its weights have rank "
            f"{', '.join(map(str, sorted(found)))}.",
            "Its files may be of two adapters.",
        )


def check_fit(
    expected: Mapping[str, tuple[int, ...]], head: Mapping[str, Tensor], what: str, names: str
) -> None:
    """Refuse weights that are not exactly those that an adapter of these settings has on a base.

    Args:
        expected: Shapes by name.
        head: Of the weights.
        what: The adapter, as the beginning of a sentence.
        names: Says which base the adapter names and which one it was tried on.

    Raises:
        ModelError: If names are missing, unknown, or of another shape.
    """
    hint = "Use it with the base model it was trained on."
    problems = {
        "missing": sorted(set(expected) - set(head)),
        "unknown": sorted(set(head) - set(expected)),
    }
    for problem, keys in problems.items():
        if problem == "unknown" and any(key.endswith(EMBEDDINGS) for key in keys):
            hint = (
                "It holds the base model's own embeddings as well: save it again with "
                "save_pretrained(folder, save_embedding_layers=False)."
            )
        if keys:
            raise ModelError(
                f"{what} does not fit the base model {names}: {len(keys)} of its tensors "
                f"{'is' if len(keys) == 1 else 'are'} {problem}, such as {quoted(keys[0], 120)}.",
                hint,
            )
    for name, shape in expected.items():
        if head[name].shape != tuple(shape):
            raise ModelError(
                f"{what} does not fit the base model {names}: {quoted(name, 120)} has the shape "
                f"{_times(head[name].shape)}, and there it would be {_times(shape)}.",
                hint,
            )


def check_finite(folder: Path, what: str) -> None:
    """Refuse weights that are no numbers: with them no answer is one.

    Raises:
        ModelError: If there is one.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(folder / ADAPTER_WEIGHTS), framework="pt") as file:
            bad = next((n for n in file.keys() if not file.get_tensor(n).isfinite().all()), None)  # noqa: SIM118
    except SafetensorError as error:
        raise _damaged(what, str(error).splitlines()[0].rstrip(".")) from None
    if bad is not None:
        raise ModelError(
            f"{what} is broken: {quoted(bad, 120)} holds NaN or infinity.",
            "Its training went wrong; use one from before that.",
        )


def expected_on(
    skeleton: PreTrainedModel, settings: Mapping[str, Any]
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights that an adapter of these settings has on a base.

    Args:
        skeleton: The base, without weights (on the device "meta"); it is used up.
        settings: Of the adapter, checked.
    """
    import torch
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

    config = LoraConfig.from_peft_type(**{**settings, "init_lora_weights": True})
    with torch.device("meta"):
        model = get_peft_model(skeleton, config)
    found = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: tuple(weights.shape) for name, weights in found.items()}


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"
