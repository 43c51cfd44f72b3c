"""What deploying will do: a Space is compared with what it shall be. Changes nothing."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from qa_lora.spaces.config import SpaceConfig
from qa_lora.spaces.content import MANIFEST, Content, Manifest, read_manifest
from qa_lora.spaces.refusals import DeployError, NoAnswerError, explained

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["Change", "PlannedFile", "PlannedSecret", "SpacePlan", "make_plan", "secret_value"]

_EMPTY = {".gitattributes", "README.md"}
"""What the Hub itself puts into a new Space; a first upload that failed leaves no more."""

_Mount: TypeAlias = tuple[str, str, str, bool]
"""Type, source and path of a volume, and whether it is a bucket that is only read."""


@dataclass(frozen=True)
class Change:
    """One setting of the Space that will be another one, or none."""

    what: Literal["hardware", "sleep_time", "variable", "volumes"]
    name: str
    before: str | None
    """None where there was none, or it is not known."""
    after: str | None
    """None where there is to be none."""


@dataclass(frozen=True)
class PlannedFile:
    """One file, and what becomes of it."""

    path: str
    size: int
    state: Literal["new", "changed", "same", "deleted"]


@dataclass(frozen=True)
class PlannedSecret:
    """A secret by its name, and where its value comes from. The value is nowhere in a plan."""

    name: str
    source: str | None
    """The environment variable; None if there is none, so that it is left as it is."""
    there: bool
    """Whether the Space has one of that name."""


@dataclass(frozen=True)
class SpacePlan:
    """All that deploying will do."""

    space_id: str
    exists: bool
    private: bool
    sdk: str
    hardware: str
    python_version: str
    changes: tuple[Change, ...]
    secrets: tuple[PlannedSecret, ...]
    buckets: tuple[str, ...]
    """Those to create, if they are not there."""
    files: tuple[PlannedFile, ...]
    notes: tuple[str, ...] = ()
    address: str = ""
    head: str | None = field(default=None, repr=False)
    """The commit it was compared with."""

    @property
    def uploads(self) -> tuple[PlannedFile, ...]:
        return tuple(file for file in self.files if file.state in ("new", "changed"))

    @property
    def deletions(self) -> tuple[PlannedFile, ...]:
        return tuple(file for file in self.files if file.state == "deleted")

    def to_dict(self) -> dict[str, Any]:
        """For --json."""
        values = asdict(self)
        del values["head"]
        values["upload_bytes"] = sum(file.size for file in self.uploads)
        return values


def make_plan(
    api: HfApi,
    space_id: str,
    config: SpaceConfig,
    content: Content,
    *,
    public: bool = False,
    update: bool = False,
    unanswered: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> SpacePlan:
    """Compare the Hub with what the Space shall be.

    Args:
        api: The Hub, with the login of whoever deploys.
        space_id: owner/name.
        config: What the Space shall be.
        content: Its files.
        public: Whether a new Space is public. One that is there stays as it is.
        update: Whether to take over a Space that is not one of this project.
        unanswered: Whether to plan a new Space where the Hub cannot be asked.
        environment: Where the values of secrets are looked for.

    Raises:
        DeployError: If the Hub cannot be asked, or has another Space of that name.
    """
    from huggingface_hub import SpaceRuntime
    from huggingface_hub.errors import RepositoryNotFoundError

    owner = space_id.split("/")[0]
    info = None
    notes = [_left_out(content)] if content.untracked else []
    try:
        with explained(f"The Space {space_id} cannot be looked up"):
            try:
                info = api.space_info(space_id)
            except RepositoryNotFoundError:
                # Told apart from a login that is not known, to which all is not found.
                api.whoami()
    except NoAnswerError as error:
        if not unanswered:
            raise
        notes.append(f"What is there now is not known, so this is a new Space. {error}")
    secrets = _secrets(config, set(), api, environment)
    shared: dict[str, Any] = {
        "space_id": space_id,
        "sdk": config.sdk,
        "hardware": config.hardware,
        "python_version": config.python_version,
        "buckets": tuple(
            volume.source_for(owner) for volume in config.volumes if volume.type == "bucket"
        ),
        "address": f"{api.endpoint}/spaces/{space_id}",
    }
    if not config.volumes:
        notes.append("It has no volume: runs are lost when the Space restarts.")
    if info is None:
        return SpacePlan(
            exists=False,
            private=not public,
            changes=tuple(_changes(config, owner, SpaceRuntime({"stage": "NO_APP_FILE"}), {}, ())),
            secrets=secrets,
            files=tuple(PlannedFile(file.path, file.size, "new") for file in content.files),
            notes=tuple(notes),
            **shared,
        )
    with explained(f"The Space {space_id} cannot be read"):
        manifest = _manifest(api, space_id, info.sha)
        there = _tree(api, space_id, info.sha)
        if manifest is None and not update and not _EMPTY.issuperset(there):
            raise DeployError(
                f"There is a Space {space_id} already, and it was not deployed by QA LoRA.",
                "Choose another name, or take it over with --update; its other files stay.",
            )
        runtime = api.get_space_runtime(space_id)
        before = manifest or Manifest()
        variables = {k: v.value for k, v in api.get_space_variables(space_id).items()}
        secrets = _secrets(config, set(api.get_space_secrets(space_id)), api, environment)
    if public and info.private:
        notes.append("It is private and stays so; visibility is changed in its settings.")
    return SpacePlan(
        exists=True,
        private=bool(info.private),
        changes=tuple(_changes(config, owner, runtime, variables, before.variables)),
        secrets=secrets,
        files=_compare(there, content, before.files),
        notes=tuple(notes),
        head=info.sha,
        **shared,
    )


def secret_value(
    name: str, api: HfApi, environment: Mapping[str, str]
) -> tuple[str, str] | tuple[None, None]:
    """Where a secret's value comes from, and the value.

    ``SPACE_<name>`` goes first. The token that deploys is never taken for a secret: it may write,
    and everybody who can run code in the Space could read it.
    """
    from huggingface_hub import get_token

    deploying = api.token if isinstance(api.token, str) else get_token()
    for source in (f"SPACE_{name}", name):
        value = environment.get(source, "").strip()
        if value and (source != name or value != deploying):
            return source, value
    return None, None


def _secrets(
    config: SpaceConfig, there: set[str], api: HfApi, environment: Mapping[str, str]
) -> tuple[PlannedSecret, ...]:
    return tuple(
        PlannedSecret(name, secret_value(name, api, environment)[0], name in there)
        for name in config.secrets
    )


def _changes(
    config: SpaceConfig,
    owner: str,
    runtime: Any,
    variables: Mapping[str, str],
    deployed: Collection[str],
) -> list[Change]:
    changes = []
    hardware = runtime.requested_hardware or runtime.hardware
    if hardware != config.hardware:
        changes.append(Change("hardware", "hardware", _text(hardware), config.hardware))
    if config.sleep_time is not None and runtime.sleep_time != config.sleep_time:
        changes.append(
            Change("sleep_time", "sleep_time", _text(runtime.sleep_time), str(config.sleep_time))
        )
    changes += [
        Change("variable", name, variables.get(name), value)
        for name, value in config.variables.items()
        if variables.get(name) != value
    ]
    # One that deploying had set, such as the place of the runs on a volume that is gone.
    changes += [
        Change("variable", name, value, None)
        for name, value in variables.items()
        if name in deployed and name not in config.variables
    ]
    mounted = {_mount(volume, volume.source) for volume in runtime.volumes or []}
    wanted = {_mount(volume, volume.source_for(owner)) for volume in config.volumes}
    if mounted != wanted:
        before, after = _mounts(mounted) or None, _mounts(wanted) or None
        changes.append(Change("volumes", "volumes", before, after))
    return changes


def _mount(volume: Any, source: str) -> _Mount:
    kind = str(getattr(volume.type, "value", volume.type))
    # Repositories are read-only, whatever the Hub says of them.
    return kind, source, volume.mount_path, kind == "bucket" and bool(volume.read_only)


def _mounts(volumes: set[_Mount]) -> str:
    return ", ".join(
        f"{kind} {source} at {path}{' (read-only)' if read_only else ''}"
        for kind, source, path, read_only in sorted(volumes)
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(getattr(value, "value", value))


def _manifest(api: HfApi, space_id: str, revision: str | None) -> Manifest | None:
    """What deploying put into a Space; None if it never did."""
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from huggingface_hub.errors import EntryNotFoundError

    with TemporaryDirectory() as folder:
        try:
            path = api.hf_hub_download(
                space_id, MANIFEST, repo_type="space", revision=revision, local_dir=folder
            )
        except EntryNotFoundError:
            return None
        return read_manifest(Path(path).read_bytes())


def _tree(api: HfApi, space_id: str, revision: str | None) -> dict[str, Any]:
    """The files that a Space has now, by path."""
    from huggingface_hub.hf_api import RepoFile

    tree = api.list_repo_tree(space_id, repo_type="space", revision=revision, recursive=True)
    return {item.path: item for item in tree if isinstance(item, RepoFile)}


def _compare(
    there: Mapping[str, Any], content: Content, listed: Collection[str]
) -> tuple[PlannedFile, ...]:
    files = []
    for file in content.files:
        old = there.get(file.path)
        state: Literal["new", "changed", "same"] = "new"
        if old is not None:
            state = "same" if _same(old, file.data) else "changed"
        files.append(PlannedFile(file.path, file.size, state))
    # Only what deploying itself put there.
    gone = set(there).intersection(listed) - content.paths()
    return (*files, *(PlannedFile(path, there[path].size, "deleted") for path in sorted(gone)))


def _same(old: Any, data: bytes) -> bool:
    """Whether a file of the Hub has this content, by the hash that the Hub lists."""
    import hashlib

    if old.lfs is not None:
        return bool(old.lfs.sha256 == hashlib.sha256(data).hexdigest())
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False)
    return bool(old.blob_id == blob.hexdigest())


def _left_out(content: Content) -> str:
    names = ", ".join(content.untracked[:3])
    more = f" and {len(content.untracked) - 3} more" if len(content.untracked) > 3 else ""
    return f"Files that git does not track are left out: {names}{more}."
