"""What a training would need, in a line above the Start button."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

from qa_lora.config import DATA_SETTINGS, TrainConfig
from qa_lora.errors import ConfigError, DataError, QALoRAError
from qa_lora.estimate import (
    Estimate,
    RowLengths,
    count_rows,
    estimate,
    model_shape,
    past_runs,
    this_room,
)
from qa_lora.ui.data_card import read_data, state_of
from qa_lora.ui.words import note

__all__ = ["WAITING", "needs_html"]

WAITING = '<p class="needs subdued" role="status">Estimating memory and time…</p>'

_OF_LENGTHS = (*DATA_SETTINGS, "validation_rows")
"""Settings that the rows and their lengths follow from."""


def needs_html(
    settings: Mapping[str, Any],
    admit: Callable[[TrainConfig], TrainConfig],
    runs_dir: Path,
    warm_up: Callable[[], None],
) -> str:
    """Memory and time of a training, and a warning where it does not fit.

    Args:
        settings: The form's values.
        admit: Gives the training as the server would do it, or refuses it.
        runs_dir: Where past runs lie, which say how fast this device is.
        warm_up: Imports what knows the device and the tokenizer; waits for it.
    """
    try:
        config = admit(TrainConfig.build(**settings))
        shape = model_shape(config.model)
        warm_up()
        lengths = _lengths(_for_lengths(config), state_of(config))
        room = this_room(config.precision)
        found = estimate(config, shape, room, lengths, past_runs(runs_dir))
    except (ConfigError, DataError):  # said elsewhere
        return _line("Memory and time are estimated once settings and data are right.")
    except QALoRAError as error:
        return _line(str(error))
    return _shown(found, lengths)


def _for_lengths(config: TrainConfig) -> TrainConfig:
    return TrainConfig().model_copy(update={name: getattr(config, name) for name in _OF_LENGTHS})


@lru_cache(maxsize=4)
def _lengths(config: TrainConfig, state: tuple[int, int]) -> RowLengths:
    """Counted again only when the file or what the lengths follow from has changed."""
    from qa_lora.data.rows import with_weights

    return count_rows(config, with_weights(*read_data(config), config.seed))


def _shown(found: Estimate, lengths: RowLengths) -> str:
    parts = [f"{part.name}: {_size(part.bytes)} ({part.why})" for part in found.parts]
    counted = "" if lengths.exact else " Lengths are guessed until the tokenizer is here."
    where = f"{found.free_bytes / 1e9:.1f} GB are free on {found.device}."
    memory = "\n".join([*parts, where + counted])
    low, high = found.tokens_per_second
    time = (
        f"{found.steps:,} steps, an epoch takes {found.epoch_time}; {low:,.0f} to {high:,.0f} "
        f"tokens/s, by {found.speed_from}"
    )
    line = (
        f'<p class="needs" role="status">needs <b title="{escape(memory)}">{found.memory}</b>, '
        f'about <b title="{escape(time)}">{found.time}</b></p>'
    )
    return line if found.fits == "yes" else line + note(found.sentence, "warn")


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def _line(text: str) -> str:
    return f'<p class="needs subdued" role="status">{escape(text)}</p>'
