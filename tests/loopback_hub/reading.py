"""What can be read of a repository: its description, its list of files, the files."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from tests.loopback_hub.repo import Repo, blob_id, is_lfs

if TYPE_CHECKING:
    from tests.loopback_hub.server import Handler


def answer(handler: Handler, repo: Repo, verb: str, rest: str, *, api: bool) -> None:
    """Send what is asked for."""
    revision, _, file = rest.partition("/")
    found = repo.at(revision or "main")
    if found is None:
        said = {"error": f"Invalid rev id: {revision}"}
        handler.send(404, said, {"X-Error-Code": "RevisionNotFound"})
        return
    sha, files = found
    if not api and verb == "resolve":
        _file(handler, repo, sha, file, files.get(file))
    elif api and verb in ("", "revision"):
        blobs = handler.query.get("blobs", ["false"])[0].lower() in ("true", "1")
        handler.send(200, repo.info(sha, files, blobs=blobs))
    elif api and verb == "tree":
        _tree(handler, repo, files, f"{file}/" if file else "")
    elif api and verb == "paths-info":
        text = handler.body.decode()
        asked = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text)["paths"]
        handler.send(200, [repo.entry(name, files[name]) for name in files if name in asked])
    elif api and verb == "refs":
        branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.sha}
        handler.send(200, {"branches": [branch], "tags": [], "converts": []})
    elif api and verb == "commits":
        listed = zip(repo.history, repo.commits, strict=True)
        handler.send(200, [
            {"id": sha, "title": message, "message": "", "authors": [],
             "date": "2026-01-01T00:00:00.000Z"}
            for sha, message in reversed([*listed])
        ])  # fmt: skip
    elif api and verb == "auth-check":
        if rest == "write":
            handler.must_write()
        handler.send(200, {})
    else:
        handler.send(404, {"error": "there is nothing here"})


def _tree(handler: Handler, repo: Repo, files: dict[str, bytes], folder: str) -> None:
    inside = [name for name in files if name.startswith(folder)]
    if not inside and folder:
        said = {"error": f"{folder} does not exist"}
        handler.send(404, said, {"X-Error-Code": "EntryNotFound"})
    entries: list[dict[str, Any]] = []
    if handler.query.get("recursive", ["false"])[0].lower() == "false":
        below = {name[len(folder) :].split("/")[0] for name in inside if "/" in name[len(folder) :]}
        entries = [
            {"type": "directory", "path": folder + name, "oid": "0" * 40, "size": 0}
            for name in sorted(below)
        ]
        inside = [name for name in inside if "/" not in name[len(folder) :]]
    handler.send(200, [*entries, *(repo.entry(name, files[name]) for name in inside)])


def _file(handler: Handler, repo: Repo, sha: str, name: str, data: bytes | None) -> None:
    headers = {"X-Repo-Commit": sha}
    if repo.gated:
        said = {"error": f"Access to {repo.kind} {repo.id} is restricted"}
        handler.send(403, said, {**headers, "X-Error-Code": "GatedRepo"})
    if data is None:
        said = {"error": f"{name} does not exist"}
        handler.send(404, said, {**headers, "X-Error-Code": "EntryNotFound"})
        return
    etag = blob_id(data)
    if is_lfs(name, len(data)):
        etag = hashlib.sha256(data).hexdigest()
        headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(data))}
    headers |= {"ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
    cut = None
    if handler.command == "GET":
        cut = handler.hub.cut_of("GET", handler.path_only)
    asked = handler.headers.get("Range") or ""
    if asked:
        handler.hub.ranges.append(f"{handler.path_only} {asked}")
    part = re.match(r"bytes=(\d+)-(\d*)", asked)
    if part is None:
        handler.send(200, data, headers, cut)
        return
    first, last = int(part[1]), min(int(part[2] or len(data)), len(data) - 1)
    if first >= len(data):
        handler.send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
    headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
    handler.send(206, data[first : last + 1], headers, cut)
