"""From what a person calls a run to the adapter's folder and the base model it belongs on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qa_lora import runs
from qa_lora.adapter_settings import ADAPTER_CONFIG, base_of, check_settings, read_settings
from qa_lora.base_names import named_commit
from qa_lora.catalog import HUB_ID
from qa_lora.errors import RunError
from qa_lora.fetching import base_commit
from qa_lora.imported import FOLDER, KNOWN_FILES, imported_folder

__all__ = ["Located", "locate"]


@dataclass(frozen=True)
class Located:
    """An adapter that can be compared with its base."""

    folder: Path
    base: str
    """Name of the base model: "pocket", a folder or a Hub id."""
    run: runs.Run | None
    """The run that made it, if it lies in one."""
    commit: str | None = None
    """The state of a base of the Hub that it was trained on, if that was written down."""


def locate(run: str | Path | runs.Run, runs_dir: str | Path | None = None) -> Located:
    """Find an adapter and its base.

    Args:
        run: A run's id or folder, the name of an imported adapter, a PEFT adapter folder, or the
            Hub id of an adapter.
        runs_dir: Where run ids are looked up; :func:`qa_lora.runs.default_runs_dir` if None.

    Raises:
        RunError: If there is no such run, or it has no adapter yet.
        ModelError: If the adapter does not name its base, would change it, could run code, or is
            broken.
    """
    found: runs.Run | None
    if isinstance(run, runs.Run):
        found, folder = run, run.adapter
    else:
        found, folder = _look_up(run, runs_dir if runs_dir is not None else runs.default_runs_dir())
    if found is not None and not found.has_adapter():
        raise RunError(
            f"The run {found.id} has no adapter yet.", "It is kept after the first validation."
        )
    what = f"The adapter in {folder}"
    settings = read_settings(folder)
    check_settings(settings, what)
    if found is not None:
        base = found.config().model
        return Located(folder, base, found, base_commit(found.path) or named_commit(base))
    if folder.parent.name != FOLDER:  # those were looked at when they were brought in
        from qa_lora.adapter_weights import check_finite, check_sizes, read_head

        check_sizes(settings, read_head(folder, what), what)
        check_finite(folder, what)
    base = base_of(settings, what)
    return Located(folder, base, None, named_commit(base, settings.get("revision")))


def _look_up(name: str | Path, runs_dir: str | Path) -> tuple[runs.Run | None, Path]:
    folder = Path(name).expanduser()
    if (folder / ADAPTER_CONFIG).is_file():
        around = runs.Run(folder.resolve().parent)
        if around.adapter == folder.resolve() and (around.path / runs.CONFIG).is_file():
            return around, around.adapter
        return None, folder
    try:
        found = runs.find(name, runs_dir)
    except RunError:
        kept = imported_folder(name, runs_dir)
        if kept is not None:
            return None, kept
        if folder.is_dir():
            raise RunError(
                f"The folder {name} is neither a run nor an adapter.",
                f"A run holds {runs.CONFIG}, an adapter {ADAPTER_CONFIG}.",
            ) from None
        if "/" not in str(name) or not HUB_ID.fullmatch(str(name)):
            raise
        from qa_lora.hub_adapter import download

        return None, download(str(name), KNOWN_FILES)[0]
    return found, found.adapter
