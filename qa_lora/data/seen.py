"""What the model sees of an example, made by the functions that training uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from qa_lora.data.example import QAExample
from qa_lora.prompts import PromptTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["SeenExample", "SeenText", "seen_examples"]

WHOLE = 1_000_000
"""A limit that cuts nothing."""


@dataclass(frozen=True)
class SeenText:
    """Token ids as they reach the model, decoded back, with what was cut from between them."""

    ids: tuple[int, ...]
    whole_tokens: int
    """Tokens if nothing were cut."""
    before: str
    """The ids decoded, up to where something was cut."""
    cut: str
    """What was cut, decoded; empty if nothing was."""
    after: str
    """The ids decoded, from there on."""


@dataclass(frozen=True)
class SeenExample:
    """An example as text and as the model sees it."""

    id: str
    prompt: str
    answer: str
    input: SeenText
    label: SeenText


def seen_examples(
    examples: Sequence[QAExample],
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    *,
    max_source_tokens: int,
    max_target_tokens: int,
) -> tuple[SeenExample, ...]:
    """Encode some examples as training does, and decode them back.

    Args:
        examples: A few.
        tokenizer: As training uses it.
        template: How a question becomes a prompt.
        max_source_tokens: Longer prompts are cut.
        max_target_tokens: Longer answers are cut.
    """
    from qa_lora.batching import encode  # loads torch

    rows = encode(
        examples,
        tokenizer,
        template,
        max_source_tokens=max_source_tokens,
        max_target_tokens=max_target_tokens,
    )
    whole = encode(examples, tokenizer, template, max_source_tokens=WHOLE, max_target_tokens=WHOLE)
    return tuple(
        SeenExample(
            id=example.id,
            prompt=template.render(example.question, example.context, example.history),
            answer=example.answer,
            input=_seen(tokenizer, row.input_ids, full.input_ids),
            label=_seen(tokenizer, row.labels, full.labels),
        )
        for example, row, full in zip(examples, rows, whole, strict=True)
    )


def _seen(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], whole: Sequence[int]) -> SeenText:
    """Find what is missing: between the longest common start and the longest common end."""
    ids, whole = list(ids), list(whole)

    def decode(count: int) -> str:
        # Every token shows, the unknown and the end token too: this is what the model gets.
        return str(tokenizer.decode(whole[:count], clean_up_tokenization_spaces=False))

    if ids == whole:
        return SeenText(tuple(ids), len(whole), decode(len(whole)), "", "")
    start = _common(ids, whole)
    end = min(_common(ids[::-1], whole[::-1]), len(ids) - start)
    # From the start each time: a piece decoded alone would lose the space before its first word.
    before, until, everything = decode(start), decode(len(whole) - end), decode(len(whole))
    return SeenText(
        ids=tuple(ids),
        whole_tokens=len(whole),
        before=before,
        cut=until[len(before) :],
        after=everything[len(until) :],
    )


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """How many items are the same from the start on."""
    return sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False))
    )
