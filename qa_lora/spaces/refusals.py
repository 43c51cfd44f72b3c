"""What the Hub says no to, in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from qa_lora.errors import QALoRAError, first_line, shorten

__all__ = ["DeployError", "NoAnswerError", "explained"]

_LOGIN = "Log in (hf auth login) or set HF_TOKEN to a token that may write."


class DeployError(QALoRAError):
    """A Space cannot be made or updated, or does not come up."""


class NoAnswerError(DeployError):
    """The Hub cannot be asked from here: no network, no login, or HF_HUB_OFFLINE."""


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn what the Hub's client raises inside the block into one sentence.

    Args:
        doing: What is being done, such as "The Space me/x cannot be created".

    Raises:
        DeployError: If the Hub refuses, cannot be reached, or fails.
    """
    try:
        yield
    except QALoRAError:
        raise
    except Exception as error:
        found = _sentence(doing, error)
        if found is None:
            raise
        raise found from error


def _sentence(doing: str, error: Exception) -> DeployError | None:
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
    )

    if isinstance(error, HfHubHTTPError):
        return _refusal(doing, error.response.status_code, error.server_message or "", error)
    if isinstance(error, LocalTokenNotFoundError):
        return NoAnswerError(f"{doing}: there is no login.", _LOGIN)
    if isinstance(error, HFValidationError):
        return DeployError(f"{doing}: {first_line(error)}.")
    if isinstance(error, OfflineModeIsEnabled):
        return NoAnswerError(
            f"{doing}: HF_HUB_OFFLINE is set, and a Space is on the Hub.", "Unset HF_HUB_OFFLINE."
        )
    # The client's releases stand on different libraries for HTTP, which name their errors alike.
    kinds = {cls.__name__ for cls in type(error).__mro__}
    if "TimeoutException" in kinds:
        return NoAnswerError(
            f"{doing}: the Hub did not answer in time.", "Run the command again; it goes on."
        )
    if kinds & {"TransportError", "ConnectionError"}:
        return NoAnswerError(
            f"{doing}: the Hugging Face Hub cannot be reached.",
            "Check the network and run the command again; it goes on where it was.",
        )
    return None


def _refusal(doing: str, status: int, said: str, error: Exception) -> DeployError:
    said = shorten(" ".join(said.split()), 300).rstrip(".")
    words = f" ({said})" if said else ""
    if status == 401:
        return DeployError(f"{doing}: the Hub does not know this login{words}.", _LOGIN)
    if status in (402, 403):
        return DeployError(
            f"{doing}: the Hub does not allow it to this login{words}.",
            "The token needs write access there; some hardware and storage need a paid plan.",
        )
    if status == 404:
        return DeployError(
            f"{doing}: the Hub has no such user, organization or Space{words}.",
            "Check --space-id, and that the login may see it.",
        )
    if status in (409, 412):  # 412: it has another commit than the one it was compared with
        return DeployError(
            f"{doing}: something else is changing it or has its name{words}.",
            "Run the command again in a moment.",
        )
    if status == 429:
        waits = getattr(error, "response", None)
        after = waits.headers.get("Retry-After", "") if waits is not None else ""
        return DeployError(
            f"{doing}: the Hub has had too many requests from here{words}.",
            f"Run the command again in {after} seconds."
            if after.isdecimal()
            else "Run the command again in some minutes.",
        )
    if status >= 500:
        return DeployError(
            f"{doing}: the Hub answered {status}, an error of its own{words}.",
            "Run the command again in some minutes; it goes on where it was.",
        )
    return DeployError(f"{doing}: the Hub answered {status}{words}.")
