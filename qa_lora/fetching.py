"""The base model of a training, fetched before it begins and told as events. Loads no torch."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Generator
from pathlib import Path

from qa_lora import distributed
from qa_lora.catalog import HUB_ID, POCKET
from qa_lora.events import Downloading
from qa_lora.hub_downloads import LOOK_SECONDS, Download, find_here

__all__ = ["ENVIRONMENT", "base_commit", "download_of", "fetch_base"]

ENVIRONMENT = "environment.json"
TELL_SECONDS = 1.0
_COMMIT = re.compile(r"[0-9a-f]{40}")


def base_commit(folder: Path) -> str | None:
    """The state of the base model of the Hub that a run was trained on, if it says so.

    Args:
        folder: The run's.
    """
    try:
        commit = json.loads((folder / ENVIRONMENT).read_text("utf-8"))["base"]["commit"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return commit if isinstance(commit, str) and _COMMIT.fullmatch(commit) else None


def download_of(model: str, commit: str | None = None) -> Download | None:
    """The download that a base model needs, not yet begun; None if it needs none.

    Args:
        model: "pocket", a folder, or a Hub id.
        commit: The state of it that is wanted; any that is here, else the newest, if None.
    """
    try:
        local = model == POCKET or Path(model).expanduser().exists()
    except (OSError, RuntimeError):
        local = True  # what is wrong with it is said where it is loaded
    if local or not HUB_ID.fullmatch(model) or find_here(model, commit) is not None:
        return None

    def check(folder: Path) -> None:
        from qa_lora.models import check_kind  # loads torch

        check_kind(folder, model)

    return Download(model, commit, check)


def fetch_base(
    model: str,
    should_stop: Callable[[], bool],
    *,
    commit: str | None = None,
    step: int = 0,
) -> Generator[Downloading, None, bool]:
    """Fetch a base model of the Hub if it is not here; of many processes, one of each machine does.

    Args:
        model: "pocket", a folder, or a Hub id.
        should_stop: Asked several times a second.
        commit: The state of it that is wanted; any that is here, else the newest, if None.
        step: Where the training that waits for it goes on.

    Yields:
        How far it is, about once a second.

    Returns:
        Whether the training can begin; false if it was stopped.

    Raises:
        ModelError: If the Hub does not give the model.
    """
    first_here = distributed.count() == 1 or os.environ.get("LOCAL_RANK", "0") == "0"
    download = download_of(model, commit) if first_here else None
    if download is not None:
        download.start()
    told, last = -TELL_SECONDS, (-1, -1)
    try:
        while True:
            over = download is None or download.wait(LOOK_SECONDS)
            goes_on, stopping = distributed.any_of(not over, should_stop())
            if not goes_on or stopping:
                break
            if download is None or time.monotonic() - told < TELL_SECONDS:
                continue
            told, now = time.monotonic(), (download.done, download.total)
            if now != last:
                last = now
                yield Downloading(model, *now, step)
    finally:
        if download is not None:
            download.stop()
    if goes_on:
        return False
    distributed.together(lambda: download.result() if download is not None else None)
    if download is not None:
        yield Downloading(model, download.total, download.total, step)
    return True
