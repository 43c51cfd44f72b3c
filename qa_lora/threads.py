"""How torch's CPU threads wait for each other; to be settled before torch is imported."""

from __future__ import annotations

import os

__all__ = ["wait_politely"]


def wait_politely() -> None:
    """Let threads sleep, not spin, while they wait for each other, unless told otherwise.

    The app and its trainings call it; the command line, which has the machine more to itself, does
    not. Spinning is faster where nothing else runs. Where something does, such as the browser that
    shows the training, it burns the very time the waited-for thread needs: a step then takes
    several times as long. docs/architecture.md has the figures.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
