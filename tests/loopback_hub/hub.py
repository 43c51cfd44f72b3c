"""The loopback Hub as a test holds it: what is in it, what it is asked, how it misbehaves."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, RLock

import pytest

from tests.loopback_hub.clients import read_variables_again
from tests.loopback_hub.openid import OAuthApp
from tests.loopback_hub.repo import Repo

USER = "someone"
TOKEN = "hf_loopback"
READ_ONLY_TOKEN = "hf_readonly"
ROLES = {TOKEN: "write", READ_ONLY_TOKEN: "read"}


@dataclass
class Fault:
    """What goes wrong with the next requests of a path."""

    pattern: re.Pattern[str]
    times: int
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    message: str = ""
    after_bytes: int = 0
    gate: Event | None = None


@dataclass
class Hub:
    """Repositories by kind and id, and the faults to come."""

    address: str = ""
    seen: list[str] = field(default_factory=list)
    """Every request as "METHOD /path"."""
    ranges: list[str] = field(default_factory=list)
    """Every request for a part of a file as "/path bytes=10-"."""
    repos: dict[tuple[str, str], Repo] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    """What was uploaded outside of git, by SHA-256."""
    buckets: dict[str, str] = field(default_factory=dict)
    """From the id of a bucket to its visibility."""
    app: OAuthApp = field(default_factory=OAuthApp)
    """The one app that people sign in to."""
    lock: RLock = field(default_factory=RLock, repr=False)
    _failures: list[Fault] = field(default_factory=list, repr=False)
    _cuts: list[Fault] = field(default_factory=list, repr=False)
    _gates: list[Event] = field(default_factory=list, repr=False)

    def add(self, kind: str, name: str, files: dict[str, bytes], *, private: bool = False) -> Repo:
        """Put a repository there; its branch main has also the name v1."""
        repo = Repo(kind, name, private=private)
        repo.commit(files, "initial commit")
        repo.revisions["v1"] = repo.sha
        self.repos[kind, name] = repo
        return repo

    def add_folder(self, kind: str, name: str, folder: Path, *, private: bool = False) -> Repo:
        """Put a folder's files there."""
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        return self.add(kind, name, files, private=private)

    def repo(self, kind: str, name: str) -> Repo:
        """A repository; KeyError if there is none."""
        return self.repos[kind, name]

    def files(self, kind: str, name: str) -> dict[str, bytes]:
        """What a repository holds now."""
        return self.repo(kind, name).files

    def environment(self, home: Path, token: str = "") -> dict[str, str]:
        """All variables of a process that shall talk to this Hub, with its cache in `home`."""
        mine = {name: value for name, value in os.environ.items() if not _of_a_hub(name)}
        return {
            **mine,
            "HF_ENDPOINT": self.address,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_TOKEN": token,
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def enter(self, monkeypatch: pytest.MonkeyPatch, home: Path, token: str = "") -> None:
        """Let the clients in this process talk to this Hub, until the monkeypatch is undone."""
        for name, value in self.environment(home, token).items():
            monkeypatch.setenv(name, value)
        read_variables_again(monkeypatch.setattr)

    def fail(
        self,
        path_regex: str,
        status: int,
        times: int = 1,
        headers: dict[str, str] | None = None,
        message: str = "",
    ) -> None:
        """Answer the next requests of a path by an error.

        Args:
            path_regex: Is looked for in "/path" and in "METHOD /path".
            status: Such as 429.
            times: How often.
            headers: Such as `Retry-After`, or `X-Error-Code`.
            message: What the error says.
        """
        fault = Fault(re.compile(path_regex), times, status, headers or {}, message)
        self._failures.append(fault)

    def cut(self, path_regex: str, after_bytes: int, times: int = 1) -> None:
        """Close the connection in the middle of the bodies of the next GET, PUT or POST."""
        self._cuts.append(Fault(re.compile(path_regex), times, after_bytes=after_bytes))

    def hold(self, path_regex: str, after_bytes: int, times: int = 1) -> Event:
        """Stop sending in the middle of the bodies of the next GET, until the event is set."""
        gate = Event()
        self._gates.append(gate)
        fault = Fault(re.compile(path_regex), times, after_bytes=after_bytes, gate=gate)
        self._cuts.append(fault)
        return gate

    def let_go(self) -> None:
        """Go on with all that is held."""
        for gate in self._gates:
            gate.set()

    def failure_of(self, method: str, path: str) -> Fault | None:
        """The error this request shall meet, if any; counts it."""
        return self._next(self._failures, method, path)

    def cut_of(self, method: str, path: str) -> Fault | None:
        """Where this request's body shall be cut or held, if anywhere; counts it."""
        return self._next(self._cuts, method, path)

    def _next(self, faults: list[Fault], method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in faults:
                if fault.pattern.search(path) or fault.pattern.search(f"{method} {path}"):
                    fault.times -= 1
                    if fault.times <= 0:
                        faults.remove(fault)
                    return fault
        return None


def _of_a_hub(name: str) -> bool:
    return name.startswith(("HF_", "HUGGING_FACE_", "HUGGINGFACE_", "TRANSFORMERS_OFFLINE"))
