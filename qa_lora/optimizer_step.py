"""One optimizer step: micro-batches, loss, gradient, update."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch.nn import functional as F

from qa_lora.adapters import training_mode
from qa_lora.batching import IGNORED, EncodedExample, collate
from qa_lora.devices import is_out_of_memory
from qa_lora.errors import NonFiniteLossError, TrainingError
from qa_lora.events import MemoryRanOut
from qa_lora.session import Session

__all__ = [
    "TooLargeError",
    "halve_micro_batch",
    "micro_batches",
    "optimizer_step",
    "summed_nll",
]


class TooLargeError(Exception):
    """A micro-batch did not fit; nothing of its step was kept, the random numbers included."""


def optimizer_step(run: Session, indices: list[int]) -> tuple[float, float, int]:
    """One optimizer step.

    Returns:
        The mean loss per real label token of the effective batch, the gradient's norm before
        clipping, and the real tokens of the batch.

    Raises:
        TooLargeError: If a micro-batch does not fit; the step can be done again with smaller ones.
        TrainingError: If the loss is no longer a number.
    """
    rows = [run.train_rows[i] for i in indices]
    label_tokens = sum(len(row.labels) for row in rows)
    processes = run.accelerator.num_processes
    mine = rows[run.accelerator.process_index :: processes] or rows[:1]
    # A process without a row of a short last batch still takes part, with weight 0.
    weight = 0.0 if run.accelerator.process_index >= len(rows) else 1.0
    parts = list(micro_batches(mine, run.micro_rows, run.micro_tokens))

    training_mode(run.model, base_dropout=run.base_dropout)
    total = torch.zeros((), device=run.accelerator.device)
    random_state = _random_state(run.accelerator.device)
    try:
        for part in parts:
            # The gradients of all processes are averaged, so their number cancels it.
            total += _add_gradients(run, part, scale=weight * processes / label_tokens)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        run.optimizer.zero_grad()
        _restore_random_state(random_state, run.accelerator.device)
        raise TooLargeError from None
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


def halve_micro_batch(run: Session) -> MemoryRanOut:
    """Make the micro-batches half as large; the effective batch, and so the result, stays.

    Raises:
        TrainingError: If they hold one row already.
    """
    if run.micro_rows == 1:
        raise TrainingError(
            "There is not enough memory for even one row at a time.",
            "Lower max_source_tokens and max_target_tokens, or choose a smaller model.",
        )
    run.progress.halvings += 1
    return MemoryRanOut(run.progress.step, run.micro_rows, run.micro_tokens)


def summed_nll(run: Session, rows: Sequence[EncodedExample]) -> torch.Tensor:
    """Summed negative log-likelihood of the rows' real label tokens, in nats.

    Without dropout where rows are packed; otherwise as the model's mode says.
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
    return F.cross_entropy(logits[real].float(), batch.labels[real], reduction="sum")


def _add_gradients(run: Session, rows: Sequence[EncodedExample], *, scale: float) -> torch.Tensor:
    """Add the gradient of `scale` times the summed loss of one micro-batch; gives the sum."""
    if run.packed is not None:
        return run.packed.loss_and_gradients(rows, scale=scale)
    nll = summed_nll(run, rows)
    run.accelerator.backward(nll * scale)
    return nll.detach()


def _random_state(device: torch.device) -> tuple[torch.Tensor, torch.Tensor | None]:
    return torch.get_rng_state(), (
        torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    )


def _restore_random_state(
    state: tuple[torch.Tensor, torch.Tensor | None], device: torch.device
) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
        torch.cuda.empty_cache()
