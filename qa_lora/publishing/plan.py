"""What publishing would do, before anything is done."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from qa_lora.errors import PublishError, shorten
from qa_lora.publishing.collect import CARD, collect, made_by, mark_of
from qa_lora.publishing.refusals import whoami
from qa_lora.publishing.remote import Remote, is_same, look_up
from qa_lora.runs import Run
from qa_lora.secrets import Finding, find_secrets

__all__ = ["Plan", "PlannedFile", "check", "plan"]

REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}", re.ASCII)
REVISION = re.compile(r"[A-Za-z0-9_][\w./-]{0,99}", re.ASCII)
LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,49}")


@dataclass(frozen=True)
class PlannedFile:
    """One file that would be uploaded."""

    name: str
    size: int
    change: Literal["new", "changed", "same", "unknown"]
    """Against the repository as it is now; unknown if the Hub could not be asked."""
    findings: tuple[Finding, ...]
    content: bytes | Path
    digest: str
    """The SHA-256 of what was looked at."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, without the content."""
        return {"name": self.name, "size": self.size, "change": self.change}


@dataclass(frozen=True)
class Plan:
    """All that would be uploaded, and where."""

    run: str
    repo_id: str
    exists: bool | None
    """Whether the repository is there; None if the Hub could not be asked."""
    private: bool
    """Whether only its owner will see it."""
    account: str | None
    """Whose token it is; None without one."""
    files: tuple[PlannedFile, ...]
    notes: tuple[str, ...]
    """Sentences on what should be known."""
    asks: tuple[str, ...]
    """Sentences on what needs a second yes: something of another origin would be replaced."""
    exposes: bool = False
    """Whether it was to be private, but the repository that is there is public."""
    head: str | None = None
    branch: str | None = None
    """The branch that is written to; None for main."""
    new_branch: bool = False

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Of all files: what must not leave this machine."""
        return tuple(finding for file in self.files for finding in file.findings)

    @property
    def card(self) -> str:
        """The text of the model card."""
        (content,) = (file.content for file in self.files if file.name == CARD)
        assert isinstance(content, bytes)
        return content.decode()

    @property
    def changes(self) -> tuple[PlannedFile, ...]:
        """The files that the repository does not have yet as they are."""
        return tuple(file for file in self.files if file.change != "same")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "run": self.run,
            "repo": self.repo_id,
            "exists": self.exists,
            "private": self.private,
            "account": self.account,
            "files": [file.to_dict() for file in self.files],
            "findings": [vars(finding) for finding in self.findings],
            "notes": list(self.notes),
            "asks": list(self.asks),
        }


def plan(
    run: Run,
    repo_id: str,
    *,
    token: str | None,
    private: bool = True,
    licence: str = "",
    revision: str | None = None,
    examples: int | None = None,
    offline: bool = False,
) -> Plan:
    """Look at a run and at the Hub; nothing is written anywhere.

    Args:
        run: A run with an adapter.
        repo_id: USER/NAME.
        token: The account that publishes; None looks as nobody.
        private: Whether a new repository is seen by its owner alone.
        licence: Of the adapter, as the Hub calls it, such as apache-2.0.
        revision: Another branch than main.
        examples: How many held-out questions the card shows with their answers; if None a few, but
            none of data that lies on this machine alone.
        offline: Be content if the Hub cannot be reached: the plan then says nothing of what is
            there.

    Raises:
        PublishError: If the adapter or the names cannot be used, or the Hub cannot be asked.
        RunError: If the run is damaged.
    """
    _check_names(repo_id, licence, revision)
    collected = collect(run, repo_id, licence=licence, examples=examples)
    notes = list(collected.notes)
    remote: Remote | None = None
    account: str | None = None
    try:
        account = whoami(token)
        remote = look_up(repo_id, token, revision)
    except PublishError as error:
        if not offline:
            raise
        notes.append(f"What is there now is not known: {error}")
    if remote is not None and account is None and not remote.exists:
        notes.append("Nobody is logged in, so a private repository of that name is not seen.")
    asks = _asks(run, repo_id, remote)
    if remote is not None and remote.exists and remote.private and not private:
        notes.append("The repository is private, and stays so; its settings on the Hub change it.")
    files = tuple(
        PlannedFile(
            name,
            content.stat().st_size if isinstance(content, Path) else len(content),
            _change(name, content, remote),
            tuple(_findings(name, content, run)),
            content,
            collected.digests[name],
        )
        for name, content in sorted(collected.files.items())
    )
    exists = None if remote is None else remote.exists
    return Plan(
        run=run.id,
        repo_id=repo_id,
        exists=exists,
        private=remote.private if remote is not None and remote.exists else private,
        account=account,
        files=files,
        notes=tuple(notes),
        asks=asks,
        exposes=private and remote is not None and remote.exists and not remote.private,
        head=remote.head if remote is not None and remote.branch else None,
        branch=None if revision in (None, "", "main") else revision,
        new_branch=remote is None or not remote.exists or not remote.branch,
    )


def check(plan: Plan, *, update: bool = False) -> None:
    """Refuse a plan that would give something away or replace what is not its own.

    Args:
        plan: What is to be uploaded.
        update: Whether replacing was agreed to.

    Raises:
        PublishError: With the first reason.
    """
    if plan.findings:
        more = f", and {len(plan.findings) - 1} more" if len(plan.findings) > 1 else ""
        raise PublishError(
            f"Not published, for this would leave the machine: {plan.findings[0]}{more}.",
            "Take it out of the run's adapter folder, or with examples off, out of the card.",
        )
    if plan.exposes:
        raise PublishError(
            f"{plan.repo_id} is public: everybody would see what is uploaded.",
            "Say so (--public), take another name, or make it private on the Hub.",
        )
    if plan.asks and not update:
        raise PublishError(" ".join(plan.asks), "Say --update if it shall be so.")


def _check_names(repo_id: str, licence: str, revision: str | None) -> None:
    name = repo_id.rpartition("/")[2]
    if not REPO_ID.fullmatch(repo_id) or ".." in name or "--" in name or name.endswith((".", "-")):
        raise PublishError(
            f"{shorten(repo_id) or 'An empty name'} cannot be the id of a repository.",
            "Give it as USER/NAME, such as me/my-qa.",
        )
    if licence and not LICENCE.fullmatch(licence):
        raise PublishError(
            f"{shorten(licence)} is no licence as the Hub calls them.",
            "Such are apache-2.0, mit and cc-by-4.0.",
        )
    if revision and (not REVISION.fullmatch(revision) or ".." in revision):
        raise PublishError(f"{shorten(revision)} cannot be the name of a branch.")


def _asks(run: Run, repo_id: str, remote: Remote | None) -> tuple[str, ...]:
    if remote is None or not remote.exists or remote.empty:
        return ()
    asks = []
    made = made_by(remote.card)
    if made is None:
        asks.append(f"{repo_id} holds something else; files of the same names would be replaced.")
    elif made[0] != mark_of(run.id):
        asks.append(f"{repo_id} holds the adapter of another run, {made[0]}.")
    elif not made[1]:
        asks.append(f"The card of {repo_id} was edited there, and would be replaced.")
    return tuple(asks)


def _change(
    name: str, content: bytes | Path, remote: Remote | None
) -> Literal["new", "changed", "same", "unknown"]:
    if remote is None:
        return "unknown"
    known = remote.files.get(name)
    if known is None:
        return "new"
    return "same" if is_same(content, known) else "changed"


def _findings(name: str, content: bytes | Path, run: Run) -> list[Finding]:
    data = content.read_bytes() if isinstance(content, Path) else content
    return find_secrets(name, data, [run.path, run.path.parent])
