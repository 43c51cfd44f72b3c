"""Everything a training works with, made from its settings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from peft import PeftModel
from transformers import PreTrainedTokenizerBase, get_scheduler

from qa_lora.adapters import attach_lora
from qa_lora.batching import EncodedExample, encode, epoch_batches
from qa_lora.checkpoint import Progress
from qa_lora.config import TrainConfig
from qa_lora.data import DataSplit
from qa_lora.data.example import QAExample
from qa_lora.devices import choose_dtype
from qa_lora.model_card import adapter_card
from qa_lora.models import load_base
from qa_lora.packed import PackedModel, why_not
from qa_lora.prompts import PromptTemplate

__all__ = ["Session", "prepare"]

CPU_BATCH_TOKENS, GPU_BATCH_TOKENS = 2048, 32_768
"""Real tokens of a micro-batch: enough for efficient products, few enough for caches and memory."""


@dataclass
class Session:
    """What the parts of the loop share: the model, the rows, and how far the training is."""

    folder: Path
    accelerator: Accelerator
    model: PeftModel
    """Unwrapped; `wrapped` is what computes gradients on many processes."""
    wrapped: torch.nn.Module
    packed: PackedModel | None
    """The same model over packed rows; None where something it does not know is asked for."""
    tokenizer: PreTrainedTokenizerBase
    template: PromptTemplate
    dtype: torch.dtype
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    train_rows: list[EncodedExample]
    validation_rows: list[EncodedExample]
    probes: Sequence[QAExample]
    test_rows: int
    test_fingerprint: str
    batch_size: int
    """Most rows of a micro-batch on one process, if memory suffices."""
    batch_tokens: int
    """Most real tokens of a micro-batch of several rows, if memory suffices."""
    effective_batch_size: int
    """Rows of an optimizer step on all processes."""
    total_steps: int
    max_grad_norm: float
    base_dropout: bool
    max_source_tokens: int
    max_new_tokens: int
    keep: str
    seed: int
    card: str
    progress: Progress = field(default_factory=Progress)
    best: dict[str, torch.Tensor] | None = None
    last_learning_rate: float = 0.0

    @property
    def micro_rows(self) -> int:
        """Most rows of a micro-batch."""
        return max(1, self.batch_size >> self.progress.halvings)

    @property
    def micro_tokens(self) -> int:
        """Most real tokens of a micro-batch of several rows."""
        return max(1, self.batch_tokens >> self.progress.halvings)

    @property
    def kept_loss(self) -> float | None:
        """Validation loss of the adapter that is kept."""
        return self.progress.best_loss if self.keep == "best" else self.progress.last_loss

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.train_rows) / self.effective_batch_size)

    def remaining_batches(self) -> Iterator[tuple[float, list[int]]]:
        """Row indices of each step still to do, and the epoch at that step's end."""
        first = self.progress.step // self.steps_per_epoch
        lengths = [row.tokens for row in self.train_rows]
        endless = chain.from_iterable(
            epoch_batches(lengths, self.effective_batch_size, seed=self.seed, epoch=epoch)
            for epoch in range(first, first + self.total_steps + 1)
        )
        done = self.progress.step - first * self.steps_per_epoch
        batches = islice(endless, done, None)
        for step in range(self.progress.step + 1, self.total_steps + 1):
            yield step / self.steps_per_epoch, next(batches)

    def trainable_weights(self) -> dict[str, torch.Tensor]:
        """A copy of the weights that are trained, on the CPU."""
        return {
            name: parameter.detach().cpu().clone()
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad
        }


def prepare(config: TrainConfig, folder: Path, split: DataSplit) -> Session:
    """Unpack the config: load, attach, encode, and build what the loop needs.

    Args:
        config: The settings.
        folder: The run's folder.
        split: The rows.

    Raises:
        ModelError: If the model cannot be loaded or the LoRA targets match nothing.
    """
    set_seed(config.seed)
    # Autocast is ours (see _nll): an accelerate config file must not switch T5 to fp16.
    accelerator = Accelerator(mixed_precision="no")
    dtype = choose_dtype(config.precision, accelerator.device)
    base = load_base(config.model, precision=config.precision, device=accelerator.device)
    if accelerator.device.type == "cpu":
        # torch's fused attention is slow on CPUs in bf16, its backward pass above all.
        base.model.set_attn_implementation("eager")
    template = PromptTemplate(config.prompt, config.context_prompt, config.history_prompt)
    train_rows, validation_rows = (
        encode(
            rows,
            base.tokenizer,
            template,
            max_source_tokens=config.max_source_tokens,
            max_target_tokens=config.max_target_tokens,
        )
        for rows in (split.train, split.validation[: config.validation_rows])
    )
    model = attach_lora(
        base.model,
        r=config.lora_r,
        alpha=config.lora_alpha,
        dropout=config.lora_dropout,
        target_modules=config.target_modules,
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
    )
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
    )
    wrapped, prepared_optimizer = accelerator.prepare(model, optimizer)
    # Masks in the base model are not drawn over packed rows; they would cost most of the gain.
    by_hand = accelerator.num_processes == 1 and not config.base_dropout
    packed = PackedModel(model) if by_hand and why_not(model) is None else None
    effective = config.effective_batch_size * accelerator.num_processes
    steps_per_epoch = math.ceil(len(train_rows) / effective)
    total_steps = config.max_steps or max(1, math.ceil(config.epochs * steps_per_epoch))
    scheduler = get_scheduler(
        config.schedule if config.schedule != "constant" else "constant_with_warmup",
        optimizer,
        num_warmup_steps=round(config.warmup_ratio * total_steps),
        num_training_steps=total_steps,
    )
    return Session(
        folder=folder,
        accelerator=accelerator,
        model=model,
        wrapped=wrapped,
        packed=packed,
        tokenizer=base.tokenizer,
        template=template,
        dtype=dtype,
        optimizer=prepared_optimizer,
        scheduler=scheduler,
        train_rows=train_rows,
        validation_rows=validation_rows,
        probes=_spread(split.validation, config.probe_rows),
        test_rows=len(split.test),
        test_fingerprint=split.fingerprint,
        batch_size=config.batch_size,
        batch_tokens=config.batch_tokens
        or (CPU_BATCH_TOKENS if accelerator.device.type == "cpu" else GPU_BATCH_TOKENS),
        effective_batch_size=effective,
        total_steps=total_steps,
        max_grad_norm=config.max_grad_norm,
        base_dropout=config.base_dropout,
        max_source_tokens=config.max_source_tokens,
        max_new_tokens=config.max_new_tokens,
        keep=config.keep,
        seed=config.seed,
        card=adapter_card(config),
    )


def _spread(examples: Sequence[QAExample], count: int) -> list[QAExample]:
    """A few examples, evenly spread, so that they show different kinds of questions."""
    if count == 0 or not examples:
        return []
    stride = max(1, len(examples) // count)
    return list(examples[::stride][:count])
