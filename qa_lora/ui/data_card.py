"""The data check: what a source holds, shown before anything is trained on it."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qa_lora.config import SOURCES, SPLIT_SETTINGS, TrainConfig
from qa_lora.data.readers import ENDINGS
from qa_lora.data.sources import local_files
from qa_lora.errors import ConfigError, QALoRAError, RunError
from qa_lora.estimate.shapes import has_tokenizer
from qa_lora.files import replaced_file
from qa_lora.ui.report_card import report_html
from qa_lora.ui.words import note

if TYPE_CHECKING:
    from qa_lora.data import DataSplit, LoadedData

__all__ = [
    "FILE_TYPES",
    "Checked",
    "check_data",
    "keep_upload",
    "read_data",
    "state_of",
]


_COPYING = threading.Lock()

FILE_TYPES = sorted({"." + ending.rsplit(".", 1)[1] for ending in ENDINGS})
"""What can be uploaded."""

# Settings that change nothing in a check, at their defaults, so that they share what was checked.
_FREE = (
    *("name", "lora_r", "lora_alpha", "lora_dropout", "learning_rate", "epochs", "max_steps"),
    *("max_minutes", "init_adapter"),
)
_UNUSED = {name: TrainConfig.model_fields[name].default for name in _FREE}


@dataclass(frozen=True)
class Checked:
    """The card, and the columns to choose from."""

    html: str
    columns: tuple[str, ...] = ()
    """All columns of the source; empty where it could not be read."""
    unclear: bool = False
    """Whether the question or the answer column has to be chosen."""


def check_data(
    settings: Mapping[str, Any],
    admit: Callable[[TrainConfig], TrainConfig],
    warm_up: Callable[[], None] | None = None,
) -> Checked:
    """Read a source and say what is in it, in a card; problems are in the card too.

    Args:
        settings: The form's values.
        admit: Gives the training as the server would do it, or refuses it.
        warm_up: Imports the tokenizer's library; tokens are not counted without it.
    """
    from qa_lora.data import ColumnsError

    try:
        config = admit(TrainConfig.build(**settings))
        if warm_up is not None:
            warm_up()
        counted = warm_up is not None and has_tokenizer(config.model)
        return _check(config.model_copy(update=_UNUSED), counted, state_of(config))
    except ConfigError as error:
        return Checked(note(f"The data is not checked yet: {error}", "warn"))
    except ColumnsError as error:
        text = f"{error.message} Choose the question and the answer column here."
        return Checked(note(text, "warn"), tuple(error.columns), unclear=True)
    except QALoRAError as error:
        return Checked(note(str(error), "bad"))


@lru_cache(maxsize=32)
def _check(config: TrainConfig, counted: bool, state: tuple[int, int]) -> Checked:
    """The check itself; one that was made is kept as long as the file stays as it is (`state`)."""
    from qa_lora.data.checks import check_loaded

    tokenizer = None
    if counted:
        from qa_lora.models import load_tokenizer

        tokenizer = load_tokenizer(config.model)
    report = check_loaded(config, *read_data(config), tokenizer=tokenizer)
    return Checked(report_html(report), report.column_names)


def read_data(config: TrainConfig) -> tuple[LoadedData, DataSplit]:
    """The rows and their division, read once for all that the page says about them.

    Of a stream they are the first rows: the others are read when it is trained on.

    Raises:
        DataError: If the data cannot be used.
    """
    named = {name: getattr(config, name) for name in SPLIT_SETTINGS}
    return _read(TrainConfig().model_copy(update=named), state_of(config))


@lru_cache(maxsize=2)
def _read(config: TrainConfig, state: tuple[int, int]) -> tuple[LoadedData, DataSplit]:
    from qa_lora.data import load_and_split

    return load_and_split(config, whole=False)


def state_of(config: TrainConfig) -> tuple[int, int]:
    """When the files of the data were changed, and their sizes; zeros for what is no file."""
    sources = "\n".join(filter(None, (getattr(config, name) for name in SOURCES)))
    try:
        stats = [path.stat() for path in local_files(sources)]
    except (OSError, QALoRAError):
        return 0, 0
    return sum(stat.st_mtime_ns for stat in stats), sum(stat.st_size for stat in stats)


def keep_upload(upload: str, uploads: Path) -> Path:
    """Copy an upload beside the runs: a run must find its data again when it is scored later.

    Raises:
        RunError: If it cannot be copied.
    """
    source = Path(upload)
    try:
        digest = hashlib.sha256()
        with source.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        target = uploads / digest.hexdigest()[:12] / source.name
        with _COPYING:  # two pages may bring the same file at once
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                with replaced_file(target) as path:
                    shutil.copyfile(source, path)
    except OSError as error:
        raise RunError(
            f"The upload cannot be kept in {uploads}: {error.strerror or error}.",
            "Free some space or choose another folder with QA_LORA_RUNS_DIR.",
        ) from None
    return target
