"""Deleted runs lie in ``<runs folder>/.trash`` until somebody empties it. Loads no torch."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from qa_lora import turns
from qa_lora.errors import RunError
from qa_lora.runs import Run

__all__ = ["TRASH", "delete", "empty", "in_trash", "restore"]

TRASH = ".trash"
MOST_OF_A_NAME = 1_000
GOING = ".going"
"""Ends the name of what nobody takes back any more."""


def in_trash(runs_dir: str | Path) -> list[Run]:
    """The deleted runs of a folder, by name, newest first; none that is just being emptied."""
    if (Path(runs_dir) / TRASH).is_symlink():
        return []  # what lies there was not put there by us
    try:
        with os.scandir(Path(runs_dir) / TRASH) as entries:
            names = sorted((each.name for each in entries if each.name[0] != "."), reverse=True)
    except OSError:
        return []
    return [Run(Path(runs_dir) / TRASH / name) for name in names]


def delete(run: Run) -> Run:
    """Move a run to the trash, in one step.

    Returns:
        The run as it lies there. Its name has a number behind it if the trash holds that name
        already.

    Raises:
        RunError: If a process works on it or it waits for its turn, or it cannot be moved.
    """
    runs_dir = run.path.parent
    with turns.look(runs_dir):  # nobody starts it meanwhile
        if run.alive():
            what = "waits for its turn" if turns.has_ticket(run.path) else "is being worked on"
            raise RunError(f"The run {run.id} {what}, so it is not deleted.", "Stop it first.")
        trash = runs_dir / TRASH
        try:
            if trash.is_symlink():
                raise RunError(f"The trash {trash} is a link to another place.", "Remove the link.")
            trash.mkdir(exist_ok=True)
            return Run(run.path.rename(_free(trash, run.id)))
        except FileNotFoundError:
            raise RunError(f"There is no run {run.id} any more.") from None
        except OSError as error:
            raise RunError(
                f"The run {run.id} cannot be moved to the trash: {error.strerror or error}."
            ) from None


def restore(name: str, runs_dir: str | Path) -> Run:
    """Take a run out of the trash.

    Args:
        name: What it is called there.
        runs_dir: The folder of the runs.

    Raises:
        RunError: If the trash holds no such run, there is a run of this name, or it cannot be
            moved.
    """
    runs_dir = Path(runs_dir)
    found = next((run for run in in_trash(runs_dir) if run.id == name), None)
    if found is None:
        held = in_trash(runs_dir)
        hint = f"The newest is {held[0].id}." if held else "The trash is empty."
        raise RunError(f"There is no run {name} in the trash of {runs_dir}.", hint)
    target = runs_dir / found.id
    with turns.look(runs_dir):
        if os.path.lexists(target):
            raise RunError(
                f"The run {name} cannot be restored: there is one of this name.",
                "Delete that one first.",
            )
        try:
            return Run(found.path.rename(target))
        except OSError as error:
            raise RunError(
                f"The run {name} cannot be restored: {error.strerror or error}."
            ) from None


def empty(runs_dir: str | Path, only: Run | None = None) -> int:
    """Delete what lies in the trash for good.

    Args:
        runs_dir: The folder of the runs.
        only: One run of the trash; all if None.

    Returns:
        How many runs are gone.

    Raises:
        RunError: If some of it cannot be deleted; the rest is gone.
    """
    gone, left = 0, ""
    runs_dir = Path(runs_dir)
    for run in in_trash(runs_dir):
        if only is not None and run.id != only.id:
            continue
        try:
            with turns.look(runs_dir):  # half of a run must not be restored
                run.path.rename(run.path.with_name(f".{run.id}{GOING}"))
            gone += 1
        except FileNotFoundError:
            pass  # another one empties it, too, or has taken it back
        except OSError as error:
            left = f"{run.id} cannot be deleted from the trash: {error.strerror or error}."
    # Those of an earlier call that was cut short, too.
    trash = runs_dir / TRASH
    for path in [] if trash.is_symlink() else trash.glob(f".*{GOING}"):
        try:
            # A link is taken away, never what it leads to; rmtree follows none inside.
            if path.is_symlink() or not path.is_dir():
                path.unlink()
            else:
                shutil.rmtree(path)
        except FileNotFoundError:
            pass  # as above
        except OSError as error:
            name = path.name[1:].removesuffix(GOING)
            left = f"{name} cannot be deleted from the trash: {error.strerror or error}."
            with suppress(OSError):  # what is left of it is seen, and deleted the next time
                path.rename(_free(path.parent, name))
            gone -= 1
    if left:
        raise RunError(left, f"{gone:,} other runs are gone." if gone else "")
    return gone


def _free(trash: Path, name: str) -> Path:
    """A name that is not taken in the trash."""
    for number in range(1, MOST_OF_A_NAME):
        path = trash / (name if number == 1 else f"{name}-{number}")
        if not os.path.lexists(path):
            return path
    raise RunError(f"The trash {trash} holds very many runs named {name}.", "Empty it first.")
