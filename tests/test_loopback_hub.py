"""The loopback Hub against the client as it is installed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, Volume, constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from tests.forked import Child
from tests.loopback_hub import READ_ONLY_TOKEN, TOKEN, USER, Hub


@pytest.fixture(autouse=True)
def _entered(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub.enter(monkeypatch, tmp_path / "home")
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50_000)


def api(hub: Hub, token: str | bool = TOKEN) -> HfApi:
    return HfApi(endpoint=hub.address, token=token)


def read_folder(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_what_is_uploaded_comes_back(hub: Hub, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "below").mkdir(parents=True)
    (mine / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    (mine / "adapter_model.safetensors").write_bytes(os.urandom(100_000))
    (mine / "below" / "empty.json").write_bytes(b"")
    me = api(hub)
    url = me.create_repo(f"{USER}/mine", private=True)
    assert str(url) == f"{hub.address}/{USER}/mine"
    assert me.create_repo(f"{USER}/mine", exist_ok=True) == url
    with pytest.raises(HfHubHTTPError, match="already created"):
        me.create_repo(f"{USER}/mine")
    done = me.upload_folder(repo_id=f"{USER}/mine", folder_path=mine, commit_message="all of it")

    repo = hub.repo("model", f"{USER}/mine")
    assert repo.private and repo.commits == ["initial commit", "all of it"]
    assert repo.sha == done.oid == me.model_info(f"{USER}/mine").sha
    got = Path(me.snapshot_download(f"{USER}/mine", cache_dir=tmp_path / "cache"))
    assert got.name == done.oid
    assert read_folder(got) == {**read_folder(mine), ".gitattributes": repo.files[".gitattributes"]}
    assert read_folder(got) == hub.files("model", f"{USER}/mine")
    assert me.model_info(f"{USER}/mine").card_data.license == "mit"

    def change(message: str, **more: Any) -> Any:
        operations = [
            CommitOperationDelete("below/", is_folder=True),
            CommitOperationAdd("b", b"b"),
        ]
        return me.create_commit(f"{USER}/mine", operations, commit_message=message, **more)

    with pytest.raises(HfHubHTTPError, match="412"):
        change("late", parent_commit="0" * 40)
    assert change("proposed", create_pr=True).pr_num == 1
    assert repo.pull_requests[0]["files"]["b"] == b"b"
    change("less", parent_commit=done.oid)
    assert sorted(repo.files) == [
        ".gitattributes", "README.md", "adapter_model.safetensors", "b",
    ]  # fmt: skip
    assert me.list_repo_files(f"{USER}/mine", revision=done.oid) != sorted(repo.files)
    assert next(iter(me.list_repo_commits(f"{USER}/mine"))).title == "less"
    me.delete_repo(f"{USER}/mine")
    assert not me.repo_exists(f"{USER}/mine")


def test_who_may(hub: Hub, tmp_path: Path) -> None:
    hub.add("model", "a/open", {"config.json": b"{}"})
    hub.add("model", "a/closed", {"config.json": b"{}"}, private=True)
    assert api(hub).whoami()["auth"]["accessToken"]["role"] == "write"
    assert api(hub, READ_ONLY_TOKEN).whoami()["auth"]["accessToken"]["role"] == "read"
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        api(hub, "hf_wrong").whoami()
    for token in (False, READ_ONLY_TOKEN):
        other = api(hub, token)
        assert other.model_info("a/open").id == "a/open"
        with pytest.raises(RepositoryNotFoundError):
            other.model_info("a/closed")
        with pytest.raises(HfHubHTTPError) as error:
            other.create_repo("a/mine")
        assert error.value.response.status_code == (403 if token else 401)
    with pytest.raises(HfHubHTTPError, match="no right to write"):
        other.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="a/open")
    with pytest.raises(EntryNotFoundError):
        api(hub).hf_hub_download("a/open", "gone.json", cache_dir=tmp_path)
    api(hub).update_repo_settings("a/closed", private=False)
    assert other.model_info("a/closed").private is False


def test_spaces(hub: Hub) -> None:
    me = api(hub)
    me.create_repo(
        "a/s", repo_type="space", space_sdk="gradio", space_secrets=[{"key": "K", "value": "s"}],
        space_variables=[{"key": "V", "value": "v"}], space_hardware="cpu-upgrade",
        space_volumes=[Volume(type="bucket", source="a/b", mount_path="/data")],
    )  # fmt: skip
    space = hub.repo("space", "a/s")
    assert (space.sdk, space.secrets, space.variables) == ("gradio", {"K": "s"}, {"V": "v"})
    assert space.hardware == "cpu-upgrade" and space.volumes[0]["mountPath"] == "/data"
    me.add_space_secret("a/s", "L", "t")
    me.delete_space_secret("a/s", "K")
    me.add_space_variable("a/s", "W", "w", description="why")
    me.request_space_hardware("a/s", "t4-small", sleep_time=3600)
    me.set_space_volumes("a/s", [])
    assert space.secrets == {"L": "t"} and set(me.get_space_secrets("a/s")) == {"L"}
    assert me.get_space_variables("a/s")["W"].value == "w" and space.volumes == []
    assert (space.hardware, space.sleep_time) == ("t4-small", 3600)
    card = b"---\nsdk: gradio\ncolorFrom: mauve\n---\n"
    with pytest.raises(ValueError, match="colorFrom"):
        me.upload_file(
            path_or_fileobj=card, path_in_repo="README.md", repo_id="a/s", repo_type="space"
        )
    space.build = ["BUILDING", "BUILD_ERROR"]
    me.upload_file(path_or_fileobj=b"", path_in_repo="app.py", repo_id="a/s", repo_type="space")
    assert space.runtime_stage == "BUILDING"
    assert me.get_space_runtime("a/s").stage == "BUILD_ERROR" == me.space_info("a/s").runtime.stage
    space.logs["build"] = ["no such package"]
    assert [*me.fetch_space_logs("a/s", build=True)] == ["no such package"]


def _download(repo: str) -> int:
    path = huggingface_hub.hf_hub_download(repo, "config.json")
    print(path)
    return 0


def test_processes_talk_to_it(hub: Hub, tmp_path: Path) -> None:
    hub.add("model", "a/closed", {"config.json": b"{}"}, private=True)
    with_token = Child(
        _download, "a/closed", environment=hub.environment(tmp_path / "other", TOKEN)
    )
    without = Child(_download, "a/closed", environment=hub.environment(tmp_path / "third"))
    assert with_token.wait() == 0, with_token.err
    assert str(tmp_path / "other" / "hub") in with_token.out
    assert without.wait() == 1 and "RepositoryNotFoundError" in without.err


def test_faults(hub: Hub, tmp_path: Path) -> None:
    data = os.urandom(300_000)
    hub.add("model", "a/m", {"model.safetensors": data})
    me = api(hub)
    hub.fail("/api/models/a/m$", 403, headers={"X-Error-Code": "GatedRepo"})
    with pytest.raises(HfHubHTTPError, match="403"):
        me.model_info("a/m")
    hub.fail("GET /a/m/resolve/", 429, headers={"Retry-After": "0"})
    hub.cut("/resolve/", 200_000)
    got = me.hf_hub_download("a/m", "model.safetensors", cache_dir=tmp_path / "one")
    assert Path(got).read_bytes() == data
    assert hub.ranges[-1].endswith("bytes=200000-")
    assert sum(line.startswith("GET /a/m/resolve/") for line in hub.seen) == 3
    hub.fail("HEAD ", 404, times=1)
    with pytest.raises((HfHubHTTPError, LocalEntryNotFoundError)):
        me.hf_hub_download("a/m", "model.safetensors", cache_dir=tmp_path / "two")
