"""What of a model's repository is needed: nothing that could run code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from qa_lora.errors import ModelError
from qa_lora.hub_access import TIMEOUT_SECONDS
from qa_lora.hub_file import LargeFile

__all__ = ["CONFIG", "INDEX", "WEIGHTS", "Plan", "make_plan"]

CONFIG, WEIGHTS = "config.json", "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_SMALL = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab)"
    r"\.json|merges\.txt|(spiece|tokenizer|sentencepiece\.bpe)\.model"
)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True)
class Plan:
    """What of a repository is needed, and where it goes."""

    repo: str
    commit: str
    large: tuple[LargeFile, ...]
    small: tuple[str, ...]
    small_bytes: int

    @property
    def total(self) -> int:
        """Bytes of all of it."""
        return self.small_bytes + sum(file.size for file in self.large)


def make_plan(repo: str, commit: str | None) -> Plan:
    """Ask the Hub what a model consists of, and choose what is needed: nothing that runs code.

    Raises:
        ModelError: If its weights are not safetensors.
        Exception: What the Hub's client raises.
    """
    from huggingface_hub import HfApi

    info = HfApi().model_info(repo, revision=commit, files_metadata=True, timeout=TIMEOUT_SECONDS)
    files: dict[str, Any] = {file.rfilename: file for file in info.siblings or ()}
    weights = [name for name in files if name == WEIGHTS]
    if not weights and INDEX in files:
        weights = [name for name in files if _SHARD.fullmatch(name)]
    if not weights:
        raise _no_weights(repo, list(files))
    large = [name for name in weights if files[name].lfs is not None]
    small = [name for name in files if _SMALL.fullmatch(name)]
    small += [name for name in weights if name not in large]
    small += [INDEX] if INDEX in files and WEIGHTS not in files else []
    sha: str = info.sha or ""
    return Plan(
        repo,
        sha,
        tuple(
            LargeFile(repo, sha, name, files[name].lfs.size, files[name].lfs.sha256)
            for name in large
        ),
        tuple(small),
        sum(files[name].size or 0 for name in small),
    )


def _no_weights(repo: str, names: list[str]) -> ModelError:
    pickles = [name for name in names if name.endswith(_PICKLES)]
    if "adapter_config.json" in names:
        return ModelError(
            f"{repo} is an adapter, not a base model.", "Name the base model it was trained on."
        )
    if pickles:
        return ModelError(
            f"The model {repo} has its weights only as {pickles[0]}, a kind of file that can run "
            "code when it is read, so it is not downloaded.",
            "Choose a model with safetensors weights, such as google/flan-t5-base.",
        )
    return ModelError(
        f"The model {repo} has no {WEIGHTS}.",
        "Choose a transformers model with safetensors weights, such as google/flan-t5-base.",
    )
