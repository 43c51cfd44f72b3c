"""Wait until a Space runs, or say why it does not."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qa_lora.errors import shorten
from qa_lora.secrets import redact
from qa_lora.spaces.refusals import DeployError, explained

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["wait_until_running"]

_COMING = ("BUILDING", "RUNNING_BUILDING", "APP_STARTING", "RUNNING_APP_STARTING")
_RESTING = ("PAUSED", "STOPPED", "SLEEPING")
_GRACE_LOOKS = 10
"""A Space is for a moment after an upload what it was before: running, broken, or empty."""
_LOG_LINES = 8
_ATTEMPTS = 5


def wait_until_running(
    api: HfApi,
    space_id: str,
    *,
    commit: str | None = None,
    before: str | None = None,
    timeout: float = 1800.0,
    poll_seconds: float = 3.0,
    tell: Callable[[str], None] = lambda stage: None,
) -> str:
    """Wait until a Space runs what was uploaded.

    Args:
        api: The Hub.
        space_id: owner/name.
        commit: What it shall run.
        before: What it ran before; None for a new Space.
        timeout: Seconds after which waiting ends with an error; the Space goes on building.
        poll_seconds: Between two looks.
        tell: Told each new stage, in words.

    Returns:
        The stage it is in: RUNNING, or one in which it rests and wakes when it is visited.

    Raises:
        DeployError: If it fails, rests for good, or takes too long.
    """
    ends = time.monotonic() + timeout
    stage, looks, failures = "", 0, 0
    changed = commit is not None and commit != before
    while True:
        try:
            with explained(f"The Space {space_id} cannot be watched"):
                runtime = api.get_space_runtime(space_id)
            failures = 0
        except DeployError:
            # One answer that fails does not end a wait of many minutes.
            failures += 1
            if failures >= _ATTEMPTS:
                raise
            time.sleep(poll_seconds)
            continue
        now = str(getattr(runtime.stage, "value", runtime.stage))
        if now != stage:
            stage = now
            tell(_in_words(stage))
        looks += 1
        if stage in _COMING:
            changed = False  # it has begun with the new one
        elif not _is_old(runtime, commit, changed, looks):
            _check(api, space_id, stage, runtime.raw)
            return stage
        if time.monotonic() > ends:
            raise DeployError(
                f"The Space {space_id} is still {_in_words(stage)} after {timeout / 60:.0f} "
                "minutes.",
                f"It goes on by itself; look at {api.endpoint}/spaces/{space_id}.",
            )
        time.sleep(poll_seconds)


def _is_old(runtime: Any, commit: str | None, changed: bool, looks: int) -> bool:
    """Whether this is still how the Space was before the upload."""
    running = runtime.raw.get("sha")
    if running and commit and runtime.stage == "RUNNING":
        return bool(running != commit)
    return changed and running != commit and looks < _GRACE_LOOKS


def _check(api: HfApi, space_id: str, stage: str, raw: dict[str, Any]) -> None:
    if stage in ("RUNNING", "SLEEPING"):
        return
    page = f"{api.endpoint}/spaces/{space_id}"
    if stage in _RESTING:
        raise DeployError(f"The Space {space_id} is {_in_words(stage)}.", f"Restart it at {page}.")
    said = redact(shorten(" ".join(str(raw.get("errorMessage") or "").split()), 300)).rstrip(".")
    lines = _last_lines(api, space_id, build=stage == "BUILD_ERROR")
    raise DeployError(
        f"The Space {space_id} {_in_words(stage)}{f': {said}' if said else ''}.",
        "\n".join([f"Its logs are at {page}?logs=container.", *lines]),
    )


def _last_lines(api: HfApi, space_id: str, *, build: bool) -> list[str]:
    """The end of its log, if the Hub gives it; without tokens."""
    last: deque[str] = deque(maxlen=_LOG_LINES)
    with suppress(Exception):  # that there is no log must not hide what went wrong
        last.extend(
            f"  {redact(line.rstrip())[:200]}"
            for line in api.fetch_space_logs(space_id, build=build)
            if line.strip()
        )
    return list(last)


def _in_words(stage: str) -> str:
    return {
        "NO_APP_FILE": "has no app file",
        "CONFIG_ERROR": "has a mistake in its configuration",
        "BUILD_ERROR": "could not be built",
        "RUNTIME_ERROR": "was built, but its app ended with an error",
        "BUILDING": "building",
        "RUNNING_BUILDING": "building, the version before still running",
        "APP_STARTING": "starting",
        "RUNNING_APP_STARTING": "starting, the version before still running",
        "RUNNING": "running",
        "PAUSED": "paused",
        "STOPPED": "stopped",
        "SLEEPING": "asleep",
        "DELETING": "being deleted",
    }.get(stage, stage.lower().replace("_", " "))
