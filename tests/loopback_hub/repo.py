"""What the loopback Hub knows of one repository."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import yaml

LFS_BYTES = 10_000_000
LFS_ENDINGS = (".safetensors", ".bin", ".pt", ".parquet", ".zip", ".arrow", ".gz", ".png")


@dataclass
class Repo:
    """A repository with its history; of a Space also how it runs."""

    kind: str
    """"model", "dataset" or "space"."""
    id: str
    files: dict[str, bytes] = field(default_factory=dict)
    private: bool = False
    gated: bool = False
    """Whether its files are given only to who has accepted its terms: here to nobody."""
    commits: list[str] = field(default_factory=list)
    """Messages, the oldest first."""
    history: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """From a commit to the files it left."""
    revisions: dict[str, str] = field(default_factory=dict)
    """From the name of a branch or tag to its commit."""
    pull_requests: list[dict[str, Any]] = field(default_factory=list)
    """Each with `title` and `files`."""

    sdk: str | None = None
    secrets: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    descriptions: dict[str, str] = field(default_factory=dict)
    hardware: str = "cpu-basic"
    sleep_time: int | None = None
    volumes: list[dict[str, Any]] = field(default_factory=list)
    runtime_stage: str = "NO_APP_FILE"
    build: list[str] = field(default_factory=lambda: ["BUILDING", "RUNNING"])
    """The stages after a commit: each look at the runtime moves it on by one."""
    upcoming: list[str] = field(default_factory=list)
    running: str | None = None
    """The commit of a Space that runs."""
    logs: dict[str, list[str]] = field(default_factory=lambda: {"build": [], "run": []})

    @property
    def sha(self) -> str:
        """The newest commit of main."""
        return self.revisions["main"]

    @property
    def prefix(self) -> str:
        """What stands before its id in an address: nothing for a model."""
        return "" if self.kind == "model" else f"{self.kind}s/"

    def commit(self, files: dict[str, bytes], message: str) -> str:
        """Give main new files; the name of the commit."""
        said = f"{self.kind} {self.id} {len(self.history)} {message}"
        sha = hashlib.sha1(said.encode()).hexdigest()
        self.files = dict(files)
        self.history[sha] = dict(files)
        self.revisions["main"] = sha
        self.commits.append(message)
        if self.kind == "space" and message != "initial commit":
            self.upcoming = list(self.build)
            self.look_at_runtime()
        return sha

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Commit and files of a branch, a tag or a commit."""
        sha = self.revisions.get(revision, revision)
        return (sha, self.history[sha]) if sha in self.history else None

    def entry(self, name: str, data: bytes) -> dict[str, Any]:
        """A file as a tree lists it."""
        found = {"type": "file", "path": name, "size": len(data), "oid": blob_id(data)}
        if is_lfs(name, len(data)):
            oid = hashlib.sha256(data).hexdigest()
            found["lfs"] = {"oid": oid, "size": len(data), "pointerSize": 134}
        return found

    def info(self, sha: str, files: dict[str, bytes], *, blobs: bool) -> dict[str, Any]:
        """What the Hub says of it."""
        siblings: list[dict[str, Any]] = []
        for name, data in files.items():
            sibling: dict[str, Any] = {"rfilename": name}
            if blobs:
                sibling |= {"size": len(data), "blobId": blob_id(data)}
                lfs = self.entry(name, data).get("lfs")
                if lfs:
                    sibling["lfs"] = {"sha256": lfs["oid"], "size": len(data), "pointerSize": 134}
            siblings.append(sibling)
        card, _ = front_matter(files.get("README.md", b"").decode("utf-8", "replace"))
        said: dict[str, Any] = {
            "_id": sha[:24],
            "id": self.id,
            "author": self.id.split("/")[0],
            "sha": sha,
            "private": self.private,
            "gated": "manual" if self.gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "createdAt": "2026-01-01T00:00:00.000Z",
            "lastModified": "2026-01-01T00:00:00.000Z",
            "cardData": card,
            "siblings": siblings,
        }
        if self.kind == "model":
            said |= {"modelId": self.id}
        if self.kind == "space":
            said |= {"sdk": self.sdk, "runtime": self.runtime(), "subdomain": "loopback"}
        return said

    def look_at_runtime(self) -> dict[str, Any]:
        """How the Space is, after moving on to its next stage if one is due."""
        if self.upcoming:
            self.runtime_stage = self.upcoming.pop(0)
            if self.runtime_stage == "RUNNING":
                self.running = self.sha
        return self.runtime()

    def runtime(self) -> dict[str, Any]:
        """How the Space is."""
        return {
            "stage": self.runtime_stage,
            **({"sha": self.running} if self.running else {}),
            "hardware": {"current": self.hardware, "requested": self.hardware},
            "gcTimeout": self.sleep_time,
            "storage": None,
            "volumes": self.volumes,
        }


def blob_id(data: bytes) -> str:
    """The name git gives to these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def is_lfs(name: str, size: int) -> bool:
    """Whether the Hub keeps a file outside of git."""
    return name.endswith(LFS_ENDINGS) or size > LFS_BYTES


def front_matter(text: str) -> tuple[dict[str, Any], str]:
    """The YAML block of a README, and what is wrong with it."""
    if not text.startswith("---\n"):
        return {}, ""
    block, end, _ = text[4:].partition("\n---")
    if not end:
        return {}, "the YAML block has no end"
    try:
        found = yaml.safe_load(block)
    except yaml.YAMLError as error:
        return {}, str(error)
    if found is None:
        return {}, ""
    return (found, "") if isinstance(found, dict) else ({}, "the YAML block is no mapping")
