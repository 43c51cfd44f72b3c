"""How likely a model finds the right answers: loss and perplexity, with the answers given to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from qa_lora.batching import IGNORED, EncodedExample, collate

if TYPE_CHECKING:
    from peft import PeftModel

__all__ = ["LossSum", "summed_loss"]

LABEL_TOKENS = 2_048
"""Label tokens, padding included, in one batch: of 32,128 logits each they take 260 MB."""
PROMPT_TOKENS = 8_192
"""Prompt tokens in one batch."""


@dataclass(frozen=True)
class LossSum:
    """Summed loss of some rows, so that parts can be added up."""

    nll: float = 0.0
    """Negative log-likelihood of all label tokens, in nats."""
    tokens: int = 0
    rows: int = 0

    def __add__(self, other: LossSum) -> LossSum:
        return LossSum(self.nll + other.nll, self.tokens + other.tokens, self.rows + other.rows)

    @staticmethod
    def total(parts: Iterable[LossSum]) -> LossSum:
        """All parts together."""
        return sum(parts, start=LossSum())

    def to_dict(self) -> dict[str, float | None]:
        """The mean over the tokens, and what it is a mean of.

        Loss and perplexity are None where the loss is no finite number: JSON has no other word for
        what a broken model gives.
        """
        loss = self.nll / self.tokens
        finite = math.isfinite(loss)
        return {
            "loss": loss if finite else None,
            "perplexity": math.exp(min(loss, 700.0)) if finite else None,
            "tokens": self.tokens,
            "rows": self.rows,
        }


@torch.no_grad()
def summed_loss(
    model: PeftModel,
    rows: Sequence[EncodedExample],
    pad_id: int,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> LossSum | None:
    """The loss of references, each token predicted from the right ones before it.

    As in training: a mean over real label tokens, the end token among them, padding counts nowhere.

    Args:
        model: An encoder-decoder and its adapter, on or off as it is to be judged.
        rows: Prompts and references.
        pad_id: The tokenizer's padding id.
        should_stop: Asked after every batch.

    Returns:
        The sums, or None if it was stopped.
    """
    device = next(model.parameters()).device
    prepare = model.get_base_model().prepare_decoder_input_ids_from_labels
    total = torch.zeros((), dtype=torch.float64, device=device)
    for part in _batches(rows):
        batch = collate(part, pad_id).to(device)
        logits = model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            decoder_input_ids=prepare(labels=batch.labels),
            use_cache=False,
        ).logits
        real = batch.labels != IGNORED
        total += F.cross_entropy(logits[real].float(), batch.labels[real], reduction="sum")
        if should_stop():
            return None
    return LossSum(float(total), sum(len(row.labels) for row in rows), len(rows))


def _batches(rows: Sequence[EncodedExample]) -> Iterator[list[EncodedExample]]:
    """Rows of like length together, within both limits; shortest first."""
    part: list[EncodedExample] = []
    source = 0
    for row in sorted(rows, key=lambda row: (len(row.labels), len(row.input_ids))):
        longest = max(source, len(row.input_ids))
        full = (len(part) + 1) * len(row.labels) > LABEL_TOKENS
        if part and (full or (len(part) + 1) * longest > PROMPT_TOKENS):
            yield part
            part, longest = [], len(row.input_ids)
        part.append(row)
        source = longest
    if part:
        yield part
