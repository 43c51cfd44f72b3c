"""Runs of one folder wait for each other: the order, and whose turn it is. Loads no torch.

A run that waits holds a ticket, a file in its folder with the time it was drawn. Everything else
is derived: in line are the tickets whose process lives, at work are the living processes without
one. So a crash of any of them holds up nobody, and nothing has to be cleaned up after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from qa_lora import processes
from qa_lora.errors import RunError

__all__ = [
    "at_work",
    "check_room",
    "draw_ticket",
    "has_ticket",
    "in_line",
    "leave",
    "look",
    "ordinal",
    "wait",
]

TICKET = "waiting"
MOST_WAITING = 20
"""Each of them is a process of some 50 MB."""
LOOK_SECONDS = 0.5


def has_ticket(folder: Path) -> bool:
    """Whether the run in a folder waits, if its process lives."""
    return (folder / TICKET).exists()


def in_line(runs_dir: Path) -> list[Path]:
    """Folders of the runs that wait, next first."""
    waiting = []
    for path in runs_dir.glob(f"*/{TICKET}"):
        try:
            drawn = int(path.read_text("utf-8"))
        except OSError:
            continue  # its turn has just come
        except ValueError:
            drawn = 0  # half written: it must not wait for ever
        if processes.alive(path.parent):
            waiting.append((drawn, path.parent))
    return [folder for _, folder in sorted(waiting)]


def at_work(runs_dir: Path) -> list[Path]:
    """Folders of the runs that somebody works on and that do not wait."""
    return [
        path.parent
        for path in runs_dir.glob(f"*/{processes.PROCESS}")
        if not has_ticket(path.parent) and processes.alive(path.parent)
    ]


def ordinal(place: int) -> str:
    """A place in line in words: 1st, 2nd, 3rd, 4th."""
    last = (
        "th" if place % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    )
    return f"{place}{last}"


def check_room(runs_dir: Path) -> None:
    """Refuse one more run in a long line.

    Raises:
        RunError: If very many wait already.
    """
    if len(in_line(runs_dir)) >= MOST_WAITING:
        raise RunError(f"{MOST_WAITING} runs wait already.", "Wait for them or cancel some first.")


def draw_ticket(folder: Path) -> bool:
    """Put a run last in line if another one works or waits; call it while holding :func:`look`.

    Returns:
        Whether it has to wait.

    Raises:
        RunError: If the folder cannot be written.
    """
    runs_dir = folder.parent
    waiting = in_line(runs_dir)
    if not waiting and not [other for other in at_work(runs_dir) if other != folder]:
        leave(folder)
        return False
    try:
        (folder / TICKET).write_text(str(time.time_ns()), "utf-8")
    except OSError as error:
        raise RunError(f"The run {folder.name} cannot be written: {error.strerror}.") from None
    return True


def leave(folder: Path) -> None:
    """Give the ticket back: the run's turn has come, or it waits no longer."""
    (folder / TICKET).unlink(missing_ok=True)


def wait(
    folder: Path,
    *,
    cancelled: Callable[[], bool],
    moved: Callable[[int], None] = lambda place: None,
) -> bool:
    """Wait until no run works and none is before this one in line.

    Args:
        folder: The folder of a run that this process has noted as its own.
        cancelled: Asked again and again; when true, the run waits no longer.
        moved: Told the place in line, 1 for the next, whenever it changes.

    Returns:
        Whether the run's turn has come; false if it was cancelled.

    Raises:
        RunError: If the runs folder cannot be written.
    """
    place = 0
    while has_ticket(folder):
        if cancelled():
            leave(folder)
            return False
        waiting = in_line(folder.parent)
        before = waiting.index(folder) if folder in waiting else 0
        if before == 0 and not at_work(folder.parent):
            with look(folder.parent):  # others may have seen the same
                if in_line(folder.parent)[:1] == [folder] and not at_work(folder.parent):
                    leave(folder)
                    return True
        elif before + 1 != place:
            place = before + 1
            moved(place)
        time.sleep(LOOK_SECONDS)
    return True


@contextmanager
def look(runs_dir: Path) -> Iterator[None]:
    """Hold off all others that look whether they may start. The system frees it after a crash.

    Raises:
        RunError: If the folder cannot be written.
    """
    from filelock import FileLock

    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        lock = FileLock(runs_dir / ".start.lock")
        lock.acquire(timeout=30)
    except OSError as error:  # filelock's Timeout is one, too
        raise RunError(
            f"The runs folder {runs_dir} cannot be written: {error.strerror or error}.",
            "Choose another one with --runs-dir or QA_LORA_RUNS_DIR.",
        ) from None
    try:
        yield
    finally:
        lock.release()
