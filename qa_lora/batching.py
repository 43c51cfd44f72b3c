"""Text to token ids to length-bucketed, padded batches."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch

from qa_lora.data.example import QAExample
from qa_lora.data.store import CHUNK, read_many
from qa_lora.encoding import encode_texts, fit_prompts
from qa_lora.models import load_tokenizer
from qa_lora.prompts import PromptTemplate
from qa_lora.whitespace import choose_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "IGNORED",
    "Batch",
    "EncodedExample",
    "collate",
    "count_tokens",
    "encode",
    "epoch_batches",
    "fitting",
    "share",
    "token_counter",
]

T = TypeVar("T")

IGNORED = -100
"""Label id of padding: it counts neither in the loss nor in its token count."""

BUCKET_BATCHES = 50
"""Rows are sorted by length among this many batches: little padding, still well mixed."""


@dataclass(frozen=True)
class EncodedExample:
    """Token ids of one example, both ending in the end-of-sequence token."""

    input_ids: list[int]
    labels: list[int]

    @property
    def tokens(self) -> int:
        """Real source and target tokens."""
        return len(self.input_ids) + len(self.labels)


@dataclass(frozen=True)
class Batch:
    """Tensors of one forward pass."""

    input_ids: torch.Tensor
    """(B, S), padded with the pad id."""
    attention_mask: torch.Tensor
    """(B, S), 1 on real tokens."""
    labels: torch.Tensor
    """(B, T), IGNORED on padding."""

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device."""
        return Batch(
            self.input_ids.to(device), self.attention_mask.to(device), self.labels.to(device)
        )


def encode(
    examples: Sequence[QAExample],
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    *,
    max_source_tokens: int,
    max_target_tokens: int,
) -> list[EncodedExample]:
    """Tokenise prompts and answers; the answer goes into the labels only, never into the input.

    Args:
        examples: Rows.
        tokenizer: That of the base model.
        template: How a question becomes a prompt.
        max_source_tokens: Longer prompts are made to fit; see :func:`fit_prompts`.
        max_target_tokens: Longer answers are cut, their end token kept.
    """
    if not examples:
        return []
    prompts = fit_prompts(tokenizer, template, examples, max_source_tokens)
    targets = encode_texts(tokenizer, [e.answer for e in examples], max_target_tokens)
    return [EncodedExample(p.ids, t) for p, t in zip(prompts, targets, strict=True)]


def fitting(
    examples: Sequence[QAExample],
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    *,
    max_source_tokens: int,
    max_target_tokens: int,
) -> list[int]:
    """Indices of the examples of which nothing has to be cut.

    Args:
        examples: Rows; read in chunks.
        tokenizer: That of the training.
        template: How a question becomes a prompt.
        max_source_tokens: Longest prompt, its end token counted.
        max_target_tokens: Longest answer, its end token counted.
    """
    found: list[int] = []
    for start in range(0, len(examples), CHUNK):
        chunk = read_many(examples, range(start, min(start + CHUNK, len(examples))))
        prompts = [template.render(e.question, e.context, e.history) for e in chunk]
        lengths = zip(
            count_tokens(tokenizer, prompts),
            count_tokens(tokenizer, [e.answer for e in chunk]),
            strict=True,
        )
        found += [
            start + at
            for at, (source, target) in enumerate(lengths)
            if source <= max_source_tokens and target <= max_target_tokens
        ]
    return found


def collate(rows: Sequence[EncodedExample], pad_id: int) -> Batch:
    """Pad rows to the longest of them.

    Args:
        rows: B rows.
        pad_id: The tokenizer's padding id.
    """
    source = max(len(row.input_ids) for row in rows)
    target = max(len(row.labels) for row in rows)
    input_ids = torch.full((len(rows), source), pad_id)
    mask = torch.zeros((len(rows), source), dtype=torch.long)
    labels = torch.full((len(rows), target), IGNORED)
    for i, row in enumerate(rows):
        input_ids[i, : len(row.input_ids)] = torch.tensor(row.input_ids)
        mask[i, : len(row.input_ids)] = 1
        labels[i, : len(row.labels)] = torch.tensor(row.labels)
    return Batch(input_ids, mask, labels)


def epoch_batches(
    lengths: Sequence[int], batch_size: int, *, seed: int, epoch: int, window: int | None = None
) -> Iterator[list[int]]:
    """Indices of one epoch's effective batches, of rows of like length, in a seeded order.

    Every row comes once; the last batch may be smaller. The order depends on the arguments alone,
    so a resumed run goes on where it was.

    Args:
        lengths: Tokens of each row.
        batch_size: Rows of an effective batch.
        seed: The run's seed.
        epoch: Number of the epoch, from 0.
        window: Number of the part of the epoch, where its rows come in parts.
    """
    part = "" if window is None else f"/{window}"
    shuffler = random.Random(f"{seed}/{epoch}{part}")
    order = list(range(len(lengths)))
    shuffler.shuffle(order)
    batches: list[list[int]] = []
    width = batch_size * BUCKET_BATCHES
    for start in range(0, len(order), width):
        bucket = sorted(order[start : start + width], key=lambda i: lengths[i])
        batches += [bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size)]
    shuffler.shuffle(batches)
    yield from batches


def share(items: Sequence[T], processes: int, size: Callable[[T], int]) -> list[list[T]]:
    """Deal items to processes so that each has about as much to do as the others.

    Largest first, to and fro: each gets as many items as any other, or one less. One process gets
    them as they are.

    Args:
        items: What is to be done, such as the rows of an effective batch.
        processes: How many share it.
        size: How much work an item is, such as its tokens.
    """
    if processes == 1:
        return [list(items)]
    dealt: list[list[T]] = [[] for _ in range(processes)]
    for number, item in enumerate(sorted(items, key=size, reverse=True)):
        turn, place = divmod(number, processes)
        dealt[place if turn % 2 == 0 else processes - 1 - place].append(item)
    return dealt


def token_counter(
    model: str, *, whitespace: str = "off", answers: Iterable[str] = ()
) -> Callable[[list[str]], list[int]]:
    """A function that counts the tokens of texts as a training with a model does.

    Args:
        model: "pocket", a folder, or a Hub id.
        whitespace: The setting whitespace_tokens.
        answers: Of the training rows, for that setting.

    Raises:
        ModelError: If its tokenizer cannot be loaded.
    """
    tokenizer, _ = choose_tokenizer(load_tokenizer(model), whitespace, answers)
    return lambda texts: count_tokens(tokenizer, texts)


def count_tokens(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[int]:
    """Tokens of each text, the end token included, if nothing is cut.

    Args:
        tokenizer: That of the base model.
        texts: Prompts or answers.
    """
    return [len(row) for row in encode_texts(tokenizer, texts, None)]
