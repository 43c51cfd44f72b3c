"""``qa-lora runs``, ``rename``, ``delete``, ``restore`` and ``export``: options, what they do."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from qa_lora import labels, runs, terminal, trash
from qa_lora.errors import ConfigError, RunError
from qa_lora.run_order import ORDERS, arrange
from qa_lora.run_summaries import summarize

__all__ = ["add_commands"]

Result = dict[str, Any]
Add = Callable[[str, Callable[[argparse.Namespace], Result], str], argparse.ArgumentParser]


def add_commands(add: Add) -> None:
    """Add the commands.

    Args:
        add: Makes a command of its name, what it does and a sentence of help.
    """
    listed = add("runs", _runs, "list the runs")
    listed.add_argument(
        "--sort", choices=list(ORDERS), default="newest", help="the order (default: newest)"
    )
    listed.add_argument(
        "--status", choices=get_args(runs.RunStatus), default="", help="only runs of this status"
    )
    listed.add_argument(
        "--filter",
        default="",
        metavar="TEXT",
        help="only runs with all these words in name, note, model, data or settings",
    )

    rename = add("rename", _rename, "give a run a name to be shown, or a note; its id stays")
    rename.add_argument("run", metavar="RUN", help="a run's id or folder")
    rename.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        help=f'at most {labels.LONGEST_TITLE} characters; "" takes the name away',
    )
    rename.add_argument(
        "--note", metavar="TEXT", help=f"at most {labels.LONGEST_NOTE:,} characters"
    )

    delete = add("delete", _delete, "move a run to the trash")
    delete.add_argument("run", metavar="RUN", help="a run's id or folder")
    delete.add_argument(
        "--for-good", action="store_true", help="delete its files; it cannot be restored"
    )

    restore = add("restore", _restore, "take a run out of the trash")
    restore.add_argument("run", metavar="RUN", help="the run's id")

    export = add("export", _export, "write a run as a zip file")
    export.add_argument("run", metavar="RUN", help="a run's id or folder")
    export.add_argument("--out", required=True, type=Path, metavar="FILE.zip")
    export.add_argument(
        "--checkpoints", action="store_true", help="with the states to go on from, too"
    )


def _runs(parsed: argparse.Namespace) -> Result:
    rows = [summarize(run) for run in runs.list_runs(parsed.runs_dir)]
    found = arrange(rows, text=parsed.filter, status=parsed.status, order=parsed.sort)
    if rows and not found:
        terminal.say(f"None of {len(rows):,} runs is like that.", quiet=parsed.json)
    else:
        terminal.show_runs(found, parsed.runs_dir, quiet=parsed.json)
    return {"runs": [row.to_dict() for row in found]}


def _rename(parsed: argparse.Namespace) -> Result:
    if parsed.name is None and parsed.note is None:
        raise ConfigError("There is nothing to change.", "Give a NAME, --note TEXT, or both.")
    run = _find(parsed)
    label = labels.write_label(run, title=parsed.name, note=parsed.note)
    shown = f"is called {label.title}" if label.title else "is called by its id"
    noted = ", with a note" if label.note else ""
    terminal.say(f"The run {run.id} {shown}{noted}.", quiet=parsed.json)
    return {"run": run.id, "title": label.title, "note": label.note}


def _delete(parsed: argparse.Namespace) -> Result:
    run = _find(parsed)
    runs_dir = run.path.parent
    lies = trash.delete(run)
    if parsed.for_good:
        trash.empty(runs_dir, only=lies)
        terminal.say(f"The run {run.id} is deleted.", quiet=parsed.json)
        return {"run": run.id, "path": None}
    elsewhere = runs_dir.resolve() != Path(parsed.runs_dir).resolve()
    where = f" --runs-dir {shlex.quote(str(runs_dir))}" if elsewhere else ""
    terminal.say(
        f"The run {run.id} is in the trash; qa-lora restore {lies.id}{where} takes it out.",
        quiet=parsed.json,
    )
    return {"run": run.id, "in_trash": lies.id, "path": str(lies.path)}


def _restore(parsed: argparse.Namespace) -> Result:
    run = trash.restore(parsed.run, parsed.runs_dir)
    terminal.say(f"The run {run.id} is back.", quiet=parsed.json)
    return {"run": run.id, "path": str(run.path)}


def _export(parsed: argparse.Namespace) -> Result:
    from qa_lora.run_zip import zip_run

    run = _find(parsed)
    if parsed.out.is_dir():
        raise RunError(f"{parsed.out} is a folder.", "Name the zip file, as in --out run.zip.")
    files = zip_run(run, parsed.out, checkpoints=parsed.checkpoints)
    terminal.say(f"{len(files):,} files of {run.id} are in {parsed.out}.", quiet=parsed.json)
    return {"run": run.id, "path": str(parsed.out), "files": files}


def _find(parsed: argparse.Namespace) -> runs.Run:
    """The run, also a damaged one."""
    for run in runs.list_runs(parsed.runs_dir):
        if run.id == parsed.run:
            return run
    return runs.find(parsed.run, parsed.runs_dir)
