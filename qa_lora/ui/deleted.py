"""The trash as a page's visitor has it: their own deleted runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qa_lora import trash
from qa_lora.errors import RunError
from qa_lora.runs import Run

if TYPE_CHECKING:
    from qa_lora.ui.engine import Engine

__all__ = ["Deleted"]


class Deleted:
    """What can be deleted, taken back and deleted for good.

    Args:
        engine: What the server holds.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def runs(self) -> list[Run]:
        """The deleted runs that the visitor may take back, newest first."""
        found = trash.in_trash(self._engine.runs_dir)
        return [run for run in found if self._engine.access.owns(run.path)]

    def delete(self, run_id: str | None) -> None:
        """Move a run to the trash; who has its adapter in memory may go on with that.

        Raises:
            RunError: If the run is not the visitor's, is at work, waits, or is being scored.
        """
        run = self._engine.own(run_id)
        for job in list(self._engine.jobs.values()):
            if job.busy and run.id in (job.run_id, *job.adapters):
                raise RunError(
                    f"The run {run.id} is being scored, so it is not deleted.",
                    "Wait for the scoring, or cancel it.",
                )
        trash.delete(run)
        self._engine.forget_list()

    def restore(self, name: str) -> Run:
        """Take a run out of the trash.

        Raises:
            RunError: If it is not there, cannot be moved, or would be one run too many.
        """
        if name not in [run.id for run in self.runs()]:
            raise RunError(f"There is no run {name} in the trash.")
        self._engine.access.check_count()
        run = trash.restore(name, self._engine.runs_dir)
        self._engine.forget_list()
        return run

    def empty(self) -> int:
        """Delete the visitor's runs in the trash for good; how many those were.

        Raises:
            RunError: If some of them cannot be deleted.
        """
        return sum(trash.empty(self._engine.runs_dir, only=run) for run in self.runs())
