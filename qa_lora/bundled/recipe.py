"""How `pocket` is pre-trained: learning rates, phases, sizes. All numbers stand here."""

from dataclasses import dataclass

STEPS = 5000
DECAY_SHARE = 0.272
"""The last share of the steps, over which the learning rate falls to zero."""
WARM_UP_STEPS = 100
RATES = {"matrices": 3e-3, "queries": 6e-4, "positions": 5e-2, "others": 2e-3}
NEIGHBOUR_BIAS = 4.0
ENCODER_BIAS, DECODER_BIAS = (
    f"{part}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    for part in ("encoder", "decoder")
)
MEAN_DECAY = 0.99
WEIGHTS = {"terse": 1.0, "reading": 1.0, "free": 0.7}
SHOW_EVERY = 25
POOL = 16
"""Batches drawn at once and sorted by length, so that little is padding."""


@dataclass(frozen=True)
class Phase:
    """What is trained on from a step on.

    Attributes:
        start: the first step.
        rows: of each stream in a step.
        copying: share of mere copying in the stream of passages.
        sentences: shares of passages of one, two and three sentences in the rest of it.
        rate: share of the full learning rate. At the full rate facts are learnt quickly, but
            copying does not come about.
    """

    start: int
    rows: dict[str, int]
    copying: float
    sentences: tuple[float, float, float]
    rate: float


PHASES = (
    Phase(0, {"terse": 64, "reading": 64, "free": 32}, 0.5, (1.0, 0.0, 0.0), 1.0),
    Phase(800, {"terse": 64, "reading": 64, "free": 32}, 0.1, (0.4, 0.4, 0.2), 1.0),
    Phase(1750, {"terse": 64, "reading": 64, "free": 32}, 0.4, (0.85, 0.1, 0.05), 0.35),
    Phase(3500, {"terse": 32, "reading": 80, "free": 48}, 0.15, (0.6, 0.25, 0.15), 0.35),
    Phase(4500, {"terse": 80, "reading": 64, "free": 32}, 0.1, (0.6, 0.25, 0.15), 0.35),
)


def phase_at(step: int) -> Phase:
    """Gives the phase that a step falls into."""
    return [phase for phase in PHASES if phase.start <= step][-1]


def rate_at(step: int, steps: int) -> float:
    """Gives the share of the full learning rate: warm-up, two levels, straight down to zero."""
    falling = (steps - step) / (DECAY_SHARE * steps)
    return phase_at(step).rate * max(0.0, min(1.0, (step + 1) / WARM_UP_STEPS, falling))
