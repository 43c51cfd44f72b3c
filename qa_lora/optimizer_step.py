"""One optimizer step: micro-batches, loss, gradient, update."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from qa_lora.adapters import training_mode
from qa_lora.batching import IGNORED, Batch, collate
from qa_lora.errors import NonFiniteLossError
from qa_lora.session import Session

__all__ = ["optimizer_step", "summed_nll"]


def optimizer_step(run: Session, indices: list[int]) -> tuple[float, float, int]:
    """One optimizer step.

    Returns:
        The mean loss per real label token of the effective batch, the gradient's norm before
        clipping, and the real tokens of the batch.
    """
    rows = [run.train_rows[i] for i in indices]
    label_tokens = sum(len(row.labels) for row in rows)
    processes = run.accelerator.num_processes
    mine = rows[run.accelerator.process_index :: processes] or rows[:1]
    # A process without a row of a short last batch still takes part, with weight 0.
    weight = 0.0 if run.accelerator.process_index >= len(rows) else 1.0
    parts = [mine[i : i + run.batch_size] for i in range(0, len(mine), run.batch_size)]

    training_mode(run.model, base_dropout=run.base_dropout)
    total = torch.zeros((), device=run.accelerator.device)
    for number, part in enumerate(parts, start=1):
        batch = collate(part, run.tokenizer.pad_token_id).to(run.accelerator.device)
        nll = weight * summed_nll(run, batch)
        # The gradients of all processes are averaged, so their number cancels it.
        if number < len(parts):
            with run.accelerator.no_sync(run.wrapped):
                run.accelerator.backward(nll * (processes / label_tokens))
        else:
            run.accelerator.backward(nll * (processes / label_tokens))
        total += nll.detach()
    loss = float(run.accelerator.reduce(total, reduction="sum")) / label_tokens
    norm = run.accelerator.clip_grad_norm_(run.model.parameters(), run.max_grad_norm)
    grad_norm = float(norm) if norm is not None else math.nan
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        raise NonFiniteLossError(
            f"The loss became {loss} (gradient norm {grad_norm}) in step {run.progress.step + 1}"
        )
    run.last_learning_rate = float(run.scheduler.get_last_lr()[0])
    run.optimizer.step()
    run.scheduler.step()
    run.optimizer.zero_grad()
    return loss, grad_norm, sum(row.tokens for row in rows)


def summed_nll(run: Session, batch: Batch) -> torch.Tensor:
    """Summed negative log-likelihood of the real label tokens of one batch, in nats."""
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
    return F.cross_entropy(logits[real].float(), batch.labels[real], reduction="sum")
