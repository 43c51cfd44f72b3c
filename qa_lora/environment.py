"""environment.json of a run: what it was trained with, written when it begins. Loads no torch."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from qa_lora.catalog import HUB_ID, POCKET
from qa_lora.events import Started
from qa_lora.fetching import ENVIRONMENT, base_commit
from qa_lora.files import replaced_file
from qa_lora.hub_downloads import commit_of
from qa_lora.runs import Run

__all__ = ["write_environment", "write_train_rows"]

PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasets", "evaluate", "rouge-score")


def write_environment(run: Run, started: Started) -> None:
    """Write down versions, hardware, commits and the size of the split.

    Raises:
        OSError: If it cannot be written.
    """
    values: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": started.device,
        "precision": started.precision,
        "packages": {name: _version(name) for name in PACKAGES},
        **_sources(run),
        "test_fingerprint": started.test_fingerprint,
        "rows": {
            "train": started.train_rows,
            "validation": started.validation_rows,
            "test": started.test_rows,
        },
    }
    _write(run, values)


def write_train_rows(run: Run, train_rows: int) -> None:
    """Write down how many rows a stream had to train on, once it has ended.

    Raises:
        OSError: If it cannot be written.
        ValueError: If what is there is damaged.
    """
    values = json.loads((run.path / ENVIRONMENT).read_text("utf-8"))
    values["rows"]["train"] = train_rows
    _write(run, values)


def _write(run: Run, values: dict[str, Any]) -> None:
    with replaced_file(run.path / ENVIRONMENT) as file:
        file.write_text(json.dumps(values, indent=2) + "\n", "utf-8")


def _sources(run: Run) -> dict[str, Any]:
    """What came from the Hub, by the commit that was fetched."""
    config = run.config()
    from qa_lora.data.hub_tables import commits_of

    commit = None
    if config.model != POCKET and HUB_ID.fullmatch(config.model):
        commit = base_commit(run.path) or commit_of(config.model)
    data = commits_of(config.data)
    return {
        **({"base": {"model": config.model, "commit": commit}} if commit else {}),
        **({"data": data} if data else {}),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
