"""What is done to a model's scores before a token is chosen: penalties, and drawing by seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

__all__ = ["drawing", "penalties"]


def penalties(repetition_penalty: float) -> LogitsProcessorList:
    """What counts against tokens that an answer holds already (Keskar et al., 2019).

    The token that a decoder starts with is T5's padding; it is no part of the answer.
    """
    if repetition_penalty == 1.0:
        return LogitsProcessorList()
    ignored = 1  # ids before the answer
    return LogitsProcessorList([RepetitionPenaltyLogitsProcessor(repetition_penalty, ignored)])


def drawing(
    prompts: Sequence[Sequence[int]],
    device: torch.device,
    *,
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int,
) -> LogitsProcessorList:
    """Scores whose highest is a token drawn at random: the likeliest of them is the draw.

    Gumbel noise on log-probabilities makes their highest a fair draw (Gumbel, 1954; the "Gumbel-max
    trick"). Each row has random numbers of its own, by the seed and its prompt alone. So an answer
    does not depend on what else is in the batch, and base and tuned rows of one question draw with
    the same luck: where an adapter does nothing, they say the same.

    Args:
        prompts: Token ids of B prompts.
        device: Of the model.
        temperature: Scores are divided by it.
        top_k: Draw from so many likeliest tokens; from all if 0.
        top_p: Draw from the likeliest tokens with this much probability together.
        seed: Of the drawing.
    """
    steps: list[LogitsProcessor] = []
    if temperature != 1.0:
        steps.append(TemperatureLogitsWarper(temperature))
    if top_k:
        steps.append(TopKLogitsWarper(top_k))
    if top_p < 1.0:
        steps.append(TopPLogitsWarper(top_p))
    return LogitsProcessorList([*steps, _Noise(prompts, device, seed)])


class _Noise(LogitsProcessor):
    """Adds Gumbel noise, from one generator a row."""

    def __init__(self, prompts: Sequence[Sequence[int]], device: torch.device, seed: int) -> None:
        self._generators = []
        for ids in prompts:
            name = f"{seed}:{','.join(map(str, ids))}".encode()
            number = int.from_bytes(hashlib.sha256(name).digest()[:8], "little") >> 1
            self._generators.append(torch.Generator(device).manual_seed(number))

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores (B, V) of B rows."""
        noise = torch.empty_like(scores, dtype=torch.float32)
        for row, generator in zip(noise, self._generators, strict=True):
            row.exponential_(generator=generator)
        return scores.float() - noise.log()
