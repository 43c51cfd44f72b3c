"""Several systems answer one question while a caller watches, or many questions in batches."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from qa_lora.decoding import answer_all, usual_tokens
from qa_lora.decoding.support import why_not
from qa_lora.encoding import Prompt
from qa_lora.following import follow
from qa_lora.generation import Answer, GenerationSettings, Stopped
from qa_lora.one_model import OneModel, Who

__all__ = ["Together", "answer_one", "answer_rows", "is_blank"]


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
        should_stop: Asked every few tokens; questions that all have answered by then are given.
        batch_tokens: Prompt and answer tokens in a batch; `usual_tokens` if None.
    """
    budget = batch_tokens or usual_tokens(one.model)
    lengths = [max(len(prompt.ids) for prompt in row) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: -lengths[i])
    while order and not should_stop():
        with one.lock:
            slow = [n for n, who in whos.items() if why_not(one.model, _slot(who), settings)]
            # What is computed by hand is so for one after the other, the others go together.
            width = lengths[order[0]] + settings.max_new_tokens
            count = max(1, budget // (max(1, len(slow)) * settings.num_beams * width))
            batch, order = order[:count], order[count:]
            asked = [dict(zip(whos, rows[i], strict=True)) for i in batch]
            said = _answer_batch(one, whos, slow, asked, settings, should_stop, budget)
        for i, answers in zip(batch, said, strict=True):
            if len(answers) == len(whos):
                yield i, {name: answers[name] for name in whos}


def _answer_batch(
    one: OneModel,
    whos: Mapping[str, Who],
    slow: Sequence[str],
    asked: Sequence[Mapping[str, Prompt]],
    settings: GenerationSettings,
    should_stop: Callable[[], bool],
    budget: int,
) -> list[dict[str, Answer]]:
    """For each question the answers by system; some are missing if it was asked to stop.

    Args:
        one: The model, whose lock is held.
        whos: Who answers, by name.
        slow: Those of them whose answers are left to `generate`.
        asked: For each question a prompt for each of them.
        settings: How answers are generated.
        should_stop: Asked every few tokens.
        budget: Prompt and answer tokens at once.
    """
    said: list[dict[str, Answer]] = [{} for _ in asked]
    for name, who in whos.items():
        if name in slow or should_stop():
            continue
        with one.acting(who) as model:
            tokenizer = one.base_tokenizer if who is None else who.tokenizer
            for place, answer in answer_all(
                model,
                tokenizer,
                [prompts[name] for prompts in asked],
                settings=settings,
                adapter=_slot(who),
                batch_tokens=budget,
                should_stop=should_stop,
            ):
                said[place][name] = answer
    if not slow or should_stop():
        return said
    prompts = [row[name] for row in asked for name in slow]
    try:
        answers = one.generate(
            prompts, [whos[name] for name in slow] * len(asked), settings, should_stop=should_stop
        )
    except Stopped:
        return said
    for place, row in enumerate(said):
        own = answers[place * len(slow) : (place + 1) * len(slow)]
        row.update(zip(slow, own, strict=True))
    return said


def _slot(who: Who) -> str | None:
    return None if who is None else who.slot


def is_blank(text: str) -> bool:
    """Whether there is nothing to see in it: white space, control and format characters."""
    return all(char.isspace() or unicodedata.category(char) in ("Cc", "Cf") for char in text)
