"""What changes repositories: creating, uploading, committing, renaming, deleting."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

from tests.loopback_hub.hub import USER
from tests.loopback_hub.repo import Repo, blob_id, is_lfs

if TYPE_CHECKING:
    from tests.loopback_hub.server import Handler


def create(handler: Handler) -> None:
    """A new repository, of a Space with all that it is to start with."""
    handler.must_write()
    asked = handler.json()
    kind = asked.get("type") or "model"
    name = f"{asked.get('organization') or USER}/{asked['name']}"
    old = handler.hub.repos.get((kind, name))
    if old is not None:
        said = {"error": f"You already created this {kind} repo", "url": _url(handler, old)}
        handler.send(409, said)
    files = {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}
    private = asked.get("visibility") == "private" or bool(asked.get("private"))
    repo = handler.hub.add(kind, name, files, private=private)
    if handler.token in handler.hub.app.tokens:
        handler.hub.app.made.add((kind, name))
    repo.sdk = asked.get("sdk")
    repo.secrets = {each["key"]: each["value"] for each in asked.get("secrets", [])}
    repo.variables = {each["key"]: each["value"] for each in asked.get("variables", [])}
    repo.hardware = asked.get("hardware") or repo.hardware
    repo.sleep_time = asked.get("sleepTimeSeconds")
    repo.volumes = asked.get("volumes") or []
    handler.send(200, {"url": _url(handler, repo), "name": name, "id": "0" * 24})


def create_bucket(handler: Handler, name: str) -> None:
    """A new bucket, to be mounted into Spaces; nothing can be put in here."""
    handler.must_write()
    there = name in handler.hub.buckets
    if not there:
        handler.hub.buckets[name] = handler.json().get("visibility", "public")
    url = f"{handler.hub.address}/buckets/{name}"
    handler.send(409 if there else 200, {"url": url, "error": "it is there already"})


def delete(handler: Handler) -> None:
    """Take a repository away."""
    handler.must_write()
    asked = handler.json()
    name = f"{asked.get('organization') or USER}/{asked['name']}"
    repo = handler.find(asked.get("type") or "model", name)
    del handler.hub.repos[repo.kind, repo.id]
    handler.send(200, {})


def move(handler: Handler) -> None:
    """Give a repository another name."""
    handler.must_write()
    asked = handler.json()
    repo = handler.find(asked.get("type") or "model", asked["fromRepo"])
    if (repo.kind, asked["toRepo"]) in handler.hub.repos:
        handler.send(409, {"error": "there is a repository of that name"})
    del handler.hub.repos[repo.kind, repo.id]
    repo.id = asked["toRepo"]
    handler.hub.repos[repo.kind, repo.id] = repo
    handler.send(200, {})


def change(handler: Handler, repo: Repo, verb: str, rest: str) -> None:
    """The steps of an upload, and a repository's settings."""
    if verb == "preupload":
        ignored = {"uploadMode": "regular", "shouldIgnore": False}
        handler.send(200, {"files": [
            ignored | {
                "path": file["path"],
                "uploadMode": "lfs" if is_lfs(file["path"], file["size"]) else "regular",
                "oid": blob_id(repo.files[file["path"]]) if file["path"] in repo.files else None,
            }
            for file in handler.json()["files"]
        ]})  # fmt: skip
    elif verb == "settings":
        asked = handler.json()
        if "visibility" in asked:
            repo.private = asked["visibility"] == "private"
        repo.gated = bool(asked.get("gated", repo.gated))
        handler.send(200, {})
    elif verb == "commit":
        _commit(handler, repo, rest)
    elif (verb, rest) == ("info", "lfs/objects/batch"):
        objects = handler.json()["objects"]
        said = {"transfer": "basic", "objects": [_instruct(handler, each) for each in objects]}
        handler.send(200, said, {"Content-Type": "application/vnd.git-lfs+json"})
    else:
        handler.send(404, {"error": "there is nothing here"})


def receive_large(handler: Handler, rest: str) -> None:
    """A file outside of git; its address is its permission, as on the Hub."""
    if rest == "verify":
        handler.must_write()
        known = handler.json()["oid"] in handler.hub.blobs
        handler.send(200 if known else 404, {})
    oid = hashlib.sha256(handler.body).hexdigest()
    if oid != rest:
        handler.send(400, {"error": "the bytes are not those that were announced"})
    handler.hub.blobs[oid] = handler.body
    handler.send(200)


def _instruct(handler: Handler, asked: dict[str, Any]) -> dict[str, Any]:
    said = {"oid": asked["oid"], "size": asked["size"]}
    if asked["oid"] not in handler.hub.blobs:
        upload = {"href": f"{handler.hub.address}/lfs/{asked['oid']}", "header": {}}
        verify = {"href": f"{handler.hub.address}/lfs/verify", "header": {}}
        said["actions"] = {"upload": upload, "verify": verify}
    return said


def _commit(handler: Handler, repo: Repo, revision: str) -> None:
    if repo.at(revision) is None:
        said = {"error": f"Invalid rev id: {revision}"}
        handler.send(404, said, {"X-Error-Code": "RevisionNotFound"})
    files, header = dict(repo.files), {}
    for line in handler.body.splitlines():
        item = json.loads(line)
        key, value = item["key"], item["value"]
        if key == "header":
            header = value
        elif key == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif key == "lfsFile" and value["oid"] in handler.hub.blobs:
            files[value["path"]] = handler.hub.blobs[value["oid"]]
        elif key == "deletedFile" and value["path"] in files:
            del files[value["path"]]
        elif key == "deletedFolder":
            folder = value["path"].rstrip("/") + "/"
            files = {name: data for name, data in files.items() if not name.startswith(folder)}
        else:
            handler.send(400, {"error": f"{key} {value.get('path')} cannot be committed"})
    if header.get("parentCommit", repo.sha) != repo.sha:
        handler.send(412, {"error": "A commit has happened since. Please refresh and try again."})
    said: dict[str, Any] = {"success": True, "hookOutput": ""}
    if handler.query.get("create_pr") == ["1"]:
        repo.pull_requests.append({"title": header["summary"], "files": files})
        number = len(repo.pull_requests)
        oid = hashlib.sha1(f"{repo.id} {number}".encode()).hexdigest()
        said["pullRequestUrl"] = f"{_url(handler, repo)}/discussions/{number}"
    else:
        oid = repo.commit(files, header["summary"])
    handler.send(200, {
        **said, "commitOid": oid, "commitUrl": f"{_url(handler, repo)}/commit/{oid}",
    })  # fmt: skip


def _url(handler: Handler, repo: Repo) -> str:
    return f"{handler.hub.address}/{repo.prefix}{repo.id}"
