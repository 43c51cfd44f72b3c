"""What the Hub has under a name now."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from qa_lora.publishing.collect import CARD
from qa_lora.publishing.refusals import TIMEOUT_SECONDS, api_for, explain

__all__ = ["Remote", "is_same", "look_up"]

BY_THE_HUB = (".gitattributes",)
"""What the Hub itself puts into a new repository."""


@dataclass(frozen=True)
class Remote:
    """A repository as it is."""

    exists: bool
    private: bool = False
    head: str | None = None
    """The commit that the branch is at."""
    branch: bool = True
    """Whether it has the branch that is asked for."""
    files: dict[str, str] = field(default_factory=dict)
    """By name, what git or, of a large file, SHA-256 calls its content."""
    card: str = ""

    @property
    def empty(self) -> bool:
        """Whether nobody has put anything there."""
        return all(name in BY_THE_HUB for name in self.files)


def look_up(repo_id: str, token: str | None, revision: str | None = None) -> Remote:
    """Ask the Hub about a model repository.

    Raises:
        PublishError: If it cannot be asked.
    """
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    api = api_for(token)
    branch = True
    try:
        try:
            info = api.model_info(
                repo_id, revision=revision, files_metadata=True, timeout=TIMEOUT_SECONDS
            )
        except RevisionNotFoundError:
            branch = False
            info = api.model_info(repo_id, files_metadata=True, timeout=TIMEOUT_SECONDS)
    except RepositoryNotFoundError:
        return Remote(exists=False)
    except Exception as error:  # of several libraries
        raise explain(error, repo_id) from None
    files = {
        each.rfilename: each.lfs.sha256 if each.lfs else each.blob_id or ""
        for each in info.siblings or []
    }
    card = ""
    if CARD in files:
        try:
            path = api.hf_hub_download(repo_id, CARD, revision=info.sha)
            card = Path(path).read_bytes().decode("utf-8", "replace")
        except Exception as error:  # of several libraries
            raise explain(error, repo_id) from None
    return Remote(True, bool(info.private), info.sha, branch, files, card)


def is_same(content: bytes | Path, known: str) -> bool:
    """Whether a file's content is what the Hub has under this digest."""
    data = content.read_bytes() if isinstance(content, Path) else content
    if len(known) == 64:
        return hashlib.sha256(data).hexdigest() == known
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() == known
