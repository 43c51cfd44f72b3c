"""How long the rows of a training are, in tokens; loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from qa_lora.config import BATCH_TOKENS, TrainConfig
from qa_lora.data.example import QAExample
from qa_lora.data.split import DataSplit
from qa_lora.data.store import read_many
from qa_lora.estimate.shapes import has_tokenizer
from qa_lora.prompts import PromptTemplate

__all__ = [
    "RowLengths",
    "count_rows",
    "largest_micro_batch",
    "row_lengths",
    "standing_for_all",
]

SAMPLE = 20_000
"""The tokens of about so many rows are counted, evenly spread; they stand for all."""


@dataclass(frozen=True)
class RowLengths:
    """Source and target tokens of the rows to train on, cut at the limits.

    A prompt that loses whole turns of a chat may be shorter than the limit it is counted with.
    """

    train: tuple[tuple[int, int], ...]
    validation: tuple[tuple[int, int], ...]
    test_rows: int
    exact: bool
    """Whether the model's tokenizer counted them; else a token is taken as four letters."""

    @property
    def tokens(self) -> int:
        """Of all rows to train on."""
        return sum(s + t for s, t in self.train)


def row_lengths(
    split: DataSplit,
    config: TrainConfig,
    count_tokens: Callable[[list[str]], list[int]] | None = None,
) -> RowLengths:
    """Lengths of the rows of a split.

    Args:
        split: The rows.
        config: The settings.
        count_tokens: Gives each text's length in the model's tokens, the end token included; where
            it is None, a token is taken as four letters.
    """
    template = PromptTemplate(config.prompt, config.context_prompt, config.history_prompt)
    count = count_tokens or (lambda texts: [len(text) // 4 + 2 for text in texts])

    def of(rows: Sequence[QAExample], more: int = 0) -> tuple[tuple[int, int], ...]:
        some = read_many(rows, range(0, len(rows), max(1, len(rows) // SAMPLE)))
        prompts = count([template.render(e.question, e.context, e.history) for e in some])
        answers = count([e.answer for e in some])
        return standing_for_all(list(zip(prompts, answers, strict=True)), len(rows) + more, config)

    return RowLengths(
        of(split.train, split.to_come),
        of(split.validation[: config.validation_rows]),
        len(split.test),
        count_tokens is not None,
    )


def standing_for_all(
    counted: Sequence[tuple[int, int]], rows: int, config: TrainConfig
) -> tuple[tuple[int, int], ...]:
    """The lengths of all rows of a side, of which some were counted.

    Args:
        counted: Source and target tokens of evenly spread rows, nothing cut.
        rows: How many rows there are.
        config: Says what becomes of those that are too long.
    """
    sources, targets = config.max_source_tokens, config.max_target_tokens
    if config.overlong == "drop":
        fitting = [(s, t) for s, t in counted if s <= sources and t <= targets]
        return tuple(islice(cycle(fitting), round(rows * len(fitting) / max(1, len(counted)))))
    return tuple(islice(cycle((min(s, sources), min(t, targets)) for s, t in counted), rows))


def count_rows(config: TrainConfig, split: DataSplit) -> RowLengths:
    """Lengths of the rows of a split; loads torch if the model's tokenizer lies here.

    Args:
        config: The settings.
        split: The rows that they name.

    Raises:
        ModelError: If the tokenizer cannot be loaded.
    """
    if not has_tokenizer(config.model):
        return row_lengths(split, config)
    from qa_lora.batching import token_counter

    count = token_counter(
        config.model,
        whitespace=config.whitespace_tokens,
        answers=(example.answer for example in split.train),
    )
    return row_lengths(split, config, count)


def largest_micro_batch(
    config: TrainConfig, kind: str, lengths: RowLengths
) -> list[tuple[int, int]]:
    """The rows that are most likely to fill the memory: the longest, as many as fit a micro-batch.

    Batches are of rows of like length, so one of them holds about the longest rows there are.
    """
    limit = config.batch_tokens or BATCH_TOKENS[kind]
    found: list[tuple[int, int]] = []
    tokens = 0
    # Of two rows as long, the one with the longer answer keeps more.
    for row in sorted(lengths.train, key=lambda row: (sum(row), row[1]), reverse=True):
        if found and (len(found) == config.batch_size or tokens + sum(row) > limit):
            break
        found.append(row)
        tokens += sum(row)
    return found or [(config.max_source_tokens, config.max_target_tokens)]
