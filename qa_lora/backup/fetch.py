"""Bring a run back from its backup."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from qa_lora.backup.places import is_repo
from qa_lora.config import SOURCES
from qa_lora.data.sources import parse
from qa_lora.errors import DataError, QALoRAError, RunError, first_line
from qa_lora.files import recover_folder, replaced_folder
from qa_lora.runs import CONFIG, Run

__all__ = ["fetch", "missing_here"]


def fetch(place: str, runs_dir: Path, run_id: str = "") -> Run:
    """Copy a run from its backup into a folder of runs, where it can be resumed or used.

    Args:
        place: The folder or repository that it was backed up to, or the run's folder in there.
        runs_dir: Where it goes.
        run_id: Which run; the newest if empty.

    Returns:
        The run.

    Raises:
        RunError: If there is none there, or the folder of runs has one of that name.
        PublishError: If the Hub does not give it.
    """
    if is_repo(place):
        return _from_hub(place, runs_dir, run_id)
    folder = Path(place).expanduser()
    try:
        if (folder / CONFIG).is_file():
            return _copy(folder, runs_dir)
        _mend(folder)
        known = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
    except OSError as error:
        raise RunError(f"{place} cannot be read: {error.strerror or first_line(error)}.") from None
    return _copy(folder / _choose(known, place, run_id), runs_dir)


def missing_here(run: Run) -> list[str]:
    """What a run's settings name on a disk and is not on this machine: its data, its base model.

    Returns:
        As the settings name it; nothing if they cannot be read.
    """
    try:
        config = run.config()
    except RunError:
        return []
    found = []
    for text in (getattr(config, setting) or "" for setting in SOURCES):
        for line in filter(None, map(str.strip, text.splitlines())):
            try:
                parse(line)
            except DataError:
                found.append(line)
    base = Path(config.model)
    return found + ([config.model] if base.is_absolute() and not base.exists() else [])


def _mend(folder: Path) -> None:
    """Finish what a kill cut short while a backup took the place of the one before."""
    for path in folder.glob(f".*.old/{CONFIG}"):
        with suppress(OSError):  # the backups may lie where nobody can write
            recover_folder(folder / path.parent.name[1:].removesuffix(".old"))


def _from_hub(repo: str, runs_dir: Path, run_id: str) -> Run:
    from qa_lora.publishing.login import machine_token
    from qa_lora.publishing.refusals import api_for, explain

    api = api_for(machine_token())
    try:
        info = api.model_info(repo)
        names = [each.rfilename.split("/") for each in info.siblings or []]
        known = sorted(parts[0] for parts in names if len(parts) == 2 and parts[1] == CONFIG)
        chosen = _choose(known, repo, run_id)
        _check_free(runs_dir, chosen)
        with tempfile.TemporaryDirectory(prefix="qa-lora-") as there:
            api.snapshot_download(
                repo, revision=info.sha, allow_patterns=[f"{chosen}/*"], local_dir=there
            )
            return _copy(Path(there) / chosen, runs_dir)
    except QALoRAError:
        raise
    except Exception as error:  # of several libraries
        raise explain(error, repo) from None


def _choose(known: list[str], place: str, run_id: str) -> str:
    """A run's name among those that are there: what the Hub says of names is looked up, too."""
    # A name with a dot before it is a backup that was not finished, or that is being replaced.
    safe = [name for name in known if name[0] != "." and Path(name).name == name]
    if not safe:
        raise RunError(f"There is no backup of a run in {place}.")
    if run_id and run_id not in safe:
        raise RunError(
            f"There is no backup of {run_id} in {place}.", f"The newest there is {safe[-1]}."
        )
    return run_id or safe[-1]


def _check_free(runs_dir: Path, name: str) -> None:
    if (runs_dir / name).exists():
        raise RunError(
            f"There is a run {name} in {runs_dir} already.",
            "Take another folder with --runs-dir, or delete that run first.",
        )


def _copy(folder: Path, runs_dir: Path) -> Run:
    _check_free(runs_dir, folder.resolve().name)
    target = runs_dir / folder.resolve().name
    try:
        with replaced_folder(target) as new:
            # No links: what lies in a backup must not lead out of it.
            shutil.copytree(folder, new, dirs_exist_ok=True, symlinks=True, ignore=_links)
    except (OSError, shutil.Error) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise RunError(f"The backup cannot be copied to {runs_dir}: {reason}.") from None
    return Run(target)


def _links(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(folder) / name).is_symlink()]
