"""How well the adapter does on the validation rows: loss, best so far, probe answers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from qa_lora import distributed
from qa_lora.batching import EncodedExample, share
from qa_lora.data.example import QAExample, question_key
from qa_lora.decoding import answer_all
from qa_lora.encoding import fit_prompts
from qa_lora.errors import NonFiniteLossError
from qa_lora.events import Evaluated, Event, Probe, Probed
from qa_lora.generation import GenerationSettings, generate_batch
from qa_lora.optimizer_step import micro_batches, summed_nll
from qa_lora.saving import keep_adapter
from qa_lora.scoring import score
from qa_lora.session import Session
from qa_lora.sharding import evened

__all__ = ["evaluate", "probe"]


ROUGE_QUESTIONS = 64
"""Validation questions that are answered where ROUGE-L says which adapter is best."""


def evaluate(run: Session) -> Iterator[Event]:
    """The validation loss, a mean over real label tokens, and ROUGE-L where it is asked for.

    Keeps the adapter if it is the best.
    """
    loss = _validation_loss(run)
    if not math.isfinite(loss):
        raise NonFiniteLossError(
            f"The validation loss became {loss} after step {run.progress.step}"
        )
    rouge = _validation_rouge(run) if run.metric == "rougeL" else None
    progress = run.progress
    progress.last_loss = loss
    # At step 0 there is nothing to keep, unless the adapter had learnt something before.
    if progress.step > 0 or run.goes_on:
        _compare_with_best(run, loss, rouge)
    yield Evaluated(
        step=progress.step, loss=loss, perplexity=math.exp(min(loss, 700.0)), rougeL=rouge
    )


def _compare_with_best(run: Session, loss: float, rouge: float | None) -> None:
    """Keep what is better than all before, and count how long nothing was."""
    progress = run.progress
    gain = math.inf
    if progress.best_loss is not None:
        gain = progress.best_loss - loss
        if rouge is not None and progress.best_rouge is not None:
            gain = rouge - progress.best_rouge
    if gain > run.min_improvement:
        progress.evaluations_without_improvement = 0
    else:
        progress.evaluations_without_improvement += 1
    if gain > 0:
        progress.best_step, progress.best_loss, progress.best_rouge = progress.step, loss, rouge
        run.best = run.trainable_weights()
        if run.keep == "best":
            keep_adapter(run, run.best)


def _validation_loss(run: Session) -> float:
    rows = sorted(run.validation_rows, key=lambda row: row.tokens)
    mine = share(rows, distributed.count(), lambda row: row.tokens)[distributed.index()]
    sums = distributed.gather(lambda: _summed(run, mine))
    return sum(nll for nll, _ in sums) / sum(tokens for _, tokens in sums)


@torch.no_grad()
def _summed(run: Session, mine: Sequence[EncodedExample]) -> tuple[float, float]:
    """Summed loss and real label tokens of some rows."""
    run.model.eval()
    total = torch.zeros(2, device=run.accelerator.device, dtype=torch.float64)
    parts = list(micro_batches(mine, max(run.batch_size, 8), 2 * run.batch_tokens))
    weighted = evened(parts, run.validation_rows[:1]) if run.sharded else [(p, 1.0) for p in parts]
    for part, weight in weighted:
        total[0] += weight * summed_nll(run, part)
        total[1] += weight * sum(len(row.labels) for row in part)
    nll, tokens = total.tolist()
    return nll, tokens


def _validation_rouge(run: Session) -> float:
    """Mean ROUGE-L of greedy answers; a question with several right answers takes its best."""
    grouped: dict[str, list[QAExample]] = {}
    for example in run.validation_examples:
        key = question_key(example.question, example.context, example.history)
        grouped.setdefault(key, []).append(example)
    questions = list(grouped.values())
    questions = questions[:: max(1, len(questions) // ROUGE_QUESTIONS)][:ROUGE_QUESTIONS]
    answers = _answer(run, [rows[0] for rows in questions])
    scores = (
        score(answer, [row.answer for row in rows])["rougeL"]
        for rows, answer in zip(questions, answers, strict=True)
    )
    return sum(scores) / len(questions)


def probe(run: Session) -> Iterator[Event]:
    """Answers to the probe questions, as they are now."""
    if not run.probes:
        return
    answers = _answer(run, run.probes)
    yield Probed(
        step=run.progress.step,
        probes=tuple(
            Probe(question=example.question, reference=example.answer, answer=answer)
            for example, answer in zip(run.probes, answers, strict=True)
        ),
    )


def _answer(run: Session, examples: Sequence[QAExample]) -> list[str]:
    """Greedy answers, in the order of the questions; the processes divide them."""
    prompts = fit_prompts(run.tokenizer, run.template, examples, run.max_source_tokens)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].ids))
    mine = share(order, distributed.count(), lambda i: len(prompts[i].ids))[distributed.index()]
    if run.sharded:
        mine = order  # each token is an exchange, so all processes say the same ones
    size = max(run.batch_size, 8)
    settings = GenerationSettings(max_new_tokens=run.max_new_tokens)

    def answers() -> dict[int, str]:
        run.model.eval()
        if not run.sharded:
            asked = [prompts[i] for i in mine]
            longest = max((len(prompt.ids) for prompt in asked), default=0)
            said = answer_all(
                run.model,
                run.tokenizer,
                asked,
                settings=settings,
                adapter=run.model.active_adapter,
                batch_tokens=size * (longest + run.max_new_tokens),
            )
            return {mine[place]: answer.text for place, answer in said}
        found: dict[int, str] = {}
        for start in range(0, len(mine), size):
            part = mine[start : start + size]
            batch = generate_batch(
                run.model,
                run.tokenizer,
                [prompts[i] for i in part],
                max_new_tokens=run.max_new_tokens,
            )
            found |= {i: answer.text for i, answer in zip(part, batch, strict=True)}
        return found

    merged = {i: text for part in distributed.gather(answers) for i, text in part.items()}
    return [merged[i] for i in range(len(prompts))]
