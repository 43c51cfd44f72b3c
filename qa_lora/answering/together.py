"""Several systems answer one question while a caller watches, or many questions in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from qa_lora.answering.one_model import OneModel, Who
from qa_lora.decoding import answer_all, bytes_of_a_token, usual_tokens
from qa_lora.devices import free_memory_bytes
from qa_lora.encoding import Prompt
from qa_lora.errors import ModelError
from qa_lora.following import follow
from qa_lora.generation import Answer, GenerationSettings

__all__ = ["Together", "answer_one", "answer_rows"]


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

    Raises:
        ModelError: If the answers could need more memory than there is.
    """

    def together(answers: Sequence[Answer], *, done: bool) -> Together:
        return Together(dict(zip(whos, answers, strict=True)), done)

    def work(tell: Callable[[Together], None], left: Callable[[], bool]) -> None:
        def watch(answers: list[Answer]) -> bool:
            # With beams there is nothing to show yet, but a caller can leave only at an item.
            tell(together(answers or [Answer("")] * len(whos), done=False))
            return not left()

        while not one.lock.acquire(timeout=0.1):
            if left():
                return
        try:
            prompts = make_prompts()
            longest = max(len(prompt.ids) for prompt in prompts)
            _check_memory(one, len(prompts), longest, settings)
            answers = one.generate(prompts, list(whos.values()), settings, watch)
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
    """Answers to many questions, in groups of prompts of like length, one system after the other.

    A group is what fits one batch, so that nothing is computed less well than without groups. The
    model is free for others between the systems of a group.

    Args:
        one: The model.
        whos: Who answers, by name.
        rows: For each question a prompt for each of them.
        settings: How answers are generated.
        should_stop: Asked every few tokens. Questions whose answers are all there by then come.
        batch_tokens: Prompt and answer tokens in a batch; `usual_tokens` if None.

    Raises:
        ModelError: If the answer to one question could need more memory than there is.
    """
    budget = (batch_tokens or usual_tokens(one.model)) // settings.num_beams
    lengths = [max(len(prompt.ids) for prompt in row) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: -lengths[i])
    if order:
        _check_memory(one, 1, lengths[order[0]], settings)
    while order and not should_stop():
        count = max(1, budget // (lengths[order[0]] + settings.max_new_tokens))
        group, order = order[:count], order[count:]
        answers: list[dict[str, Answer]] = [{} for _ in group]
        for column, (name, who) in enumerate(whos.items()):
            with one.lock:
                for place, answer in answer_all(
                    one.model,
                    one.base_tokenizer if who is None else who.tokenizer,
                    [rows[i][column] for i in group],
                    settings=settings,
                    adapter=None if who is None else who.slot,
                    batch_tokens=batch_tokens,
                    should_stop=should_stop,
                ):
                    answers[place][name] = answer
        for i, found in zip(group, answers, strict=True):
            if len(found) == len(whos):
                yield i, found


def _check_memory(one: OneModel, rows: int, longest: int, settings: GenerationSettings) -> None:
    """Refuse what the system would kill the process for, before any of it is computed.

    Args:
        one: The model.
        rows: How many answers are generated together.
        longest: Tokens of the longest prompt.
        settings: How they are generated. Answers as they are without any wish are always tried.

    Raises:
        ModelError: If keys and values would take more than half of the memory that is free; the
            rest is for what comes and goes with every token.
    """
    usual = GenerationSettings()
    if settings.num_beams == 1 and settings.max_new_tokens <= usual.max_new_tokens:
        return
    tokens = rows * settings.num_beams * (longest + settings.max_new_tokens)
    device = one.model.device
    free = free_memory_bytes(device)
    if device.type == "cuda":  # what torch keeps for itself is free, too
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if tokens * bytes_of_a_token(one.model) > free // 2:
        raise ModelError(
            "These answers would need more memory than there is.",
            "Use fewer beams, shorter answers or fewer columns.",
        )
