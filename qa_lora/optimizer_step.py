"""One optimizer step: micro-batches, loss, gradient, update."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch.nn import functional as F

from qa_lora import distributed
from qa_lora.adapters import training_mode
from qa_lora.batching import IGNORED, EncodedExample, collate, share
from qa_lora.devices import is_out_of_memory
from qa_lora.errors import NonFiniteLossError, TrainingError
from qa_lora.gradient_sync import sum_gradients
from qa_lora.session import Session
from qa_lora.sharding import evened, whole

__all__ = ["micro_batches", "optimizer_step", "summed_nll"]


def optimizer_step(run: Session, rows: Sequence[EncodedExample]) -> tuple[float, float, int]:
    """One optimizer step.

    Where memory runs out, the micro-batches are halved and the step is done anew; the effective
    batch, and so the result, stays.

    Args:
        run: What is trained.
        rows: The effective batch, of all processes.

    Returns:
        The mean loss per real label token of the effective batch, the gradient's norm before
        clipping, and the real tokens of the batch.

    Raises:
        NonFiniteLossError: If loss or gradient is no longer a number.
        TrainingError: If the memory does not suffice for one row.
    """
    label_tokens = sum(len(row.labels) for row in rows)
    mine = share(rows, distributed.count(), lambda row: row.tokens)[distributed.index()]

    training_mode(run.model, base_dropout=run.base_dropout)
    loss = _backward(run, mine, label_tokens) / label_tokens
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


def micro_batches(
    rows: Sequence[EncodedExample], max_rows: int, max_tokens: int
) -> Iterator[list[EncodedExample]]:
    """Cut a batch into parts that fit: at most so many rows and, beyond one row, so many tokens."""
    part: list[EncodedExample] = []
    tokens = 0
    for row in rows:
        if part and (len(part) == max_rows or tokens + row.tokens > max_tokens):
            yield part
            part, tokens = [], 0
        part.append(row)
        tokens += row.tokens
    if part:
        yield part


def summed_nll(
    run: Session, rows: Sequence[EncodedExample], *, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Summed negative log-likelihood of the rows' real label tokens, in nats.

    Args:
        run: What computes it: over packed rows without dropout, otherwise as the model's mode says.
        rows: One micro-batch.
        label_smoothing: Share of each target that is spread over all tokens; not over packed rows.
    """
    if run.packed is not None:
        return run.packed.loss(rows)
    batch = collate(rows, run.tokenizer.pad_token_id).to(run.accelerator.device)
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


def _backward(run: Session, mine: list[EncodedExample], label_tokens: int) -> float:
    """Gradients and summed loss of the rows of all processes.

    A process that fails takes part in the exchange all the same, so that none waits for it; then
    all learn why. Where weights are sharded, each pass is an exchange, and a failure ends them all.
    Where one halved its micro-batches, all do from the next step on, so that one number in the
    checkpoint says how each cuts its rows, and draws its dropout.
    """
    total = torch.zeros((), device=run.accelerator.device)
    failure: Exception | None = None
    halvings = run.progress.halvings
    try:
        total = _gradients(run, mine, label_tokens)
    except Exception as error:
        if distributed.count() == 1 or run.sharded:
            raise
        failure = error
        run.optimizer.zero_grad()
    flags = [failure is not None, run.progress.halvings > halvings]
    beside = torch.stack([total, *(torch.full_like(total, flag) for flag in flags)])
    # The gradients of shards were summed in the backward pass.
    parameters = [] if run.adapter_sharded else run.trainable
    summed, failures, halved = sum_gradients(parameters, beside).tolist()
    if failures:
        distributed.together(lambda: _raise(failure))
    if halved:
        run.progress.halvings = max(distributed.gather(lambda: run.progress.halvings))
    return float(summed)


def _gradients(run: Session, mine: list[EncodedExample], label_tokens: int) -> torch.Tensor:
    """Gradients and summed loss of this process's rows, in micro-batches that fit."""
    device = run.accelerator.device
    while True:
        random_state = _random_state(device)
        parts = list(micro_batches(mine, run.micro_rows, run.micro_tokens))
        weighted = (
            evened(parts, run.train_rows.many([0])) if run.sharded else [(p, 1.0) for p in parts]
        )
        total = torch.zeros((), device=device)
        try:
            for part, weight in weighted:
                total += weight * _add_gradients(run, part, scale=weight / label_tokens)
            return total
        except (RuntimeError, MemoryError) as error:
            # Sharded weights are exchanged in each pass, which cannot be done anew by one alone.
            if run.sharded or not is_out_of_memory(error):
                raise
        # Outside the except block, where the error no longer holds on to what filled the memory.
        if run.micro_rows == 1:
            raise TrainingError(
                "There is not enough memory for even one row at a time.",
                "Lower max_source_tokens and max_target_tokens, or choose a smaller model.",
            )
        run.progress.halvings += 1
        run.optimizer.zero_grad()
        _restore_random_state(random_state, device)


def _add_gradients(run: Session, rows: Sequence[EncodedExample], *, scale: float) -> torch.Tensor:
    """Add the gradient of `scale` times the summed loss of one micro-batch; gives the sum."""
    smoothing = run.label_smoothing
    if run.packed is not None:
        return run.packed.loss_and_gradients(rows, scale=scale, label_smoothing=smoothing)
    nll = summed_nll(run, rows, label_smoothing=smoothing)
    (nll * scale).backward()
    return nll.detach()


def _raise(failure: Exception | None) -> None:
    if failure is not None:
        raise failure


def _random_state(device: torch.device) -> tuple[torch.Tensor, torch.Tensor | None]:
    on_gpu = device.type == "cuda"
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if on_gpu else None


def _restore_random_state(
    state: tuple[torch.Tensor, torch.Tensor | None], device: torch.device
) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
        torch.cuda.empty_cache()
