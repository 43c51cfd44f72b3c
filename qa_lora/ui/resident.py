"""The one base model that the server keeps in memory, and the adapters on it.

The base is what takes long to load; it stays as long as the runs that are asked for stand on it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from qa_lora import runs
from qa_lora.base_names import same_base, same_state
from qa_lora.errors import RunError
from qa_lora.fetching import base_commit

if TYPE_CHECKING:
    from qa_lora.answering import Answerer

__all__ = ["Resident"]

MOST_ADAPTERS = 8
"""Further adapters that are kept for visitors who may come back to them."""

State: TypeAlias = tuple[str, float]
"""An adapter's name, and when it was written."""


class Resident:
    """What is in memory; calls wait for each other.

    Args:
        runs_dir: Where runs lie.
    """

    def __init__(self, runs_dir: Path) -> None:
        self._runs_dir = runs_dir
        self._held: tuple[State, Answerer] | None = None
        self._others: dict[str, State] = {}
        """Further adapters by name, the one used last at the end."""
        self._lock = threading.Lock()

    def holds(self, run: runs.Run) -> bool:
        """Whether this run's adapter, as it is now, is in memory as the tuned system."""
        held = self._held
        return held is not None and held[0] == _state(run)

    def answerer(
        self, run: runs.Run, others: Mapping[str, runs.Run | str], *, replace: bool = True
    ) -> Answerer:
        """The run's answerer, with further adapters.

        Args:
            run: The run whose adapter is "tuned".
            others: Runs, or folders and Hub ids of adapters, by the names of their systems.
            replace: Whether adapters may go: those that nobody asked for lately, and those that
                were saved again since, for what is newest. False while the run is being scored,
                which is by one state of every adapter.

        Raises:
            QALoRAError: If an adapter cannot be loaded, or is of another base than the run's.
        """
        from qa_lora.answering import load

        with self._lock:
            state, before = _state(run), None
            if self._held is None or not (
                self._held[0] == state or (self._held[0][0] == run.id and not replace)
            ):
                before = self._on_base_of(run)
                if before is None:
                    self._held = None  # two bases are never in memory
                answerer = load(run) if before is None else before.sharing(run)
                self._held = state, answerer
                self._others.clear()
            else:
                answerer = self._held[1]
            try:
                for name, other in others.items():
                    self._put_on(answerer, name, other, replace)
            finally:
                if before is not None:
                    before.close()  # only now, so that what both have is not loaded again
            spare = [name for name in self._others if name not in others]
            if replace:
                for name in spare[: max(0, len(self._others) - MOST_ADAPTERS)]:
                    self._take_off(answerer, name)
            return answerer

    def _on_base_of(self, run: runs.Run) -> Answerer | None:
        """What is in memory, if the run's adapter can be put on it as it is."""
        held = self._held[1] if self._held is not None else None
        if held is None or held.run is None:
            return None
        config = run.config()
        if not same_base(held.base, config.model):
            return None
        if not same_state(held.commit, base_commit(run.path)):
            return None
        try:
            precision = held.run.config().precision
        except RunError:  # that run was deleted, or damaged, since
            return None
        return held if precision == config.precision else None

    def _put_on(self, answerer: Answerer, name: str, other: runs.Run | str, replace: bool) -> None:
        """Load a further adapter, or a newer state of it."""
        state = _state(other)
        known = self._others.get(name)
        if known == state or (known is not None and not replace):
            self._others[name] = self._others.pop(name)
            return
        if known is not None:
            self._take_off(answerer, name)
        answerer.add(other, runs_dir=self._runs_dir, name=name)
        self._others[name] = state

    def _take_off(self, answerer: Answerer, name: str) -> None:
        answerer.remove(name)
        del self._others[name]


def _state(adapter: runs.Run | str) -> State:
    name, folder = (
        (adapter, Path(adapter)) if isinstance(adapter, str) else (adapter.id, adapter.adapter)
    )
    try:
        return name, (folder / "adapter_config.json").stat().st_mtime
    except OSError:
        return name, 0.0
