"""Several systems answer one question while a caller watches, or many questions in batches."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from qa_lora.answering.one_model import OneModel, Who
from qa_lora.decoding import answer_all, usual_tokens
from qa_lora.encoding import Prompt
from qa_lora.following import follow
from qa_lora.generation import Answer, GenerationSettings

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
            # With beams there is nothing to show yet, but a caller can leave only at an item.
            tell(together(answers or [Answer("")] * len(whos), done=False))
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
    """
    budget = (batch_tokens or usual_tokens(one.model)) // settings.num_beams
    lengths = [max(len(prompt.ids) for prompt in row) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: -lengths[i])
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


def is_blank(text: str) -> bool:
    """Whether there is nothing to see in it: white space, control and format characters."""
    return all(char.isspace() or unicodedata.category(char) in ("Cc", "Cf") for char in text)
