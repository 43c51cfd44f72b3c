"""What the Hub's client raises, in one sentence each, with what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qa_lora.errors import PublishError, first_line

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

__all__ = ["LOGIN", "api_for", "explain", "whoami"]

LOGIN = "Log in with hf auth login, or set HF_TOKEN to a token with write access."
AGAIN = "Nothing that was there has changed; doing it again completes it."
TIMEOUT_SECONDS = 20


def api_for(token: str | None) -> HfApi:
    """The Hub's client with this token, and never with another one that it finds by itself."""
    from huggingface_hub import HfApi

    return HfApi(token=token or False)


def whoami(token: str | None) -> str | None:
    """The name of the account that a token belongs to; None without a token.

    Raises:
        PublishError: If the Hub does not know the token, or cannot be reached.
    """
    if not token:
        return None
    try:
        name: str = api_for(token).whoami()["name"]
    except Exception as error:  # of several libraries
        raise explain(error, "") from None
    return name


def explain(error: Exception, repo: str) -> PublishError:
    """One sentence on what went wrong with a repository, and what to do.

    Args:
        error: What the client raised.
        repo: The repository's id; empty if none is meant.
    """
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

    if isinstance(error, PublishError):
        return error
    what = repo or "this"
    if isinstance(error, HFValidationError):
        return PublishError(
            f"{repo} cannot be the id of a repository.", "Give it as USER/NAME, such as me/my-qa."
        )
    found = _refused(error)
    if found is not None:
        status = found.response.status_code
        wait = found.response.headers.get("Retry-After", "")
        after = f" after {wait} s" if wait.isdecimal() else " in some minutes"
        sentences = {
            401: ("The Hub does not accept this token.", LOGIN),
            403: (
                f"The Hub does not let this account write to {what}.",
                "Use a token with write access (on a Space, the scope contribute-repos), and a "
                "name of your own or of an organisation that you may write for.",
            ),
            404: (
                f"The Hub has no repository {what}, or this token may not see it.",
                "Check its name, and that the token may write there.",
            ),
            409: (f"The Hub is just busy with {what}.", AGAIN),
            412: (f"Somebody changed {what} meanwhile.", "Look at it again before you publish."),
            429: ("The Hub asks for fewer requests.", f"Try again{after}. {AGAIN}"),
        }
        if status in sentences:
            return PublishError(*sentences[status])
        if status >= 500:
            return PublishError(f"The Hub has a problem of its own ({status}).", AGAIN)
        return PublishError(f"The Hub refuses it ({status}): {first_line(found)}.")
    if isinstance(error, OfflineModeIsEnabled):
        return PublishError("Offline mode is on.", "Unset HF_HUB_OFFLINE to reach the Hub.")
    if isinstance(error, ValueError):
        return PublishError(f"The Hub refuses it: {first_line(error)}.")
    return PublishError("The Hub could not be reached, or the connection broke.", AGAIN)


def _refused(error: BaseException | None) -> HfHubHTTPError | None:
    """The Hub's own answer behind what the client made of it."""
    from huggingface_hub.errors import HfHubHTTPError

    for _ in range(10):
        if error is None or isinstance(error, HfHubHTTPError):
            return error
        error = error.__cause__ or error.__context__
    return None
