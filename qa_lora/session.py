"""Everything a training works with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice
from pathlib import Path

import torch
from accelerate import Accelerator
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from qa_lora import sharding
from qa_lora.batching import EncodedExample, epoch_batches
from qa_lora.checkpoint import Progress
from qa_lora.data.example import QAExample
from qa_lora.errors import DataError
from qa_lora.packed import PackedModel
from qa_lora.prompts import PromptTemplate
from qa_lora.sharding import whole
from qa_lora.training_rows import ComingRows, TrainingRows

__all__ = ["Plan", "Session"]


@dataclass
class Plan:
    """How long a training is."""

    rows: int
    """Of an epoch; of a stream, about so many until its last row is read."""
    effective_batch_size: int
    """Rows of an optimizer step on all processes."""
    epochs: float
    max_steps: int | None
    """Decides instead of the epochs where it is set."""

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.rows / self.effective_batch_size)

    @property
    def total_steps(self) -> int:
        return self.max_steps or max(1, math.ceil(self.epochs * self.steps_per_epoch))


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
    plan: Plan
    train_rows: TrainingRows
    """All rows to train on; of a stream, the first ones until all are read."""
    validation_rows: list[EncodedExample]
    probes: Sequence[QAExample]
    test_rows: int
    test_fingerprint: str
    validation_examples: Sequence[QAExample]
    """What `validation_rows` were made from."""
    batch_size: int
    """Most rows of a micro-batch on one process, if memory suffices."""
    batch_tokens: int
    """Most real tokens of a micro-batch of several rows, if memory suffices."""
    max_grad_norm: float
    """Infinite where gradients are left as they are."""
    label_smoothing: float
    base_dropout: bool
    max_source_tokens: int
    max_new_tokens: int
    keep: str
    metric: str
    """What says which adapter is best: "loss" or "rougeL"."""
    patience: int
    """Validations without improvement after which the training ends; 0 for any number."""
    min_improvement: float
    seed: int
    card: str
    goes_on: bool = False
    """Whether the adapter had learnt something before this run."""
    shards: sharding.Way | None = None
    """How each process holds a part of every weight, if it does; see sharding.py."""
    notice: str = ""
    """What the reader should know about the settings."""
    coming: Callable[[], ComingRows] | None = None
    """Gives the rows of a stream, from its begin."""
    all_read: bool = False
    """Whether the rows of a stream are all in `train_rows`."""
    progress: Progress = field(default_factory=Progress)
    best: dict[str, torch.Tensor] | None = None
    last_learning_rate: float = 0.0

    @property
    def sharded(self) -> bool:
        """Whether each forward pass is an exchange between the processes."""
        return self.shards is not None

    @property
    def adapter_sharded(self) -> bool:
        """Whether the adapter is in shards, too, and its gradients are summed as they come."""
        return self.shards == "FSDP"

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

    @cached_property
    def trainable(self) -> list[torch.nn.Parameter]:
        """The weights that are trained."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    @property
    def out_of_patience(self) -> bool:
        """Whether the training is to end early."""
        return 0 < self.patience <= self.progress.evaluations_without_improvement

    @property
    def effective_batch_size(self) -> int:
        """Rows of an optimizer step on all processes."""
        return self.plan.effective_batch_size

    @property
    def total_steps(self) -> int:
        """Steps of the training; of a stream, about so many until its last row is read."""
        return self.plan.total_steps

    def remaining_batches(
        self, should_stop: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[float, list[EncodedExample]]]:
        """The rows of each step still to do, and the epoch at that step's end.

        Args:
            should_stop: Asked while rows of a stream are waited for.

        Raises:
            DataError: If a stream ends in a fault, or gives other rows than before.
            StoppedWaitingError: If it is to stop.
        """
        is_first = not self.all_read or self.progress.step < self.plan.steps_per_epoch
        if self.coming is not None and is_first:
            yield from self._first_epoch(self.coming(), should_stop)
        steps = range(self.progress.step + 1, self.total_steps + 1)
        if not steps:
            return
        each_epoch = self.plan.steps_per_epoch
        first = self.progress.step // each_epoch
        lengths = self.train_rows.lengths
        endless = chain.from_iterable(
            epoch_batches(lengths, self.effective_batch_size, seed=self.seed, epoch=epoch)
            for epoch in range(first, first + self.total_steps + 1)
        )
        done = self.progress.step - first * each_epoch
        batches = islice(endless, done, done + len(steps))
        for step, rows in zip(steps, self.train_rows.batches(batches), strict=True):
            yield step / each_epoch, rows

    def _first_epoch(
        self, coming: ComingRows, should_stop: Callable[[], bool]
    ) -> Iterator[tuple[float, list[EncodedExample]]]:
        """The steps still to do of the epoch in which the rows of a stream come."""
        done, seen = self.progress.step, self.progress.rows_digest
        batches = coming.first_epoch(
            self.effective_batch_size, seed=self.seed, skip=done, should_stop=should_stop
        )
        for step, batch in enumerate(batches, 1):
            self.progress.rows_digest = batch.digest
            is_end = batch.epoch_rows is not None
            if batch.epoch_rows is not None:
                self.progress.epoch_rows = self.plan.rows = batch.epoch_rows
                self.train_rows, self.all_read = coming.whole(), True
            elif self.plan.epochs >= 1 and step >= self.plan.steps_per_epoch:
                self.plan.rows += self.effective_batch_size  # more rows than was to be expected
            if (step == done or (step < done and is_end)) and batch.digest != seen:
                raise DataError(
                    "The stream gives other rows than when this run began.",
                    "Name the revision that it began with, or train anew.",
                )
            if step > done:
                yield min(1.0, step / self.plan.steps_per_epoch), batch.rows
            if step >= self.total_steps:
                return

    def trainable_weights(self) -> dict[str, torch.Tensor]:
        """A copy of the weights that are trained, on the CPU."""
        return {
            name: whole(parameter.detach()).cpu().clone()
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad
        }
