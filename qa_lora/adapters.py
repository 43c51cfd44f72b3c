"""Attach, load and save a LoRA adapter, and say what of a model it trains."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import delete_adapter
from peft.utils import AuxiliaryTrainingWrapper
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_layers import GradientCheckpointingLayer

from qa_lora.adapter_settings import ADAPTER_CONFIG, ADAPTER_WEIGHTS, base_of, read_settings
from qa_lora.adapter_weights import without_weights
from qa_lora.checksums import CHECKSUMS, find_damage, write_checksums
from qa_lora.errors import ModelError, first_line
from qa_lora.files import replaced_folder
from qa_lora.prompts import PromptTemplate
from qa_lora.token_rows import row_indices, share_inputs, start_rows, under_all_names
from qa_lora.whitespace import new_ids

__all__ = [
    "ADAPTER_WEIGHTS",
    "add_adapter",
    "attach_adapter",
    "attach_lora",
    "count_parameters",
    "linear_names",
    "remove_adapter",
    "save_adapter",
    "training_mode",
]


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
    _check_files(folder)
    with _explained(folder, base.name_or_path):
        model = PeftModel.from_pretrained(
            base, folder, is_trainable=trainable, torch_device=str(base.device)
        )
        _check_keys(model, folder)
    assert isinstance(model, PeftModel)
    share_inputs(model)
    return model.train() if trainable else model.eval()


def add_adapter(model: PeftModel, folder: str | Path, slot: str) -> None:
    """Put one more saved adapter beside those that a model has; the active one stays active.

    Args:
        model: A base with one adapter or more, in eval mode.
        folder: A PEFT adapter folder with safetensors; pickled weights are refused.
        slot: What peft is to call it: a name without dots that no other one's contains.

    Raises:
        ModelError: If the folder holds no safe adapter, a damaged one or one of another model. The
            model is then as it was.
    """
    folder = Path(folder)
    _check_files(folder)
    active = model.active_adapter
    try:
        with _explained(folder, model.get_base_model().name_or_path):
            model.add_adapter(slot, PeftConfig.from_pretrained(folder, inference_mode=True))
            with _strangers_aside(model, slot):
                # Before it is loaded: a name of the base's own weights would overwrite them.
                _check_keys(model, folder, slot)
                model.load_adapter(folder, slot, torch_device=str(model.device))
    except BaseException:
        remove_adapter(model, slot)
        raise
    share_inputs(model)
    model.set_adapter(active, inference_mode=True)
    model.eval()


def remove_adapter(model: PeftModel, slot: str) -> None:
    """Take an adapter off a model, and all that was put into it for this adapter alone.

    Args:
        model: A base with one other adapter at least.
        slot: What peft calls the adapter; also one that was put on by half.
    """
    others = [name for name in model.peft_config if name != slot]
    if model.active_adapter == slot:
        model.set_adapter(others[0], inference_mode=True)
    delete_adapter(model.base_model, slot, prefix="lora_", layer_cls=LoraLayer)
    model.peft_config.pop(slot, None)
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if isinstance(module, AuxiliaryTrainingWrapper):
            empty, inside = not _adapters_of(module), module.original_module
        elif isinstance(module, LoraLayer):
            empty = not module.lora_A and not module.lora_embedding_A
            inside = module.get_base_layer()
        else:
            continue
        if empty:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, inside)
    model.set_adapter(model.active_adapter, inference_mode=True)


@contextmanager
def _strangers_aside(model: PeftModel, slot: str) -> Iterator[None]:
    """Meanwhile modules that other adapters put their embedding rows into are as in the base.

    peft looks in each of them for what an adapter has there, also if it has nothing.
    """
    aside = [
        (model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], module)
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, AuxiliaryTrainingWrapper) and slot not in _adapters_of(module)
    ]
    for parent, child, module in aside:
        setattr(parent, child, module.original_module)
    try:
        yield
    finally:
        for parent, child, module in aside:
            setattr(parent, child, module)


def _adapters_of(wrapper: AuxiliaryTrainingWrapper) -> set[str]:
    return set(wrapper._get_available_adapters())  # noqa: SLF001


def _check_files(folder: Path) -> None:
    """Refuse what is no adapter, could run code, or is not what was saved."""
    if not (folder / ADAPTER_CONFIG).is_file():
        raise ModelError(
            f"There is no adapter in {folder}.", f"An adapter folder holds {ADAPTER_CONFIG}."
        )
    # peft would take a pickle in its place.
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise without_weights((path.name for path in folder.iterdir()), f"The adapter in {folder}")
    damage = find_damage(folder, [ADAPTER_WEIGHTS]) if (folder / CHECKSUMS).is_file() else None
    if damage is not None:
        raise ModelError(
            f"The adapter in {folder} is damaged: {damage}.",
            f"Delete {CHECKSUMS} there if you changed it yourself.",
        )


@contextmanager
def _explained(folder: Path, base: str) -> Iterator[None]:
    """Turn the bare exceptions of many kinds that peft raises for an adapter into one sentence."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"The adapter in {folder} does not fit the base model {base}: {first_line(error)}.",
            _right_base(folder, base),
        ) from None


def _right_base(folder: Path, base: str) -> str:
    try:
        named = base_of(read_settings(folder), "")
    except ModelError:
        named = base
    which = "" if named == base else f", {named}"
    return f"Use it with the base model it was trained on{which}."


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


def _check_keys(model: PeftModel, folder: Path, slot: str = "default") -> None:
    """Refuse missing or unknown keys, about which peft only warns."""
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(str(folder / ADAPTER_WEIGHTS), framework="pt") as file:
        stored = set(file.keys())
    expected = set(get_peft_model_state_dict(model, adapter_name=slot, save_embedding_layers=False))
    if stored != expected:
        example = sorted(stored ^ expected)[0]
        raise ModelError(
            f"The adapter in {folder} does not fit the base model "
            f"{model.get_base_model().name_or_path}: {len(stored ^ expected)} of its tensors are "
            f"missing or unknown, such as {example}.",
            _right_base(folder, str(model.get_base_model().name_or_path)),
        )
