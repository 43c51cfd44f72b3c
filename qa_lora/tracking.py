"""Losses sent to TensorBoard or Trackio, through accelerate's trackers.

A tracker only watches: when it fails, that is said once, and the training goes on without it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from qa_lora import distributed
from qa_lora.config import TrainConfig
from qa_lora.errors import ConfigError, first_line
from qa_lora.events import Evaluated, Event, Step

__all__ = ["Tracker", "check_installed"]

PROJECT = "qa-lora"
"""What all runs stand under in Trackio."""


def check_installed(report_to: str) -> None:
    """Refuse a tracker whose package is missing.

    Raises:
        ConfigError: If it is, with the command that installs it.
    """
    if report_to != "none" and find_spec(report_to) is None:
        raise ConfigError(
            f"The setting report_to names {report_to}, which is not installed.",
            f"Install it: pip install {report_to}.",
        )


class Tracker:
    """Sends what a training tells to where ``report_to`` says, from the first process alone.

    Args:
        accelerator: It was made with ``log_with``.
        config: The settings, shown beside the losses.
        folder: The run's folder.
        step: The step the training goes on from; what was sent after it is taken back where the
            tracker can do that.
    """

    def __init__(
        self, accelerator: Accelerator, config: TrainConfig, folder: Path, step: int
    ) -> None:
        self._accelerator = accelerator
        self._working = config.report_to != "none" and distributed.is_first()
        if not self._working:
            return
        plain = {
            name: value if isinstance(value, (bool, int, float, str)) else str(value)
            for name, value in config.model_dump().items()
        }
        options: dict[str, dict[str, Any]] = {
            "tensorboard": {"purge_step": step + 1},
            "trackio": {"name": folder.name, "resume": "allow"},
        }
        project = PROJECT if config.report_to == "trackio" else "tensorboard"
        with self._alone():
            accelerator.init_trackers(project, config=plain, init_kwargs=options)

    def log(self, event: Event) -> None:
        """Send the figures of an event, if it has some."""
        if not self._working:
            return
        if isinstance(event, Step):
            values = {
                "train/loss": event.loss,
                "train/learning_rate": event.learning_rate,
                "train/grad_norm": event.grad_norm,
                "train/tokens_per_second": event.tokens_per_second,
                "train/epoch": event.epoch,
            }
        elif isinstance(event, Evaluated):
            values = {"validation/loss": event.loss, "validation/perplexity": event.perplexity}
            if event.rougeL is not None:
                values["validation/rougeL"] = event.rougeL
        else:
            return
        with self._alone():
            self._accelerator.log(values, step=event.step)

    def close(self) -> None:
        """Send what is left."""
        if self._working:
            with self._alone():
                for tracker in self._accelerator.trackers:
                    if tracker.name == "trackio":
                        # Accelerate's tracker would leave the run for trackio to finish at exit
                        # once more, with a line after this process's last one.
                        import_module("trackio").finish()
                    else:
                        tracker.finish()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """A block whose failure ends the tracker and nothing else; stdout stays the command's."""
        try:
            with redirect_stdout(sys.stderr):
                yield
        except Exception as error:  # each tracker raises what its network or disk raises
            self._working = False
            logging.getLogger(__name__).warning(
                "The tracker failed (%s: %s); the training goes on without it.",
                type(error).__name__,
                first_line(error),
            )
