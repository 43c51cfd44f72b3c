"""What the visitor at the other end may see, change and use: asked in one place by all tabs."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path

from qa_lora import runs
from qa_lora.admission import admit
from qa_lora.config import TrainConfig
from qa_lora.errors import RunError, shorten
from qa_lora.imported import FOLDER, SOURCE, list_imported
from qa_lora.owners import OWNER, disk_bytes, owner_of
from qa_lora.serving import ServerSettings
from qa_lora.trash import in_trash
from qa_lora.ui.visitors import current_visitor

__all__ = ["Access"]

NOT_YOURS = "The run {} is not yours: you can look at it, but not change it."
MOST_KEPT = 20_000
READ_ONLY = "This is a read-only demo: nothing can be started or changed here."


class Access:
    """The rules of one server, applied to whoever caused what is being done now.

    Where the server is not public, everything belongs to everyone.

    Args:
        settings: How the app is served.
        runs_dir: Where runs lie.
    """

    def __init__(self, settings: ServerSettings, runs_dir: Path) -> None:
        self.settings = settings
        self.runs_dir = runs_dir
        self._owners: dict[Path, tuple[object, str | None]] = {}
        """Owners by folder, each with what its file was like: a name may be used again."""

    def sees(self, folder: Path) -> bool:
        """Whether the visitor may look at a run, or at anything else with an owner."""
        return self._all_is_seen or self.seen_owners()(self._owner(folder))

    def seen_owners(self) -> Callable[[str | None], bool]:
        """Whose things the visitor may look at: asked once, it tells of many."""
        if self._all_is_seen:
            return lambda owner: True
        word = self._word()
        return lambda owner: owner is None or owner == word

    @property
    def _all_is_seen(self) -> bool:
        return not self.settings.public or self.settings.visibility == "all"

    def owns(self, folder: Path) -> bool:
        """Whether the visitor may change it; what is the server's own is changed by nobody."""
        if self.settings.read_only:
            return False
        if not self.settings.public:
            return True
        owner = self._owner(folder)
        return owner is not None and owner == self._word()

    def check_owns(self, folder: Path) -> None:
        """Refuse a change.

        Raises:
            RunError: If the folder is not the visitor's.
        """
        if self.settings.read_only:
            raise RunError(READ_ONLY, self._duplicate())
        if not self.owns(folder):
            raise RunError(NOT_YOURS.format(folder.name), "Start one of your own.")

    def new_owner(self) -> str:
        """The word to write into something that the visitor makes; empty where nobody owns.

        Raises:
            RunError: If the visitor may make nothing here.
        """
        if self.settings.read_only:
            raise RunError(READ_ONLY, self._duplicate())
        if not self.settings.public:
            return ""
        word = self._word()
        if word is None and self.settings.login == "huggingface":
            raise RunError("Nobody is signed in.", "Sign in with Hugging Face, on top of the page.")
        if word is None:
            raise RunError(
                "Your browser keeps no cookie of this page, so nothing here could be yours.",
                "Allow cookies for this site, or open it in a tab of its own.",
            )
        return word

    def voter(self) -> str:
        """What tells the visitor's votes from those of others; empty where all votes are shown.

        Raises:
            RunError: If the visitor may not vote.
        """
        return self.new_owner()[:16]

    def sees_vote(self, visitor: str) -> bool:
        """Whether a vote may be shown, with its question; it was cast by this `visitor`."""
        return not self.settings.public or visitor == (self._word() or "")[:16] != ""

    def uploads(self) -> Path:
        """Where the visitor's uploads are kept; a folder that is not there for who has none."""
        uploads = self.runs_dir / "uploads"
        return uploads / (self._word() or "nobody") if self.settings.public else uploads

    def uploads_for(self, upload: str) -> Path:
        """The same, to keep one more file there.

        Raises:
            RunError: If the visitor may keep nothing, or has no disk left for it.
        """
        self.new_owner()
        try:
            size = Path(upload).stat().st_size
        except OSError:
            size = 0  # whoever reads it says that it is gone
        self._check_disk(size)
        return self.uploads()

    def room(self) -> int:
        """Bytes of disk that the visitor may still take; 0 for no limit.

        Raises:
            RunError: If none are left.
        """
        most = self.settings.max_disk_mb * 1_000_000
        if not most:
            return 0
        self._check_disk(1)
        return most - self._used()

    def check_name(self, name: str) -> None:
        """Refuse a name, of an adapter or the like, that leads to what the visitor may not see.

        Raises:
            RunError: If it does.
        """
        if not self.settings.public:
            return
        try:
            places = [self.runs_dir / name, Path(name).expanduser()]
            hidden = not name.isprintable() or any(
                place.exists() and not self._sees_below(place) for place in places
            )
        except (OSError, RuntimeError, ValueError):  # too long for a path, no such user
            hidden = True
        if hidden:
            raise RunError(f"There is no run or adapter {shorten(name)} here.")

    def _sees_below(self, folder: Path) -> bool:
        """Whether the visitor may use a folder that is, or lies in, what has an owner.

        Runs lie in the runs' folder itself, imported adapters one below; the rest of what is there,
        such as the trash and the uploads, is looked at by nobody in this way.
        """
        where, root = folder.resolve(), self.runs_dir.resolve()
        if root not in where.parents:
            return False
        parts = where.relative_to(root).parts
        depth = 2 if parts[:1] == (FOLDER,) else 1
        owned = self.runs_dir.joinpath(*parts[:depth])
        is_known = (owned / SOURCE if depth == 2 else owned / runs.CONFIG).is_file()
        return len(parts) >= depth and is_known and self.sees(owned)

    def admit(self, config: TrainConfig, is_run: Callable[[str], bool]) -> TrainConfig:
        """A training as this server would do it for this visitor.

        Raises:
            QALoRAError: If the server does not do it.
        """
        return admit(self.settings, config, self.uploads(), self.runs_dir, is_run)

    def check_room(self, *, scoring: Collection[str] = (), new: bool = True) -> None:
        """Refuse one more training or scoring of a visitor who has many, or no disk left.

        Args:
            scoring: The ids of the runs that are being scored.
            new: Whether it would be one more run.

        Raises:
            RunError: If there is no room.
        """
        settings = self.settings
        if not (settings.max_runs or settings.max_waiting or settings.max_disk_mb):
            return
        if new:
            self.check_count()
        own = self._own_runs()
        busy = [run for run in own if run.id in scoring or run.alive()]
        if settings.max_waiting and len(busy) >= settings.max_waiting:
            raise RunError(
                f"{len(busy):,} of your runs are at work or waiting, as many as this server takes.",
                "Wait for them, or cancel one.",
            )
        self._check_disk(0)

    def check_count(self) -> None:
        """Refuse one more run of a visitor who has many, be it new or taken out of the trash.

        Raises:
            RunError: If there are as many as the server keeps.
        """
        most = self.settings.max_runs
        if most and (have := len(self._own_runs())) >= most:
            raise RunError(
                f"You have {have:,} runs here, and this server keeps {most:,}.",
                "Delete one first.",
            )

    def disk_of(self, owner: str) -> int:
        """Bytes that the runs, adapters and uploads of an owner take."""
        own = [folder for folder in self._folders() if self._owner(folder) == owner]
        return sum(map(disk_bytes, [*own, self.runs_dir / "uploads" / owner]))

    def _folders(self) -> list[Path]:
        """All that has an owner."""
        return [
            *(run.path for run in runs.list_runs(self.runs_dir)),
            *(run.path for run in in_trash(self.runs_dir)),
            *(each.folder for each in list_imported(self.runs_dir)),
        ]

    def _used(self) -> int:
        """Bytes that the visitor's runs, adapters and uploads take."""
        own = [path for path in self._folders() if not self.settings.public or self.owns(path)]
        return sum(map(disk_bytes, [*own, self.uploads()]))

    def _check_disk(self, more: int) -> None:
        most = self.settings.max_disk_mb * 1_000_000
        if not most:
            return
        used = self._used()
        if used + more > most:
            raise RunError(
                f"Your runs, adapters and uploads take {used / 1e6:,.0f} MB of the "
                f"{self.settings.max_disk_mb:,} MB that a visitor has here.",
                "Delete a run first, also from the trash.",
            )

    def _own_runs(self) -> list[runs.Run]:
        found = runs.list_runs(self.runs_dir)
        return [run for run in found if not self.settings.public or self.owns(run.path)]

    def _owner(self, folder: Path) -> str | None:
        try:
            stat = os.stat(f"{folder}{os.sep}{OWNER}")  # noqa: PTH116 - often, for each of many runs
        except OSError:
            state: object = None
        else:
            state = stat.st_ino, stat.st_mtime_ns
        known = self._owners.get(folder)
        if known is None or known[0] != state:
            if len(self._owners) >= MOST_KEPT:
                self._owners.clear()
            known = self._owners[folder] = state, owner_of(folder)
        return known[1]

    def _word(self) -> str | None:
        visitor = current_visitor(self.settings.login)
        return visitor.word if visitor is not None else None

    def _duplicate(self) -> str:
        return "Duplicate the Space to train your own." if self.settings.space_id else ""
