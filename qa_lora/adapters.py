"""Attach, load and save a LoRA adapter, and say what of a model it trains."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_layers import GradientCheckpointingLayer

from qa_lora.checksums import CHECKSUMS, find_damage, write_checksums
from qa_lora.errors import ModelError, first_line
from qa_lora.files import replaced_folder
from qa_lora.prompts import PromptTemplate
from qa_lora.token_rows import row_indices, share_inputs, start_rows, under_all_names
from qa_lora.whitespace import new_ids

__all__ = [
    "ADAPTER_WEIGHTS",
    "attach_adapter",
    "attach_lora",
    "count_parameters",
    "linear_names",
    "save_adapter",
    "training_mode",
]

ADAPTER_WEIGHTS = "adapter_model.safetensors"


def attach_lora(
    base: PreTrainedModel,
    *,
    r: int,
    alpha: int,
    dropout: float,
    target_modules: str,
    use_rslora: bool = False,
    use_dora: bool = False,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> PeftModel:
    """Put a fresh LoRA adapter on a base model; its weights alone can be trained.

    Args:
        base: An encoder-decoder model.
        r: Rank.
        alpha: The update is scaled by alpha / r (alpha / sqrt(r) with rsLoRA).
        dropout: Share of the adapter's input that is dropped in training.
        target_modules: Names of linear layers, comma-separated, or "all-linear".
        use_rslora: Rank-stabilised scaling (Kalajdzievski, 2023).
        use_dora: Weight-decomposed adaptation (Liu et al., 2024).
        tokenizer: That of the training; rows for its new tokens are trained, too.

    Raises:
        ModelError: If no layer has one of the names.
    """
    names = [name.strip() for name in target_modules.split(",") if name.strip()]
    known = linear_names(base)
    unknown = [name for name in names if name != "all-linear" and name not in known]
    if not names or unknown:
        missing = ", ".join(unknown) or "an empty name"
        raise ModelError(
            f"The LoRA target {missing} matches no linear layer of this model.",
            f"Its linear layers are {', '.join(known)}; all-linear takes them all.",
        )
    ids = [] if tokenizer is None else new_ids(tokenizer)
    config = LoraConfig(
        task_type="SEQ_2_SEQ_LM",
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules="all-linear" if "all-linear" in names else names,
        use_rslora=use_rslora,
        use_dora=use_dora,
        trainable_token_indices=row_indices(base, ids),
    )
    model = get_peft_model(base, config)
    assert isinstance(model, PeftModel)
    if ids:
        start_rows(model, min(ids))
        share_inputs(model)
    return model


def attach_adapter(
    base: PreTrainedModel, folder: str | Path, *, trainable: bool = False
) -> PeftModel:
    """Put a saved adapter on a base model.

    Args:
        base: The model the adapter was trained on.
        folder: A PEFT adapter folder with safetensors; pickled weights are refused.
        trainable: Whether its weights can be trained on.

    Raises:
        ModelError: If the folder holds no safe adapter, a damaged one or one of another model.
    """
    folder = Path(folder)
    if not (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"There is no adapter in {folder}.", "An adapter folder holds adapter_config.json."
        )
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise ModelError(
            f"The adapter in {folder} has no {ADAPTER_WEIGHTS}.",
            "Weights in .bin files are pickles, which can run code, and are not read.",
        )
    damage = find_damage(folder, [ADAPTER_WEIGHTS]) if (folder / CHECKSUMS).is_file() else None
    if damage is not None:
        raise ModelError(
            f"The adapter in {folder} is damaged: {damage}.",
            f"Delete {CHECKSUMS} there if you changed it yourself.",
        )
    try:
        model = PeftModel.from_pretrained(base, folder, is_trainable=trainable)
        _check_keys(model, folder)
    except ModelError:
        raise
    except Exception as error:  # peft raises bare exceptions of many kinds for a damaged adapter
        raise ModelError(
            f"The adapter in {folder} does not fit the base model {base.name_or_path}: "
            f"{first_line(error)}.",
            "Use it with the base model it was trained on.",
        ) from None
    assert isinstance(model, PeftModel)
    share_inputs(model)
    return model.train() if trainable else model.eval()


def save_adapter(
    model: PeftModel,
    folder: Path,
    *,
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    card: str,
    weights: dict[str, torch.Tensor],
) -> None:
    """Write a PEFT adapter folder that replaces the one before in one step.

    Args:
        model: The model with its adapter.
        folder: Where it goes.
        tokenizer: Saved beside it.
        template: Saved beside it as prompt.json.
        card: Text of its README.md.
        weights: The adapter's weights, by the names they have in `model`.

    Raises:
        OSError, SafetensorError: If the disk is full or the folder cannot be written.
    """
    with replaced_folder(folder) as new:
        names = under_all_names(model, weights)
        # "auto" would ask the Hub whether the vocabulary grew.
        model.save_pretrained(str(new), save_embedding_layers=False, state_dict=names)
        _sort_targets(new / "adapter_config.json")
        tokenizer.save_pretrained(str(new))
        template.save(new)
        (new / "README.md").write_text(card, "utf-8")
        write_checksums(new)


def _sort_targets(path: Path) -> None:
    """PEFT writes a set in whatever order it has in this process; the same run, the same bytes."""
    config = json.loads(path.read_text("utf-8"))
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
        path.write_text(json.dumps(config, indent=2, sort_keys=True), "utf-8")


def count_parameters(model: torch.nn.Module) -> tuple[int, int]:
    """Trainable parameters and all parameters; tied weights count once."""
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    # A weight that DeepSpeed cut into shards looks empty.
    return trainable, sum(getattr(p, "ds_numel", p.numel()) for p in model.parameters())


def linear_names(model: torch.nn.Module) -> list[str]:
    """Short names of the linear layers an adapter can go on, in order of first appearance."""
    names = {
        name.rpartition(".")[2]: None
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    return [name for name in names if name != "lm_head"]


def training_mode(model: PeftModel, *, base_dropout: bool) -> None:
    """Set dropout for a training step: always in the adapter, in the frozen base if asked."""
    model.train(base_dropout)
    for name, module in model.named_modules():
        if "lora_dropout" in name:
            module.train()
        elif isinstance(module, GradientCheckpointingLayer):
            # Such a layer checkpoints in training mode only; what drops anything lies below it.
            module.training = True


def _check_keys(model: PeftModel, folder: Path) -> None:
    """Refuse missing or unknown keys, about which peft only warns."""
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(str(folder / ADAPTER_WEIGHTS), framework="pt") as file:
        stored = set(file.keys())
    expected = set(get_peft_model_state_dict(model, save_embedding_layers=False))
    if stored != expected:
        example = sorted(stored ^ expected)[0]
        raise ModelError(
            f"The adapter in {folder} does not fit the base model "
            f"{model.get_base_model().name_or_path}: {len(stored ^ expected)} of its tensors are "
            f"missing or unknown, such as {example}.",
            "Use it with the base model it was trained on.",
        )
