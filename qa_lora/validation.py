"""How well the adapter does on the validation rows: loss, best so far, probe answers."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from qa_lora.errors import NonFiniteLossError
from qa_lora.events import Evaluated, Event, Probe, Probed
from qa_lora.generation import generate_batch
from qa_lora.optimizer_step import micro_batches, summed_nll
from qa_lora.saving import keep_adapter
from qa_lora.session import Session

__all__ = ["evaluate", "probe"]


def evaluate(run: Session) -> Iterator[Event]:
    """The validation loss, a mean over real label tokens; keeps the adapter if it is the best."""
    loss = _validation_loss(run)
    if not math.isfinite(loss):
        raise NonFiniteLossError(
            f"The validation loss became {loss} after step {run.progress.step}"
        )
    progress = run.progress
    progress.last_loss = loss
    better = progress.best_loss is None or loss < progress.best_loss
    # At step 0 there is nothing to keep: the adapter does nothing yet.
    if better and progress.step > 0:
        progress.best_loss, progress.best_step = loss, progress.step
        run.best = run.trainable_weights()
        if run.keep == "best":
            keep_adapter(run, run.best)
    yield Evaluated(step=progress.step, loss=loss, perplexity=math.exp(min(loss, 700.0)))


@torch.no_grad()
def _validation_loss(run: Session) -> float:
    run.model.eval()
    rows = sorted(run.validation_rows, key=lambda row: row.tokens)
    mine = rows[run.accelerator.process_index :: run.accelerator.num_processes]
    total = torch.zeros(2, device=run.accelerator.device, dtype=torch.float64)
    for part in micro_batches(mine, max(run.batch_size, 8), 2 * run.batch_tokens):
        total[0] += summed_nll(run, part)
        total[1] += sum(len(row.labels) for row in part)
    nll, tokens = run.accelerator.reduce(total, reduction="sum").tolist()
    return float(nll / tokens)


def probe(run: Session) -> Iterator[Event]:
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
