"""Several systems answer one question while a caller watches, or many questions in batches."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from qa_lora.encoding import Prompt
from qa_lora.following import follow
from qa_lora.generation import Answer, GenerationSettings
from qa_lora.one_model import OneModel, Who

__all__ = ["Together", "answer_one", "answer_rows", "is_blank"]

CPU_BATCH_TOKENS, GPU_BATCH_TOKENS = 16_384, 32_768
"""Prompt and answer tokens, padding included, in one batch of :func:`answer_rows`.

Their keys and values take about 6 GB for FLAN-T5 XL in bf16 at the larger figure.
"""


@dataclass(frozen=True)
class Together:
    """The answers of several systems to one question, complete or so far."""

    answers: dict[str, Answer]
    """By the name of the system, in the order asked for."""
    done: bool


def answer_one(
    one: OneModel,
    whos: Mapping[str, Who],
    make_prompts: Callable[[], Sequence[Prompt]],
    settings: GenerationSettings,
) -> Iterator[Together]:
    """Answers to one question while they grow, and whether they are done.

    A thread of its own generates, so that no torch context is open while the caller works and so
    that a caller who leaves can stop it, also while it waits for the model.

    Args:
        one: The model.
        whos: Who answers, by name.
        make_prompts: Gives a prompt for each of them; called when the model is free.
        settings: How answers are generated.
    """

    def together(answers: Sequence[Answer], *, done: bool) -> Together:
        return Together(dict(zip(whos, answers, strict=True)), done)

    def work(tell: Callable[[Together], None], left: Callable[[], bool]) -> None:
        def watch(answers: list[Answer]) -> bool:
            if answers:
                tell(together(answers, done=False))
            return not left()

        while not one.lock.acquire(timeout=0.1):
            if left():
                return
        try:
            answers = one.generate(make_prompts(), list(whos.values()), settings, watch)
            tell(together(answers, done=True))
        finally:
            one.lock.release()

    return follow(work, name="qa-lora-answer")


def answer_rows(
    one: OneModel,
    whos: Mapping[str, Who],
    rows: Sequence[Sequence[Prompt]],
    settings: GenerationSettings,
    *,
    should_stop: Callable[[], bool],
    batch_tokens: int | None,
) -> Iterator[tuple[int, dict[str, Answer]]]:
    """Answers to many questions, in batches of prompts of like length.

    Args:
        one: The model.
        whos: Who answers, by name.
        rows: For each question a prompt for each of them.
        settings: How answers are generated.
        should_stop: Asked between batches.
        batch_tokens: Prompt and answer tokens in a batch; by the kind of device if None.
    """
    on_cpu = one.model.device.type == "cpu"
    budget = batch_tokens or (CPU_BATCH_TOKENS if on_cpu else GPU_BATCH_TOKENS)
    lengths = [max(len(prompt.ids) for prompt in row) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: -lengths[i])
    while order and not should_stop():
        longest = lengths[order[0]] + settings.max_new_tokens
        count = max(1, budget // (len(whos) * settings.num_beams * longest))
        batch, order = order[:count], order[count:]
        prompts = [prompt for i in batch for prompt in rows[i]]
        with one.lock:
            answers = one.generate(prompts, [*whos.values()] * len(batch), settings)
        for place, i in enumerate(batch):
            own = answers[place * len(whos) : (place + 1) * len(whos)]
            yield i, dict(zip(whos, own, strict=True))


def is_blank(text: str) -> bool:
    """Whether there is nothing to see in it: white space, control and format characters."""
    return all(char.isspace() or unicodedata.category(char) in ("Cc", "Cf") for char in text)
