"""Carry a plan out: one commit, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qa_lora.errors import PublishError
from qa_lora.publishing.plan import Plan, PlannedFile, check
from qa_lora.publishing.refusals import LOGIN, api_for, explain

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

__all__ = ["Published", "upload"]


@dataclass(frozen=True)
class Published:
    """Where it is now."""

    url: str
    """Of the repository, or of the pull request."""
    private: bool
    files: int
    """How many were uploaded; none if the repository had them all."""


def upload(
    plan: Plan,
    token: str | None,
    *,
    update: bool = False,
    message: str = "",
    pull_request: bool = False,
    tell: Callable[[str], None] = lambda sentence: None,
) -> Published:
    """Make the repository if it is not there, and put all files into it by one commit.

    What fails leaves main as it was, and the same call again completes it: large files that the
    Hub has already are not sent twice. No file is ever deleted.

    Args:
        plan: What is to be uploaded; nothing must have changed there since it was made.
        token: Of an account that may write there.
        update: Whether what the plan asks about was agreed to.
        message: Of the commit; made if empty.
        pull_request: Whether to propose it there instead of committing it.
        tell: Told what is being done.

    Raises:
        PublishError: If it would give something away, was not agreed to, or the Hub refuses it.
    """
    from huggingface_hub.utils.tqdm import disable_progress_bars

    check(plan, update=update)
    if not token:
        raise PublishError("Publishing needs a login.", LOGIN)
    disable_progress_bars()  # they would come between the sentences
    api = api_for(token)
    changes = plan.changes
    size = sum(file.size for file in changes)
    try:
        # The client reads a file's digest now, and the Hub takes no other content for it.
        operations = [_operation(file, plan) for file in changes]
        if not plan.exists:
            tell(f"Making {plan.repo_id}…")
            _create(api, plan)
        if plan.branch and plan.new_branch:
            api.create_branch(plan.repo_id, branch=plan.branch, exist_ok=True)
        url = f"{api.endpoint}/{plan.repo_id}"
        if plan.branch:
            url += f"/tree/{plan.branch}"
        if not changes:
            return Published(url, plan.private, 0)
        tell(f"Uploading {len(changes)} files, {size / 1e6:.1f} MB…")
        done = api.create_commit(
            plan.repo_id,
            operations,
            commit_message=message or _message(plan),
            revision=plan.branch,
            parent_commit=plan.head,
            create_pr=pull_request,
        )
    except Exception as error:  # of several libraries
        raise explain(error, plan.repo_id) from None
    return Published(done.pr_url or url, plan.private, len(changes))


def _operation(file: PlannedFile, plan: Plan) -> CommitOperationAdd:
    from huggingface_hub import CommitOperationAdd

    content = str(file.content) if isinstance(file.content, Path) else file.content
    try:
        found = CommitOperationAdd(file.name, content)
    except (OSError, ValueError):  # the run was deleted, or its adapter is just being replaced
        found = None
    if found is None or found.upload_info.sha256.hex() != file.digest:
        raise PublishError(
            f"The adapter of {plan.run} has changed since it was looked at.", "Look at it again."
        )
    return found


def _create(api: HfApi, plan: Plan) -> None:
    """Make the repository; one that somebody else has made meanwhile was not looked at."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        api.create_repo(plan.repo_id, private=plan.private)
    except HfHubHTTPError as error:
        if error.response.status_code != 409:
            raise
        raise PublishError(
            f"There is a repository {plan.repo_id} that was not there, or not seen, before.",
            "Look at it again, with a token that may read it, or take another name.",
        ) from None


def _message(plan: Plan) -> str:
    names = [file.name for file in plan.changes]
    if not plan.exists or all(file.change == "new" for file in plan.files):
        return "Add the adapter, its tokenizer, its prompt and its card"
    return f"Update {', '.join(names[:3])}{' and others' if len(names) > 3 else ''}"
