"""A small Hub of data sets on this machine, which the real clients talk to."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_loopback"


class Handler(BaseHTTPRequestHandler):
    """Answers for the repositories in `repos`: id -> path -> bytes; those in `private` by token."""

    repos: ClassVar[dict[str, dict[str, bytes]]] = {}
    private: ClassVar[set[str]] = set()
    seen: ClassVar[list[str]] = []
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.seen.append(f"{self.command} {path}")
        match = re.match(r"/(?:api/)?datasets/(?P<repo>[^/]+/[^/]+)(?:/(?P<rest>.*))?$", path)
        files = self.repos.get(match["repo"]) if match else None
        if match is None or files is None or not self.may_read(match["repo"]):
            self.send(401, b"{}", {"X-Error-Code": "RepoNotFound"})
            return
        verb, _, rest = (match["rest"] or "").partition("/")
        revision, _, file = rest.partition("/")
        if verb in ("resolve", "tree", "paths-info", "revision") and revision not in (
            "main", "v1", COMMIT,
        ):  # fmt: skip
            self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif not path.startswith("/api/"):
            self.send_file(files.get(file))
        elif verb in ("", "revision"):
            names = [{"rfilename": name} for name in files]
            info = {
                "id": match["repo"],
                "sha": COMMIT,
                "siblings": names,
                "tags": [],
                "private": False,
            }
            self.send(200, json.dumps(info).encode())
        elif verb == "tree":
            self.send_tree(files, f"{file}/" if file else "")
        elif verb == "paths-info":
            asked = parse_qs(body).get("paths", [])
            if body.startswith("{"):
                asked = json.loads(body)["paths"]
            found = [name for name in files if name in asked]
            self.send(200, json.dumps(self.entries(found)).encode())
        else:
            self.send(404, b"{}")

    def may_read(self, repo: str) -> bool:
        return repo not in self.private or self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def entries(self, names: list[str]) -> list[dict[str, Any]]:
        files = {name: data for repo in self.repos.values() for name, data in repo.items()}
        return [
            {"type": "file", "path": name, "size": len(files[name]), "oid": _oid(files[name])}
            for name in names
        ]

    def send_tree(self, files: dict[str, bytes], folder: str) -> None:
        inside = [name for name in files if name.startswith(folder)]
        if not inside:
            self.send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
            return
        entries = []
        if "recursive" not in urlsplit(self.path).query.lower().replace("recursive=false", ""):
            below = {
                name[len(folder) :].split("/")[0] for name in inside if "/" in name[len(folder) :]
            }
            entries = [
                {"type": "directory", "path": folder + name, "oid": "0" * 40, "size": 0}
                for name in sorted(below)
            ]
            inside = [name for name in inside if "/" not in name[len(folder) :]]
        self.send(200, json.dumps([*entries, *self.entries(inside)]).encode())

    def send_file(self, data: bytes | None) -> None:
        headers = {"X-Repo-Commit": COMMIT}
        if data is None:
            self.send(404, b"", {**headers, "X-Error-Code": "EntryNotFound"})
            return
        headers |= {"ETag": f'"{_oid(data)}"', "Accept-Ranges": "bytes"}
        part = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if part is None:
            self.send(200, data, headers)
            return
        first, last = int(part[1]), min(int(part[2] or len(data)), len(data) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        self.send(206, data[first : last + 1], headers)

    def send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _oid(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@contextmanager
def loopback_hub(
    repos: dict[str, dict[str, bytes]], private: set[str]
) -> Iterator[tuple[str, list[str]]]:
    """Serve data sets; gives the address, and the list of what is asked for."""
    seen: list[str] = []
    handler = type("Here", (Handler,), {"repos": repos, "private": private, "seen": seen})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
