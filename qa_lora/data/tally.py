"""One pass over the examples of a split, in bounded memory: what the data report counts."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from qa_lora.data.characters import CharacterCheck, LostCharacter
from qa_lora.data.example import QAExample, question_key
from qa_lora.data.languages import LONG_ENOUGH, LONGEST
from qa_lora.data.split import DataSplit
from qa_lora.data.store import read_many
from qa_lora.prompts import PromptTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Tally", "sides_of", "spread", "tally"]

CHUNK = 10_000
"""Texts whose tokens are counted at once."""
SAMPLE_CHARACTERS = 20_000_000
"""Tokens and characters are counted in a sample of about this size; a tokenizer on one slow core
does a few hundred thousand characters a second."""
LANGUAGE_TEXTS = 2_000
EXAMPLES = 3
# These scripts put no spaces between words.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff]")

Counts = npt.NDArray[np.int32]


@dataclass
class Tally:
    """What one pass found. Questions and answers are kept as hashes of 64 bits."""

    sizes: dict[str, int] = field(default_factory=dict)
    """Side -> examples."""
    keys: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    """Side -> its different questions, sorted."""
    questions: int = 0
    duplicates: int = 0
    several_answers: int = 0
    short_answers: int = 0
    short_examples: list[str] = field(default_factory=list)
    sampled: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """(S,) numbers of the examples whose tokens and characters were counted, over all sides."""
    prompt_tokens: Counts = field(default_factory=lambda: np.empty(0, np.int32))
    """(S,) uncut lengths; empty where nothing counts tokens."""
    answer_tokens: Counts = field(default_factory=lambda: np.empty(0, np.int32))
    lost_characters: tuple[LostCharacter, ...] = ()
    harmed: int = 0
    """Sampled examples that hold a character whose loss changes what they say."""
    long_texts: list[str] = field(default_factory=list)
    """Texts to tell the language from."""

    @property
    def examples(self) -> int:
        return sum(self.sizes.values())

    def overlap(self) -> tuple[int, int]:
        """Questions that stand on more than one side, and the pairs that these make."""
        _, sides = np.unique(np.concatenate(list(self.keys.values())), return_counts=True)
        return int((sides > 1).sum()), int((sides * (sides - 1) // 2).sum())


def sides_of(split: DataSplit) -> dict[str, Sequence[QAExample]]:
    """The three sides by name."""
    return {"train": split.train, "validation": split.validation, "test": split.test}


def tally(
    split: DataSplit, template: PromptTemplate, tokenizer: PreTrainedTokenizerBase | None
) -> Tally:
    """Go through a split once.

    Args:
        split: The examples.
        template: Makes the prompts whose tokens are counted.
        tokenizer: Counts tokens and is tried on each character; None leaves both out.
    """
    found = Tally()
    sides = sides_of(split)
    total = sum(len(rows) for rows in sides.values())
    found.sampled = _sample(sides, total)
    wanted = iter(found.sampled.tolist())
    next_wanted = next(wanted, -1)
    keys, pairs, whole = array("q"), array("q"), array("q")
    counter = None if tokenizer is None else _Counter(template, tokenizer)
    every = max(1, total // LANGUAGE_TEXTS)
    number = 0
    for side, rows in sides.items():
        first = len(keys)
        for example in rows:
            key = question_key(example.question, example.context, example.history)
            keys.append(hash(key))
            pairs.append(hash((key, example.answer)))
            whole.append(hash((example.question, example.context, example.history, example.answer)))
            if is_short(example.answer):
                found.short_answers += 1
                if len(found.short_examples) < EXAMPLES and (
                    example.answer not in found.short_examples
                ):
                    found.short_examples.append(example.answer)
            if counter is not None and number == next_wanted:
                counter.add(example)
                next_wanted = next(wanted, -1)
            if number % every == 0 and len(found.long_texts) < LANGUAGE_TEXTS:
                found.long_texts += _long_text(example)
            number += 1
        found.sizes[side] = len(rows)
        found.keys[side] = np.unique(np.array(keys[first:], np.int64))
    if counter is not None:
        found.prompt_tokens, found.answer_tokens = counter.finish()
        found.lost_characters = counter.characters.found()
        found.harmed = counter.characters.harmed_rows
    _, firsts = np.unique(np.array(pairs, np.int64), return_index=True)
    _, answers = np.unique(np.array(keys, np.int64)[firsts], return_counts=True)
    found.questions = len(answers)
    found.several_answers = int((answers > 1).sum())
    found.duplicates = total - len(np.unique(np.array(whole, np.int64)))
    return found


def is_short(answer: str) -> bool:
    """Whether an answer has fewer than 3 characters or, where words have spaces, than 2 words."""
    if len(answer) < 3:
        return True
    return len(answer.split(None, 1)) < 2 and not _UNSPACED.search(answer)


class _Counter:
    """Counts tokens and characters of examples, a chunk at a time."""

    def __init__(self, template: PromptTemplate, tokenizer: PreTrainedTokenizerBase) -> None:
        from qa_lora.batching import count_tokens  # loads torch

        self.characters = CharacterCheck(tokenizer)
        self._template = template
        self._lengths_of = lambda texts: np.array(count_tokens(tokenizer, texts), np.int32)
        self._texts: list[str] = []
        self._prompts: list[str] = []
        self._answers: list[str] = []
        self._lengths: list[tuple[Counts, Counts]] = []

    def add(self, example: QAExample) -> None:
        turns = [text for turn in example.history for text in turn]
        self._texts.append("".join((example.question, example.context, *turns, example.answer)))
        self._prompts.append(
            self._template.render(example.question, example.context, example.history)
        )
        self._answers.append(example.answer)
        if len(self._texts) == CHUNK:
            self._count()

    def _count(self) -> None:
        self._lengths.append((self._lengths_of(self._prompts), self._lengths_of(self._answers)))
        self.characters.add(self._texts)
        self._texts, self._prompts, self._answers = [], [], []

    def finish(self) -> tuple[Counts, Counts]:
        """(S,) prompts' and answers' lengths."""
        if self._texts:
            self._count()
        none = np.empty(0, np.int32)
        prompts = np.concatenate([none, *(prompts for prompts, _ in self._lengths)])
        return prompts, np.concatenate([none, *(answers for _, answers in self._lengths)])


def _sample(sides: dict[str, Sequence[QAExample]], total: int) -> npt.NDArray[np.int64]:
    """Numbers of the examples to count tokens in: all, or evenly spread ones."""
    measured = [_characters(example) for example in spread(sides, min(total, 1000))]
    mean = sum(measured) / max(1, len(measured))
    count = min(total, max(1000, int(SAMPLE_CHARACTERS / max(1.0, mean))))
    return np.arange(count, dtype=np.int64) * total // max(1, count)


def spread(sides: dict[str, Sequence[QAExample]], count: int) -> Iterator[QAExample]:
    """So many of the examples on all sides, evenly spread."""
    total = sum(len(rows) for rows in sides.values())
    numbers = np.arange(count, dtype=np.int64) * total // max(1, count)
    first = 0
    for rows in sides.values():
        own = numbers[(numbers >= first) & (numbers < first + len(rows))] - first
        for start in range(0, len(own), CHUNK):
            yield from read_many(rows, own[start : start + CHUNK].tolist())
        first += len(rows)


def _characters(example: QAExample) -> int:
    turns = sum(len(text) for turn in example.history for text in turn)
    return len(example.question) + len(example.context) + len(example.answer) + turns


def _long_text(example: QAExample) -> list[str]:
    """The answer, with the question where it is short alone; nothing if both are."""
    for text in (example.answer, f"{example.question} {example.answer}"):
        if len(text) >= LONG_ENOUGH:
            return [text[:LONGEST]]
    return []
