"""One optimizer step: micro-batches, loss, gradient, update."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from qa_lora import distributed
from qa_lora.adapters import training_mode
from qa_lora.batching import IGNORED, Batch, EncodedExample, collate, share
from qa_lora.errors import NonFiniteLossError
from qa_lora.gradient_sync import sum_gradients
from qa_lora.session import Session
from qa_lora.sharding import evened, whole

__all__ = ["optimizer_step", "summed_nll"]


def optimizer_step(run: Session, indices: list[int]) -> tuple[float, float, int]:
    """One optimizer step.

    Returns:
        The mean loss per real label token of the effective batch, the gradient's norm before
        clipping, and the real tokens of the batch.
    """
    rows = [run.train_rows[i] for i in indices]
    label_tokens = sum(len(row.labels) for row in rows)
    mine = share(rows, distributed.count(), lambda row: row.tokens)[distributed.index()]
    parts = [mine[i : i + run.batch_size] for i in range(0, len(mine), run.batch_size)]

    training_mode(run.model, base_dropout=run.base_dropout)
    loss = _backward(run, parts, label_tokens) / label_tokens
    grad_norm = float(whole(torch.nn.utils.clip_grad_norm_(run.trainable, run.max_grad_norm)))
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        raise NonFiniteLossError(
            f"The loss became {loss} (gradient norm {grad_norm}) in step {run.progress.step + 1}"
        )
    run.last_learning_rate = float(run.scheduler.get_last_lr()[0])
    run.optimizer.step()
    run.scheduler.step()
    run.optimizer.zero_grad()
    return loss, grad_norm, sum(row.tokens for row in rows)


def _backward(run: Session, parts: list[list[EncodedExample]], label_tokens: int) -> float:
    """Gradients and summed loss of the micro-batches of all processes.

    A process that fails takes part in the exchange all the same, so that none waits for it; then
    all learn why. Where weights are sharded, each pass is an exchange, and a failure ends them all.
    """
    total = torch.zeros((), device=run.accelerator.device)
    failure: Exception | None = None
    weighted = evened(parts, run.train_rows[:1]) if run.sharded else [(p, 1.0) for p in parts]
    try:
        for part, weight in weighted:
            batch = collate(part, run.tokenizer.pad_token_id).to(run.accelerator.device)
            nll = weight * summed_nll(run, batch, label_smoothing=run.label_smoothing)
            (nll * (1 / label_tokens)).backward()
            total += nll.detach()
    except Exception as error:
        if distributed.count() == 1 or run.sharded:
            raise
        failure = error
        run.optimizer.zero_grad()
    beside = torch.stack([total, torch.full_like(total, failure is not None)])
    # The gradients of shards were summed in the backward pass.
    summed, failures = sum_gradients([] if run.sharded else run.trainable, beside).tolist()
    if failures:
        distributed.together(lambda: _raise(failure))
    return float(summed)


def _raise(failure: Exception | None) -> None:
    if failure is not None:
        raise failure


def summed_nll(run: Session, batch: Batch, *, label_smoothing: float = 0.0) -> torch.Tensor:
    """Summed negative log-likelihood of the real label tokens of one batch, in nats.

    Args:
        run: What computes it.
        batch: The rows.
        label_smoothing: Share of each target that is spread over all tokens.
    """
    decoder_input_ids = run.model.get_base_model().prepare_decoder_input_ids_from_labels(
        labels=batch.labels
    )
    kind = run.accelerator.device.type
    with torch.autocast(kind, torch.bfloat16, enabled=run.dtype is torch.bfloat16):
        logits = run.wrapped(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            decoder_input_ids=decoder_input_ids,
            use_cache=False,
        ).logits
    real = batch.labels != IGNORED
    return F.cross_entropy(
        logits[real].float(), batch.labels[real], reduction="sum", label_smoothing=label_smoothing
    )
