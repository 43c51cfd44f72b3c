"""Training by hand: the loop, from rows of questions and answers to a LoRA adapter.

`train` is a generator of events. It prints nothing and draws nothing; who iterates decides what to
do with what it tells, and the order of the loop below is the order in which things happen.
"""

from __future__ import annotations

import errno
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch.nn import functional as F

from qa_lora import checkpoint
from qa_lora.adapters import count_parameters, save_adapter, training_mode
from qa_lora.batching import IGNORED, Batch, collate
from qa_lora.config import TrainConfig
from qa_lora.data import load_split
from qa_lora.devices import device_name, peak_memory_bytes
from qa_lora.errors import TrainingError, first_line
from qa_lora.events import (
    Checkpointed,
    Evaluated,
    Event,
    Finished,
    FinishReason,
    Probe,
    Probed,
    Started,
    Step,
)
from qa_lora.generation import generate_batch
from qa_lora.session import Session, prepare

__all__ = ["train"]

UNWRITABLE = (OSError, SafetensorError)
"""What saving raises when the disk is full: the file system's error or safetensors' own."""

SPEED_WINDOW = 20
"""Tokens per second are those of this many last steps."""


def train(
    config: TrainConfig,
    folder: Path,
    *,
    resume: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Fine-tune a LoRA adapter, telling each step.

    Loss and gradient of a step are means over the real label tokens of its whole effective batch:
    all micro-batches, on all processes. The adapter ends up in ``folder/adapter``, what is needed
    to go on in ``folder/checkpoint``.

    Args:
        config: The settings.
        folder: The run's folder.
        resume: Go on from the checkpoint there.
        should_stop: Asked after every step; when true, the step is saved and the training ends.

    Yields:
        Events, from `Started` to `Finished`.

    Raises:
        QALoRAError: If data or model cannot be used, the loss is no longer a number, or the disk
            is full. What was saved before is intact.
    """
    run = prepare(config, folder, load_split(config))
    if resume:
        run.progress, run.best = checkpoint.load(
            folder / "checkpoint",
            model=run.model,
            optimizer=run.optimizer,
            scheduler=run.scheduler,
        )
        if run.best is not None and config.keep == "best":
            # A stop may have kept an adapter that the uninterrupted run never looked at.
            _save_adapter(run, run.best)
    session_start = time.monotonic() - run.progress.elapsed_seconds
    trainable, everything = count_parameters(run.model)
    progress = run.progress
    yield Started(
        step=progress.step,
        total_steps=run.total_steps,
        trainable_parameters=trainable,
        all_parameters=everything,
        train_rows=len(run.train_rows),
        validation_rows=len(run.validation_rows),
        test_rows=run.test_rows,
        test_fingerprint=run.test_fingerprint,
        device=device_name(run.accelerator.device),
        precision="bf16" if run.dtype is torch.bfloat16 else "fp32",
        time=time.time(),
        run=folder.name,
    )
    if progress.step == 0:
        yield from _evaluate(run)
        yield from _probe(run)

    speed: deque[tuple[int, float]] = deque(maxlen=SPEED_WINDOW)
    loss: float | None = None
    reason: FinishReason = "completed"
    for epoch, indices in run.remaining_batches():
        step_start = time.monotonic()
        loss, grad_norm, tokens = _step(run, indices)
        now = time.monotonic()
        progress.step += 1
        progress.tokens += tokens
        progress.elapsed_seconds = now - session_start
        speed.append((tokens, now - step_start))
        yield Step(
            step=progress.step,
            epoch=epoch,
            loss=loss,
            learning_rate=run.last_learning_rate,
            grad_norm=grad_norm,
            tokens_per_second=sum(t for t, _ in speed) / sum(s for _, s in speed),
            elapsed_seconds=progress.elapsed_seconds,
            eta_seconds=progress.elapsed_seconds
            / progress.step
            * (run.total_steps - progress.step),
            peak_memory_bytes=peak_memory_bytes(run.accelerator.device),
        )
        is_last = progress.step == run.total_steps
        if is_last or progress.step % config.evaluate_every == 0:
            yield from _evaluate(run)
            yield from _probe(run)
        stopping = not is_last and should_stop()
        if is_last or stopping or progress.step % config.checkpoint_every == 0:
            progress.elapsed_seconds = time.monotonic() - session_start
            _save_checkpoint(run)
            yield Checkpointed(step=progress.step)
        if stopping:
            reason = "stopped"
            break

    if reason == "stopped" and progress.step % config.evaluate_every:
        # After the checkpoint: a resumed run must not know of this extra look.
        yield from _evaluate(run)
    if run.best is None and config.keep == "best":
        _save_adapter(run, run.trainable_weights())
    progress.elapsed_seconds = time.monotonic() - session_start
    yield Finished(
        step=progress.step,
        reason=reason,
        train_loss=loss,
        validation_loss=run.kept_loss,
        seconds=progress.elapsed_seconds,
        tokens_per_second=progress.tokens / max(progress.elapsed_seconds, 1e-9),
    )


def _step(run: Session, indices: list[int]) -> tuple[float, float, int]:
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
        nll = weight * _nll(run, batch)
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
        raise TrainingError(
            f"The loss became {loss} (gradient norm {grad_norm}) in step {run.progress.step + 1}; "
            "what was saved before it is kept.",
            "Try a lower learning rate, a longer warm-up, or fp32.",
        )
    run.last_learning_rate = float(run.scheduler.get_last_lr()[0])
    run.optimizer.step()
    run.scheduler.step()
    run.optimizer.zero_grad()
    return loss, grad_norm, sum(row.tokens for row in rows)


def _nll(run: Session, batch: Batch) -> torch.Tensor:
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


def _evaluate(run: Session) -> Iterator[Event]:
    """The validation loss, a mean over real label tokens; keeps the adapter if it is the best."""
    loss = _validation_loss(run)
    if not math.isfinite(loss):
        raise TrainingError(
            f"The validation loss became {loss} after step {run.progress.step}; "
            "what was saved before it is kept.",
            "Try a lower learning rate, a longer warm-up, or fp32.",
        )
    progress = run.progress
    run.last_loss = loss
    better = progress.best_loss is None or loss < progress.best_loss
    # At step 0 there is nothing to keep: the adapter does nothing yet.
    if better and progress.step > 0:
        progress.best_loss, progress.best_step = loss, progress.step
        run.best = run.trainable_weights()
        if run.keep == "best":
            _save_adapter(run, run.best)
    yield Evaluated(step=progress.step, loss=loss, perplexity=math.exp(min(loss, 700.0)))


@torch.no_grad()
def _validation_loss(run: Session) -> float:
    run.model.eval()
    rows = sorted(run.validation_rows, key=lambda row: row.tokens)
    mine = rows[run.accelerator.process_index :: run.accelerator.num_processes]
    total = torch.zeros(2, device=run.accelerator.device, dtype=torch.float64)
    size = max(run.batch_size, 8)
    for i in range(0, len(mine), size):
        part = mine[i : i + size]
        batch = collate(part, run.tokenizer.pad_token_id).to(run.accelerator.device)
        total[0] += _nll(run, batch)
        total[1] += sum(len(row.labels) for row in part)
    nll, tokens = run.accelerator.reduce(total, reduction="sum").tolist()
    return float(nll / tokens)


def _probe(run: Session) -> Iterator[Event]:
    """Answers to the probe questions, as they are now."""
    if not run.probes or not run.accelerator.is_main_process:
        return
    run.model.eval()
    prompts = [run.template.render(e.question, e.context, e.history) for e in run.probes]
    answers = generate_batch(
        run.model,
        run.tokenizer,
        prompts,
        max_source_tokens=run.max_source_tokens,
        max_new_tokens=run.max_new_tokens,
    )
    yield Probed(
        step=run.progress.step,
        probes=tuple(
            Probe(question=example.question, reference=example.answer, answer=answer.text)
            for example, answer in zip(run.probes, answers, strict=True)
        ),
    )


def _save_checkpoint(run: Session) -> None:
    if not run.accelerator.is_main_process:
        return
    try:
        checkpoint.save(
            run.folder / "checkpoint",
            run.progress,
            weights=run.trainable_weights(),
            best_weights=run.best,
            optimizer=run.optimizer,
            scheduler=run.scheduler,
        )
    except UNWRITABLE as error:
        raise _unwritable("checkpoint", error) from None
    if run.keep == "last":
        _save_adapter(run, run.trainable_weights())


def _save_adapter(run: Session, weights: dict[str, torch.Tensor]) -> None:
    if not run.accelerator.is_main_process:
        return
    try:
        save_adapter(
            run.model,
            run.folder / "adapter",
            tokenizer=run.tokenizer,
            template=run.template,
            card=run.card,
            weights=weights,
        )
    except UNWRITABLE as error:
        raise _unwritable("adapter", error) from None


def _unwritable(what: str, error: Exception) -> TrainingError:
    # safetensors says which system error it met in words only.
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
    why = "the disk is full" if full else first_line(error)
    return TrainingError(
        f"The {what} could not be saved: {why}. What was saved before it is intact.",
        "Make room there; a run that has a checkpoint can be resumed.",
    )
