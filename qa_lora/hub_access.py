"""Ask the Hub about a repository once, instead of letting a downloader retry for half a minute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Refusal", "why_not"]

TIMEOUT_SECONDS = 15
LOGIN = "Check its name; for a private one log in (hf auth login) or set HF_TOKEN."


@dataclass(frozen=True)
class Refusal:
    """Why a repository cannot be had."""

    reason: str
    """The second half of a sentence, such as "the Hub has no model x/y"."""
    hint: str = ""
    """What to do, where it is not simply to check name and network."""


def why_not(repo: str, kind: Literal["model", "dataset"]) -> Refusal | None:
    """Whether the Hub can give a repository.

    Args:
        repo: Its id.
        kind: What it holds.

    Returns:
        None if it can, else why not.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError

    what = "data set" if kind == "dataset" else "model"
    try:
        HfApi().repo_info(repo, repo_type=kind, timeout=TIMEOUT_SECONDS)
    except GatedRepoError:
        return Refusal(
            f"the Hub gives the {what} {repo} only to those who accepted its terms",
            "Accept them on its page and log in (hf auth login) or set HF_TOKEN.",
        )
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 404):  # the Hub does not tell a private one from one that is not there
            return Refusal(f"the Hub has no {what} {repo}, or it is private", LOGIN)
        if status == 403:
            return Refusal(f"the Hub does not let this login read the {what} {repo}", LOGIN)
        return Refusal(f"the Hub answered {status}")
    except HFValidationError:
        return Refusal(f"{repo} cannot be the id of a {what}")
    except Exception:  # offline mode, no name service, no route, a proxy: from several libraries
        return Refusal(f"the Hugging Face Hub could not be reached to look for {repo}")
    return None
