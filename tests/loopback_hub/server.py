"""How the loopback Hub answers: who may, what goes wrong, and which part of it is meant."""

from __future__ import annotations

import json
import re
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from tests.loopback_hub import openid, reading, spaces, writing
from tests.loopback_hub.hub import ROLES, USER, Fault, Hub
from tests.loopback_hub.repo import Repo, front_matter

REPO_PATH = re.compile(
    r"/(?P<api>api/)?(?:(?P<kind>models|datasets|spaces)/)?(?P<repo>[^/]+/[^/]+?)"
    r"(?P<git>\.git)?(?:/(?P<rest>.*))?$"
)
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


class Answered(Exception):  # noqa: N818 - no error
    """The request has its answer."""


class Handler(BaseHTTPRequestHandler):
    """One request after another of one connection."""

    hub: ClassVar[Hub]
    protocol_version = "HTTP/1.1"
    body: bytes
    path_only: str
    query: dict[str, list[str]]

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.path_only = unquote(urlsplit(self.path).path)
        self.query = parse_qs(urlsplit(self.path).query)
        self.hub.seen.append(f"{self.command} {self.path_only}")
        try:
            self.read_body()
            self.fail_if_told()
            self.answer()
        except Answered:
            pass
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - named by the server

    def read_body(self) -> None:
        cut = None
        if self.command in ("PUT", "POST"):
            cut = self.hub.cut_of(self.command, self.path_only)
        if cut is not None:
            self.rfile.read(min(cut.after_bytes, int(self.headers.get("Content-Length") or 0)))
            self.close_connection = True
            raise Answered
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            self.body = b"".join(parts)
        else:
            self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def fail_if_told(self) -> None:
        fault = self.hub.failure_of(self.command, self.path_only)
        if fault is not None:
            said = {"error": fault.message or f"the loopback Hub answers {fault.status}"}
            self.send(fault.status, said, fault.headers)

    def answer(self) -> None:
        simple = {
            "/api/whoami-v2": self.who_am_i,
            "/api/validate-yaml": self.validate_card,
            "/api/repos/create": lambda: writing.create(self),
            "/api/repos/delete": lambda: writing.delete(self),
            "/api/repos/move": lambda: writing.move(self),
            "/api/spaces/hardware": lambda: spaces.list_hardware(self),
        }
        if self.path_only in simple:
            simple[self.path_only]()
        openid.answer(self)
        if self.path_only.startswith("/lfs/"):
            writing.receive_large(self, self.path_only.removeprefix("/lfs/"))
        if self.path_only.startswith("/api/buckets/"):
            writing.create_bucket(self, self.path_only.removeprefix("/api/buckets/"))
        match = REPO_PATH.match(self.path_only)
        if match is None:
            self.send(404, {"error": "there is nothing here"})
        repo = self.find((match["kind"] or "models").removesuffix("s"), match["repo"])
        verb, _, rest = (match["rest"] or "").partition("/")
        if match["git"] or (match["api"] and verb in ("preupload", "commit", "settings")):
            self.must_write(repo)
            writing.change(self, repo, verb, rest)
        if match["api"] and repo.kind == "space" and verb in spaces.VERBS:
            if self.command != "GET":
                self.must_write()
            spaces.answer(self, repo, verb, rest)
        reading.answer(self, repo, verb, rest, api=bool(match["api"]))

    def send(
        self,
        status: int,
        said: bytes | dict[str, Any] | list[Any] = b"",
        headers: dict[str, str] | None = None,
        cut: Fault | None = None,
    ) -> None:
        """Answer, and be done with the request."""
        data = said if isinstance(said, bytes) else json.dumps(said).encode()
        headers = {"Content-Length": str(len(data)), **(headers or {})}
        if not isinstance(said, bytes):
            headers = {"Content-Type": "application/json; charset=utf-8", **headers}
            if status >= 400 and isinstance(said, dict):
                headers.setdefault("X-Error-Message", str(said.get("error", "")))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD" and cut is None:
            self.wfile.write(data)
        elif self.command != "HEAD" and cut is not None:
            self.wfile.write(data[: cut.after_bytes])
            self.wfile.flush()
            if cut.gate is None:
                self.close_connection = True
            else:
                cut.gate.wait()
                self.wfile.write(data[cut.after_bytes :])
        raise Answered

    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body or b"{}")
        return found

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    @property
    def role(self) -> str:
        """Write, read, or nothing for nobody; a token that nobody has is refused at once."""
        scopes = self.hub.app.tokens.get(self.token)
        if scopes is not None:
            return "write" if "contribute-repos" in scopes else "read"
        if self.token and self.token not in ROLES:
            self.send(401, {"error": "Invalid credentials in Authorization header"})
        return ROLES.get(self.token, "")

    def reaches(self, repo: Repo | None) -> bool:
        """Whether this token is for it: that of a sign-in is for what it created."""
        app = self.hub.app
        return repo is None or self.token not in app.tokens or (repo.kind, repo.id) in app.made

    def must_write(self, repo: Repo | None = None) -> None:
        if not self.role:
            self.send(401, {"error": "Invalid username or password."})
        if self.role != "write" or not self.reaches(repo):
            self.send(403, {"error": "You have no right to write here with this token"})

    def find(self, kind: str, name: str) -> Repo:
        """A repository this token may see; the Hub does not tell a private from a missing one."""
        repo = self.hub.repos.get((kind, name))
        role = self.role
        if repo is None or (repo.private and (role != "write" or not self.reaches(repo))):
            said = {"error": "Repository not found"}
            self.send(404 if role else 401, said, {"X-Error-Code": "RepoNotFound"})
            raise AssertionError
        return repo

    def who_am_i(self) -> None:
        if not self.role:
            self.send(401, {"error": "Invalid username or password."})
        token = {"displayName": "loopback", "role": self.role}
        self.send(200, {
            "type": "user", "id": "0" * 24, "name": USER, "fullname": "Some One",
            "isPro": False, "orgs": [{"type": "org", "name": "team", "roleInOrg": "write"}],
            "auth": {"type": "oauth", "expiresAt": "2100-01-01T00:00:00.000Z"}
            if self.token in self.hub.app.tokens
            else {"type": "access_token", "accessToken": token},
        })  # fmt: skip

    def validate_card(self) -> None:
        asked = self.json()
        card, wrong = front_matter(asked["content"])
        errors = [wrong] if wrong else []
        if asked.get("repoType") == "space" and card:
            if card.get("sdk") not in ("gradio", "docker", "static"):
                errors.append('"sdk" must be one of [gradio, docker, static]')
            errors += [
                f'"{key}" must be one of [{", ".join(sorted(COLOURS))}]'
                for key in ("colorFrom", "colorTo")
                if card.get(key, "red") not in COLOURS
            ]
            if len(str(card.get("short_description", ""))) > 60:
                errors.append('"short_description" length must be less than or equal to 60')
        warnings = [] if card else [{"message": "empty or missing yaml metadata in repo card"}]
        said = {"errors": [{"message": error} for error in errors], "warnings": warnings}
        self.send(400 if errors else 200, said)
