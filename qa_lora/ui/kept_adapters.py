"""Adapters from elsewhere as a page's visitor has them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qa_lora.base_names import same_base, same_state
from qa_lora.errors import RunError, quoted
from qa_lora.fetching import base_commit
from qa_lora.imported import Imported, imported_folder, list_imported, remove_imported
from qa_lora.importing import import_adapter

if TYPE_CHECKING:
    from qa_lora import runs
    from qa_lora.ui.engine import Engine

__all__ = ["KeptAdapters"]


class KeptAdapters:
    """What was brought in, what fits a run, and bringing in more.

    Args:
        engine: What the server holds.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._access = engine.access

    def listed(self) -> list[Imported]:
        """Those that the visitor may use, by name."""
        found = list_imported(self._engine.runs_dir)
        return [each for each in found if self._access.sees(each.folder)]

    def removable(self) -> list[str]:
        """The names of those that the visitor may remove."""
        return [each.name for each in self.listed() if self._access.owns(each.folder)]

    def fitting(self, run: runs.Run) -> dict[str, str]:
        """What can answer beside a run: other runs of its base, then adapters from elsewhere.

        Returns:
            Labels for the page, by name.

        Raises:
            QALoRAError: If the settings of the run itself cannot be read.
        """
        model, commit = run.config().model, base_commit(run.path)
        return {
            **self._engine.other_runs(run),
            **{
                each.name: f"{each.name} (imported)"
                for each in self.listed()
                if same_base(each.base, model) and same_state(each.base_commit, commit)
            },
        }

    def folder(self, name: str) -> Path | None:
        """Where the adapter of a run or an imported one lies; None for any other name."""
        run = self._engine.find(name)
        if run is not None:
            return run.adapter
        folder = imported_folder(name, self._engine.runs_dir)
        return folder if folder is not None and self._access.sees(folder) else None

    def bring(self, source: str | Path, name: str, base: str) -> Imported:
        """Import one for the visitor.

        Args:
            source: What they typed, or the Path of what they uploaded.
            name: What it is to be called; made from the source if empty.
            base: Its base model, where its settings name another place for it.

        Raises:
            QALoRAError: If it cannot be used or kept, or the visitor may keep nothing.
        """
        owner, room = self._access.new_owner(), self._access.room()
        self._engine.warm_up()
        return import_adapter(
            source,
            self._engine.runs_dir,
            name=name,
            base=base,
            folders_allowed=not self._engine.serving.public,
            most_bytes=room,
            owner=owner,
        )

    def remove(self, name: str) -> None:
        """Delete one.

        Raises:
            RunError: If the visitor has none of that name.
        """
        if name not in self.removable():
            raise RunError(f"You have no imported adapter named {quoted(name)} to remove.")
        remove_imported(name, self._engine.runs_dir)
