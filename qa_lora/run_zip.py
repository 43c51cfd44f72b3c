"""A run as one zip file to take away. Loads no torch."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

from qa_lora.errors import RunError
from qa_lora.files import replaced_file
from qa_lora.labels import LABEL
from qa_lora.run_summaries import state_of
from qa_lora.runs import CONFIG, EVENTS, Run

__all__ = ["zip_run"]

KEPT = (CONFIG, "environment.json", EVENTS, LABEL, "worker.log", "adapter", "evaluations")
CHECKPOINTS = ("checkpoint", "checkpoint.previous")
AS_IT_IS = (".safetensors", ".pt", ".bin", ".parquet", ".png", ".zip")
"""Endings of files that hardly become smaller."""
STATE = (CONFIG, EVENTS, "adapter/adapter_config.json", "checkpoint")
"""Of these one changes when somebody trains the run, moves it or deletes it."""


def zip_run(run: Run, target: Path, *, checkpoints: bool = False) -> list[str]:
    """Write a zip file with the run's folder in it: settings, log, adapter, evaluations, label.

    Files go through in pieces, whatever their size. Links are left out: what they lead to may be
    nobody's to take.

    Args:
        run: The run; no process may be at work on it.
        target: The file; it is whole or not there.
        checkpoints: Whether the states to go on from are in it, too.

    Returns:
        The names of the files in it.

    Raises:
        RunError: If a process works on the run, or something cannot be read or written.
    """
    if run.path.is_symlink():
        raise RunError(f"The run {run.id} is a link to another folder.", "Open it there.")
    if run.alive():
        raise RunError(
            f"The run {run.id} is being worked on, so its files still change.",
            "Wait for it, or stop it first.",
        )
    names = (*KEPT, *CHECKPOINTS) if checkpoints else KEPT
    before = state_of(run, *STATE)
    written: list[str] = []
    try:
        with (
            replaced_file(target) as path,
            # Dates before 1980, which a zip file cannot hold, become 1980.
            zipfile.ZipFile(path, "w", strict_timestamps=False) as file,
        ):
            for name in names:
                for source in _files(run.path / name):
                    inside = source.relative_to(run.path).as_posix()
                    small = source.suffix.lower() in AS_IT_IS
                    how = zipfile.ZIP_STORED if small else zipfile.ZIP_DEFLATED
                    file.write(source, f"{run.id}/{inside}", compress_type=how)
                    written.append(inside)
            if run.alive() or state_of(run, *STATE) != before:
                raise RunError(
                    f"The run {run.id} was changed, moved or deleted while its files were packed.",
                    "Do it again when nobody works on it.",
                )
            if not written:
                raise RunError(f"The run {run.id} holds nothing to download.")
    except OSError as error:
        raise RunError(
            f"The zip file of {run.id} cannot be made: {error.strerror or error}.",
            "Check the free space and who may read the run's folder.",
        ) from None
    return written


def _files(path: Path) -> Iterator[Path]:
    """The file, or those in a folder by name; no links, no pipes, nothing half-written."""
    if path.is_symlink():
        return
    if path.is_file():
        yield path
    for folder, inner, names in os.walk(path, onerror=_fail):
        inner.sort()
        for name in sorted(names):
            found = Path(folder, name)
            if not name.startswith(".") and not found.is_symlink() and found.is_file():
                yield found


def _fail(error: OSError) -> None:
    """What cannot be listed must not be left out without a word; what is no folder is none."""
    if not isinstance(error, (NotADirectoryError, FileNotFoundError)):
        raise error
