"""Make or update a Space as it was planned."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import qa_lora
from qa_lora.secrets import find_secrets
from qa_lora.spaces.config import SpaceConfig
from qa_lora.spaces.content import Content
from qa_lora.spaces.planning import SpacePlan, secret_value
from qa_lora.spaces.refusals import DeployError, explained

if TYPE_CHECKING:
    from huggingface_hub import HfApi, Volume

__all__ = ["carry_out", "check_content"]

Tell = Callable[[str], None]

_PATH = "an absolute path"
"""What a finding is that code may well name."""


def check_content(content: Content) -> None:
    """Refuse to upload a token, a key or, outside of code, a path of this machine.

    Raises:
        DeployError: If a file has one.
    """
    for file in content.files:
        for found in find_secrets(file.path, file.data):
            if found.what == _PATH and file.path.endswith(".py"):
                continue
            raise DeployError(
                f"A file with {found.what} would be uploaded: {found.file}, line {found.line}.",
                "Take it out before deploying.",
            )


def carry_out(
    api: HfApi,
    plan: SpacePlan,
    config: SpaceConfig,
    content: Content,
    *,
    environment: Mapping[str, str] = os.environ,
    tell: Tell = lambda sentence: None,
) -> str | None:
    """Do what a plan says.

    What was done already when something fails is found done by the next plan.

    Args:
        api: The Hub, with the login of whoever deploys.
        plan: What to do.
        config: What it was made from.
        content: The files.
        environment: Where the values of secrets are.
        tell: Told what is being done, a sentence at a time.

    Returns:
        The commit that the Space shall run, if the Hub names one.

    Raises:
        DeployError: If the Hub refuses something.
    """
    check_content(content)
    owner = plan.space_id.split("/")[0]
    volumes = _volumes(config, owner)
    for bucket in plan.buckets:
        with explained(f"The bucket {bucket} cannot be created (deploy without it: --no-volumes)"):
            api.create_bucket(bucket, private=True, exist_ok=True)
    values = {
        secret.name: value
        for secret in plan.secrets
        if (value := secret_value(secret.name, api, environment)[1]) is not None
    }
    if not plan.exists:
        tell(f"Creating the Space {plan.space_id}.")
        with explained(f"The Space {plan.space_id} cannot be created"):
            api.create_repo(
                plan.space_id,
                repo_type="space",
                private=plan.private,
                space_sdk=config.sdk,
                space_hardware=config.hardware,  # type: ignore[arg-type] # its own enum's text
                space_sleep_time=config.sleep_time,
                space_secrets=[{"key": k, "value": v} for k, v in values.items()],
                space_variables=[{"key": k, "value": v} for k, v in config.variables.items()],
                space_volumes=volumes or None,
            )
    else:
        _change(api, plan, config, volumes, tell)
        for name, value in values.items():
            tell(f"Setting the secret {name}.")
            with explained(f"The secret {name} cannot be set"):
                api.add_space_secret(plan.space_id, name, value)
    return _upload(api, plan, content, tell)


def _change(
    api: HfApi, plan: SpacePlan, config: SpaceConfig, volumes: list[Volume], tell: Tell
) -> None:
    hardware = any(change.what == "hardware" for change in plan.changes)
    for change in plan.changes:
        if change.what == "sleep_time" and hardware:
            continue  # is asked for together with the hardware
        tell(f"Setting {change.name} to {change.after or 'none'}.")
        with explained(f"{change.name} of the Space {plan.space_id} cannot be changed"):
            if change.what == "variable" and change.after is not None:
                api.add_space_variable(plan.space_id, change.name, change.after)
            elif change.what == "variable":
                api.delete_space_variable(plan.space_id, change.name)
            elif change.what == "hardware":
                api.request_space_hardware(
                    plan.space_id,
                    config.hardware,  # type: ignore[arg-type]
                    sleep_time=config.sleep_time,
                )
            elif change.what == "sleep_time":
                assert config.sleep_time is not None
                api.set_space_sleep_time(plan.space_id, config.sleep_time)
            elif volumes:
                api.set_space_volumes(plan.space_id, volumes)
            else:
                api.delete_space_volumes(plan.space_id)


def _volumes(config: SpaceConfig, owner: str) -> list[Volume]:
    from huggingface_hub import Volume

    return [
        Volume(
            type=volume.type,
            source=volume.source_for(owner),
            mount_path=volume.mount_path,
            read_only=volume.read_only or None,
        )
        for volume in config.volumes
    ]


def _upload(api: HfApi, plan: SpacePlan, content: Content, tell: Tell) -> str | None:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    wanted = {file.path for file in plan.uploads}
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationAdd(file.path, file.data) for file in content.files if file.path in wanted
    ]
    operations += [CommitOperationDelete(file.path) for file in plan.deletions]
    if not operations:
        tell("Its files are those of this checkout already.")
        return plan.head
    size = sum(file.size for file in plan.uploads)
    tell(f"Uploading {len(wanted)} files, {size / 1e6:.1f} MB.")
    with explained(f"The files of the Space {plan.space_id} cannot be uploaded"):
        commit = api.create_commit(
            plan.space_id,
            operations,
            repo_type="space",
            commit_message=f"Deploy QA LoRA {qa_lora.__version__}",
            parent_commit=plan.head,
        )
    return commit.oid
