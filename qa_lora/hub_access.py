"""What the Hub answers, as one sentence: why a repository cannot be had, and when to ask again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal, TypeAlias, TypeVar

from qa_lora.errors import first_line

__all__ = ["Kind", "Refusal", "ask", "is_offline", "refusal_of", "why_not"]

T = TypeVar("T")
Kind: TypeAlias = Literal["model", "dataset", "adapter"]

TIMEOUT_SECONDS = 15
WAITS = (0.5, 1.0, 2.0, 4.0)
"""Seconds before the Hub is asked again after a fault of its own."""
LONGEST_WAIT = 60.0
"""Seconds that are waited when the Hub asks for it; whoever is to wait longer is told so."""
PASSING = (408, 429, 500, 502, 503, 504)
"""Answers that may be another one soon."""
LOGIN = "Check its name; for a private one log in (hf auth login) or set HF_TOKEN."


@dataclass(frozen=True)
class Refusal:
    """Why a repository cannot be had."""

    reason: str
    """The second half of a sentence, such as "the Hub has no model x/y"."""
    hint: str = ""
    """What to do, where it is not simply to check name and network."""


def why_not(repo: str, kind: Kind) -> Refusal | None:
    """Whether the Hub can give a repository, asked before a downloader asks for half a minute.

    Args:
        repo: Its id.
        kind: What it holds.

    Returns:
        None if it can, else why not.
    """
    from huggingface_hub import HfApi

    repo_type = "dataset" if kind == "dataset" else "model"
    try:
        ask(lambda: HfApi().repo_info(repo, repo_type=repo_type, timeout=TIMEOUT_SECONDS))
    except Exception as error:  # from several libraries
        return refusal_of(error, repo, kind)
    return None


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids to ask the Hub."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def ask(work: Callable[[], T], *, wait: Callable[[float], object] = time.sleep) -> T:
    """Ask the Hub, again and again while its fault is one that passes.

    Args:
        work: Asks, and raises what the Hub's client raises.
        wait: Waits for so many seconds; may raise to give up.

    Raises:
        Exception: What `work` raised the last time.
    """
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    for seconds in (*WAITS, None):
        try:
            return work()
        except (HfHubHTTPError, LocalEntryNotFoundError) as error:
            said = _cause(error)
            status = getattr(getattr(said, "response", None), "status_code", 0)
            if seconds is None or status not in PASSING:
                raise
            asked_for = retry_after(said)
            if asked_for is not None and asked_for > LONGEST_WAIT:
                raise
            wait(seconds if asked_for is None else asked_for)
    raise AssertionError


def retry_after(error: Exception) -> float | None:
    """Seconds after which the Hub says it may be asked again, if it says so.

    The header holds seconds, or, from a proxy, a date.
    """
    said = getattr(getattr(error, "response", None), "headers", {}).get("Retry-After", "").strip()
    if said.isascii() and said.isdecimal():
        return float(said[:9])
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except (ValueError, OverflowError):  # none, or neither of the two
        return None


def refusal_of(error: Exception, repo: str, kind: Kind) -> Refusal:
    """What an error of the Hub's client means.

    Args:
        error: What was raised.
        repo: The id that was asked for.
        kind: What it was to be.
    """
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RevisionNotFoundError,
    )

    error = _cause(error)
    what = "data set" if kind == "dataset" else kind
    if isinstance(error, GatedRepoError):
        return Refusal(
            f"the Hub gives the {what} {repo} only to those who accepted its terms",
            "Accept them on its page and log in (hf auth login) or set HF_TOKEN.",
        )
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return Refusal(f"the {what} {repo} has no such file on the Hub")
    if isinstance(error, RevisionNotFoundError):
        return Refusal(f"the {what} {repo} has no such revision on the Hub")
    if isinstance(error, HfHubHTTPError):
        return _of_status(error, error.response.status_code, f"{what} {repo}")
    if isinstance(error, HFValidationError):
        return Refusal(f"{repo} cannot be the id of a {what}")
    if isinstance(error, OfflineModeIsEnabled) or is_offline():
        return Refusal("it is not in the cache either, and HF_HUB_OFFLINE forbids to ask the Hub")
    if isinstance(error, OSError) and error.errno is not None:
        return Refusal(
            f"the {what} {repo} cannot be kept on this disk ({error.strerror or first_line(error)})"
        )
    # No name service, no route, a proxy, a connection that is cut again and again.
    return Refusal(f"the Hugging Face Hub could not be reached to look for {repo}")


def _cause(error: Exception) -> Exception:
    """What the Hub said, where the client only says that a file is not in the cache."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    cause = error.__cause__
    if isinstance(error, LocalEntryNotFoundError) and isinstance(cause, Exception):
        return cause
    return error


def _of_status(error: Exception, status: int, what: str) -> Refusal:
    if status == 401 and "invalid credentials" in str(error).lower():
        return Refusal(
            "the Hub does not know the token of this login",
            "Log in again (hf auth login), or set HF_TOKEN to a token that is valid.",
        )
    if status in (401, 404):  # the Hub does not tell a private one from one that is not there
        return Refusal(f"the Hub has no {what}, or it is private", LOGIN)
    if status == 403:
        return Refusal(f"the Hub does not let this login read the {what}", LOGIN)
    if status == 429:
        seconds = retry_after(error)
        when = "in a few minutes" if seconds is None else f"in {seconds:.0f} seconds"
        return Refusal(
            f"the Hub was asked too often from here and does not give the {what} now (429)",
            f"Try again {when}; a login (hf auth login) may ask more often.",
        )
    if status >= 500:
        return Refusal(
            f"the Hub has a fault of its own and does not give the {what} ({status})",
            "Try again later.",
        )
    return Refusal(f"the Hub answered {status} when it was asked for the {what}")
