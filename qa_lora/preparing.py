"""Settings and rows -> everything a training works with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from peft import PeftModel
from peft.optimizers import create_loraplus_optimizer
from transformers import PreTrainedTokenizerBase

from qa_lora import distributed, sharding
from qa_lora.adapters import attach_lora
from qa_lora.batching import encode, fitting
from qa_lora.card import adapter_card
from qa_lora.checkpoint import Progress
from qa_lora.config import BATCH_TOKENS, TrainConfig
from qa_lora.continuing import continue_adapter
from qa_lora.data import DataSplit, begin
from qa_lora.data.coming import FROM_FIRST_ROWS, Coming
from qa_lora.data.example import QAExample
from qa_lora.data.store import pick
from qa_lora.devices import choose_dtype
from qa_lora.errors import ConfigError, DataError, ModelError
from qa_lora.fetching import base_commit
from qa_lora.models import LoadedModel, load_base
from qa_lora.packed import PackedModel, why_not
from qa_lora.prompts import PromptTemplate
from qa_lora.session import Plan, Session
from qa_lora.token_rows import why_no_rows
from qa_lora.tracking import check_installed
from qa_lora.training_rows import ComingRows, TrainingRows
from qa_lora.whitespace import choose_tokenizer

__all__ = ["prepare"]


_AS_THEY_COME = (
    f"{FROM_FIRST_ROWS} Training begins before all rows are read; how many steps there are is "
    "known when the streams have ended."
)


def prepare(
    config: TrainConfig, folder: Path, split: DataSplit, coming: Coming | None = None
) -> Session:
    """Unpack the config: load, attach, encode, and build what the loop needs.

    Args:
        config: The settings.
        folder: The run's folder.
        split: The rows, of streams the first ones.
        coming: All rows to train on as they come, where they are not here yet.

    Raises:
        ModelError: If the model cannot be loaded or the LoRA targets match nothing.
        ConfigError: If the launcher asks for shards of a kind that does not go with the settings.
    """
    check_installed(config.report_to)
    shards = sharding.wanted()
    set_seed(config.seed)
    accelerator = Accelerator(
        # Autocast is ours (see summed_nll): an accelerate config file must not switch T5 to fp16.
        mixed_precision="no",
        log_with=None if config.report_to == "none" else config.report_to,
        project_dir=folder,
    )
    dtype = choose_dtype(config.precision, accelerator.device)
    base = load_base(
        config.model,
        precision="bf16" if dtype is torch.bfloat16 else "fp32",
        # A model to be sharded may be too large for any one device.
        device=torch.device("cpu") if shards else accelerator.device,
        commit=base_commit(folder),
    )
    if accelerator.device.type == "cpu":
        # torch's fused attention is slow on CPUs in bf16, its backward pass above all.
        base.model.set_attn_implementation("eager")
    template = PromptTemplate(config.prompt, config.context_prompt, config.history_prompt)
    if config.gradient_checkpointing:
        base.model.gradient_checkpointing_enable({"use_reentrant": False})
    if shards == "ZeRO-3":
        if config.use_dora:
            raise ConfigError(
                "DoRA reads frozen weights that ZeRO-3 has put away.",
                "Take configs/fsdp.yaml, or leave use_dora off.",
            )
        sharding.shard_frozen(base.model)
    model, tokenizer, notice = _with_adapter(
        base, config, folder, split, sharded=shards is not None
    )
    encoding: dict[str, Any] = {
        "template": template,
        "max_source_tokens": config.max_source_tokens,
        "max_target_tokens": config.max_target_tokens,
    }
    train, validation = split.train, split.validation
    if config.overlong == "drop":
        train, validation = (_whole(rows, tokenizer, encoding) for rows in (train, validation))
    validation = validation[: config.validation_rows]
    encoded = partial(encode, tokenizer=tokenizer, **encoding)
    train_rows = TrainingRows(train, encoded)
    coming_rows = None
    if coming is not None:
        fits = partial(_fitting, tokenizer=tokenizer, encoding=encoding)
        coming_rows = _from_begin(
            config,
            coming,
            partial(ComingRows, encode=encoded, fits=fits if config.overlong == "drop" else None),
        )
    if shards == "FSDP":
        sharding.shard(model, accelerator.device)
    # Masks in the base model are not drawn over packed rows; they would cost most of the gain.
    plain = config.base_dropout or config.gradient_checkpointing or shards
    packed = PackedModel(model) if not plain and why_not(model) is None else None
    optimizer = _optimizer(model, config)
    plan = Plan(
        rows=coming.expected if coming is not None else len(train_rows),
        effective_batch_size=config.effective_batch_size * distributed.count(),
        epochs=config.epochs,
        max_steps=config.max_steps,
    )
    warmup = round(config.warmup_ratio * plan.total_steps)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: rate_share(
            step, schedule=config.schedule, warmup=warmup, total=plan.total_steps
        ),
    )
    if distributed.index():
        # The first process goes on as if it were alone; the others drop out other things than it.
        torch.manual_seed(config.seed + distributed.index())
    return Session(
        folder=folder,
        accelerator=accelerator,
        model=model,
        wrapped=model,
        packed=packed,
        tokenizer=tokenizer,
        template=template,
        dtype=dtype,
        optimizer=optimizer,
        scheduler=scheduler,
        plan=plan,
        train_rows=train_rows,
        coming=coming_rows,
        validation_rows=encode(validation, tokenizer, **encoding),
        probes=[
            *(QAExample(id="", question=text, answer="") for text in config.probe_questions),
            *_spread(validation, config.probe_rows),
        ],
        test_rows=len(split.test),
        test_fingerprint=split.fingerprint,
        validation_examples=validation,
        batch_size=config.batch_size,
        batch_tokens=config.batch_tokens
        or BATCH_TOKENS["cpu" if accelerator.device.type == "cpu" else "gpu"],
        max_grad_norm=config.max_grad_norm or math.inf,
        label_smoothing=config.label_smoothing,
        base_dropout=config.base_dropout,
        max_source_tokens=config.max_source_tokens,
        max_new_tokens=config.max_new_tokens,
        keep=config.keep,
        metric=config.early_stopping_metric,
        patience=config.early_stopping_patience,
        min_improvement=config.early_stopping_min_improvement,
        seed=config.seed,
        card=adapter_card(config),
        shards=shards,
        goes_on=bool(config.init_adapter),
        notice=" ".join(filter(None, (notice, _AS_THEY_COME if coming else ""))),
        progress=Progress(processes=distributed.count()),
    )


def _whole(
    examples: Sequence[QAExample], tokenizer: PreTrainedTokenizerBase, encoding: dict[str, Any]
) -> Sequence[QAExample]:
    """The examples of which nothing would be cut."""
    kept = _fitting(examples, tokenizer=tokenizer, encoding=encoding)
    if not kept:
        raise DataError(
            "No row is short enough: every prompt or answer of a side would be cut.",
            "Raise max_source_tokens or max_target_tokens, or set overlong to cut.",
        )
    return kept


def _fitting(
    examples: Sequence[QAExample],
    *,
    tokenizer: PreTrainedTokenizerBase,
    encoding: dict[str, Any],
) -> Sequence[QAExample]:
    return pick(examples, fitting(examples, tokenizer, **encoding))


def _from_begin(
    config: TrainConfig, coming: Coming, rows: Callable[[Coming], ComingRows]
) -> Callable[[], ComingRows]:
    """What gives the rows of streams from their begin: first those that are open, later anew."""
    opened = [coming]

    def make() -> ComingRows:
        again = opened.pop() if opened else begin(config)[1]
        assert again is not None  # what was a stream is one
        return rows(again)

    return make


def _with_adapter(
    base: LoadedModel, config: TrainConfig, folder: Path, split: DataSplit, *, sharded: bool
) -> tuple[PeftModel, PreTrainedTokenizerBase, str]:
    """A model with a fresh adapter or the one to go on from, its tokenizer, and what to say."""
    if config.init_adapter:
        model, tokenizer, notice = continue_adapter(base, config, folder.parent)
        if sharded and model.peft_config["default"].trainable_token_indices:
            raise ModelError(
                "This adapter trains rows of the embeddings, which cannot be cut into shards.",
                "Train it where each device holds the whole model.",
            )
        _, lost = choose_tokenizer(
            tokenizer,
            "off" if config.whitespace_tokens == "off" else "auto",
            (example.answer for example in split.train),
            refusal="the adapter that training goes on from has no tokens for them",
        )
        return model, tokenizer, " ".join(filter(None, (notice, lost)))
    refusal = "its weights are cut into shards" if sharded else ""
    tokenizer, notice = choose_tokenizer(
        base.tokenizer,
        config.whitespace_tokens,
        (example.answer for example in split.train),
        refusal=refusal or why_no_rows(base.model, base.tokenizer),
    )
    model = attach_lora(
        base.model,
        r=config.lora_r,
        alpha=config.lora_alpha,
        dropout=config.lora_dropout,
        target_modules=config.target_modules,
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        tokenizer=tokenizer,
    )
    return model, tokenizer, notice


def _optimizer(model: PeftModel, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW over the adapter; with LoRA+ (Hayou et al., 2024) B learns faster than A."""
    if config.loraplus_lr_ratio is None:
        return torch.optim.AdamW(
            [parameter for parameter in model.parameters() if parameter.requires_grad],
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
        )
    optimizer: torch.optim.Optimizer = create_loraplus_optimizer(
        model,
        torch.optim.AdamW,
        lr=config.learning_rate,
        loraplus_lr_ratio=config.loraplus_lr_ratio,
        loraplus_weight_decay=config.weight_decay,
    )
    return optimizer


def rate_share(step: int, *, schedule: str, warmup: int, total: int) -> float:
    """Share of the highest learning rate that a step has.

    The first step learns, too: the warm-up rises from 1 / (warmup + 1), not from zero.

    Args:
        step: Steps done before it.
        schedule: "linear", "cosine" or "constant" after the warm-up.
        warmup: Steps below the highest rate.
        total: Steps of the training.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    if schedule == "linear":
        return 1.0 - done
    return (1.0 + math.cos(math.pi * done)) / 2 if schedule == "cosine" else 1.0


def _spread(examples: Sequence[QAExample], count: int) -> list[QAExample]:
    """A few examples, evenly spread, so that they show different kinds of questions."""
    if count == 0 or not examples:
        return []
    stride = max(1, len(examples) // count)
    return list(examples[::stride][:count])
