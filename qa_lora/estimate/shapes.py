"""The sizes of a T5 that say what it weighs and costs, read without loading it; loads no torch."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from qa_lora.bundled import POCKET
from qa_lora.catalog import POCKET as POCKET_NAME
from qa_lora.errors import ModelError, shorten

__all__ = ["FLAN_T5", "Linear", "ModelShape", "has_tokenizer", "model_shape"]

HEAD = "lm_head.weight"
LARGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class Linear:
    """A kind of linear layer, and on how many tokens it works."""

    name: str
    inputs: int
    outputs: int
    stack: str
    """encoder, decoder, or memory: a decoder's layer that reads the encoder's output."""


@dataclass(frozen=True)
class ModelShape:
    """A T5: all that its memory and its arithmetic follow from."""

    d_model: int
    d_ff: int
    encoder_layers: int
    decoder_layers: int
    heads: int
    d_kv: int
    vocabulary: int
    gated: bool = True
    tied: bool = False
    """Whether the embedding is the lm_head, too."""
    buckets: int = 32
    """Of relative positions."""

    @property
    def inner(self) -> int:
        """Width of all heads together."""
        return self.heads * self.d_kv

    @property
    def linears(self) -> tuple[Linear, ...]:
        """The linear layers of one encoder and one decoder layer; without the lm_head."""
        D, F, inner = self.d_model, self.d_ff, self.inner
        wi = ("wi_0", "wi_1") if self.gated else ("wi",)
        found = []
        for stack in ("encoder", "decoder"):
            found += [Linear(name, D, inner, stack) for name in "qkv"]
            found += [Linear("o", inner, D, stack)]
            found += [Linear(name, D, F, stack) for name in wi]
            found += [Linear("wo", F, D, stack)]
        found += [Linear("q", D, inner, "decoder"), Linear("o", inner, D, "decoder")]
        found += [Linear(name, D, inner, "memory") for name in "kv"]
        return tuple(found)

    def layers(self, linear: Linear) -> int:
        """How often the model has a linear layer."""
        return self.encoder_layers if linear.stack == "encoder" else self.decoder_layers

    @cached_property
    def linear_parameters(self) -> int:
        """Parameters of all linear layers but the lm_head."""
        return sum(each.inputs * each.outputs * self.layers(each) for each in self.linears)

    @property
    def joined_parameters(self) -> int:
        """Parameters of the layers that training joins into one matrix: see qa_lora/packed."""
        joined = {"encoder": ("q", "k", "v"), "decoder": ("q", "k", "v"), "memory": ("k", "v")}
        halves = ("wi_0", "wi_1")
        both = sum(
            each.inputs * each.outputs * self.layers(each)
            for each in self.linears
            if each.name in (*joined[each.stack], *halves)
        )
        # The query of a decoder's second attention has an input of its own.
        return both - self.d_model * self.inner * self.decoder_layers

    @cached_property
    def parameters(self) -> int:
        """All parameters; a tied lm_head counts once."""
        embeddings = self.vocabulary * self.d_model * (1 if self.tied else 2)
        norms = self.d_model * (2 * self.encoder_layers + 3 * self.decoder_layers + 2)
        return embeddings + norms + 2 * self.buckets * self.heads + self.linear_parameters

    def targets(self, names: str) -> tuple[Linear, ...]:
        """The linear layers that an adapter goes on.

        Args:
            names: As in the setting target_modules.

        Raises:
            ModelError: If a name matches none.
        """
        wanted = {name.strip() for name in names.split(",") if name.strip()}
        if "all-linear" in wanted:
            return self.linears
        known = dict.fromkeys(each.name for each in self.linears)
        unknown = sorted(wanted - set(known))
        if unknown or not wanted:
            raise ModelError(
                f"The LoRA target {', '.join(unknown) or 'an empty name'} matches no linear layer "
                "of this model.",
                f"Its linear layers are {', '.join(known)}; all-linear takes them all.",
            )
        return tuple(each for each in self.linears if each.name in wanted)

    def adapter_parameters(self, rank: int, names: str, *, dora: bool = False) -> int:
        """Parameters of a LoRA adapter: two matrices a layer, and with DoRA a magnitude an output.

        Raises:
            ModelError: If a name matches no layer.
        """
        return sum(
            (rank * (each.inputs + each.outputs) + each.outputs * dora) * self.layers(each)
            for each in self.targets(names)
        )


def _flan(d_model: int, d_ff: int, layers: int, heads: int) -> ModelShape:
    return ModelShape(d_model, d_ff, layers, layers, heads, 64, 32_128)


FLAN_T5 = {
    "google/flan-t5-small": _flan(512, 1024, 8, 6),
    "google/flan-t5-base": _flan(768, 2048, 12, 12),
    "google/flan-t5-large": _flan(1024, 2816, 24, 16),
    "google/flan-t5-xl": _flan(2048, 5120, 24, 32),
    "google/flan-t5-xxl": _flan(4096, 10_240, 24, 64),
}
"""Chung et al. (2022); known without a download."""


def model_shape(model: str) -> ModelShape:
    """The shape of a base model, from its config.json or, for FLAN-T5, from memory.

    Args:
        model: "pocket", a folder, or a Hub id. The Hub is not asked.

    Raises:
        ModelError: If its shape is not known here, or it is no T5.
    """
    if model in FLAN_T5:
        return FLAN_T5[model]
    path = _local_file(model, "config.json")
    try:
        values = json.loads(path.read_text("utf-8")) if path else None
    except (OSError, ValueError):
        values = None
    if path is None or not isinstance(values, dict):
        raise ModelError(
            f"How large {shorten(model)} is is not known before it is loaded.",
            "Known are pocket, google/flan-t5-*, folders, and models that were downloaded before.",
        )
    try:
        return _from_config(values, path.parent)
    except (KeyError, TypeError, ValueError):
        raise ModelError(
            f"What {shorten(model)} needs cannot be estimated: it is no T5.",
            "It may well train; watch the memory of its first steps.",
        ) from None


def has_tokenizer(model: str) -> bool:
    """Whether a base model's tokenizer can be had without the network."""
    return _local_file(model, "tokenizer.json") is not None


def _local_file(model: str, name: str) -> Path | None:
    """A file of a model that lies here: bundled, in a folder, or downloaded before."""
    if model == POCKET_NAME:
        return Path(POCKET) / name
    try:
        path = Path(model).expanduser() / name
        if path.is_file():
            return path
    except (OSError, RuntimeError, ValueError):
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(model, name)
    except HFValidationError:
        return None
    return Path(cached) if isinstance(cached, str) else None


def _from_config(values: Mapping[str, Any], folder: Path) -> ModelShape:
    if values["model_type"] not in ("t5", "mt5"):
        raise ValueError
    layers = int(values["num_layers"])
    stored = _stored(folder)
    tied = bool(values.get("tie_word_embeddings", True)) if stored is None else HEAD not in stored
    return ModelShape(
        d_model=int(values["d_model"]),
        d_ff=int(values["d_ff"]),
        encoder_layers=layers,
        decoder_layers=int(values.get("num_decoder_layers") or layers),
        heads=int(values["num_heads"]),
        d_kv=int(values["d_kv"]),
        vocabulary=int(values["vocab_size"]),
        gated=str(values.get("feed_forward_proj", "relu")).startswith("gated"),
        tied=tied,
        buckets=int(values.get("relative_attention_num_buckets", 32)),
    )


def _stored(folder: Path) -> set[str] | None:
    """Names of a model's tensors, from the head of its file; None if that is not one.

    A checkpoint may hold an lm_head of its own although its config says that it is tied: then
    transformers does not tie it.
    """
    try:
        with (folder / "model.safetensors").open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, LARGEST_HEADER)))
    except (OSError, ValueError, struct.error):
        return None
    return set(header)
