"""``spaces_config.yaml``: the project as a Hugging Face Space, and what a Space is given."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from qa_lora.config import describe_validation_error, read_settings
from qa_lora.errors import ConfigError

__all__ = ["GIVEN", "ZERO_GPU_PYTHON", "ZERO_GPU_TORCH", "HardwareKind", "SpaceConfig", "Storage"]

Colour: TypeAlias = Literal["red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"]
HardwareKind: TypeAlias = Literal["cpu", "gpu", "zero"]

ZERO_GPU_PYTHON = ("3.10", "3.12")
"""The Pythons that ZeroGPU runs."""
ZERO_GPU_TORCH = ("2.8", "2.11")
"""The oldest and the newest torch that ZeroGPU runs, both included."""

GIVEN = {"hardware", "sleep_time", "volumes", "variables", "secrets"}
"""The keys that a Space is given; all others are README's front matter."""

FREE_SLEEP = "48 hours without a visit, which cannot be changed"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Storage(BaseModel):
    """What is mounted into the Space: a bucket that is written, or a repository that is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["bucket", "model", "dataset"] = "bucket"
    source: str = Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")
    """A name of the Space's owner, or owner/name."""
    mount_path: str = Field(pattern=r"^/\S+$")
    read_only: bool = False

    def source_for(self, owner: str) -> str:
        """Its id on the Hub, of a Space of this owner."""
        return self.source if "/" in self.source else f"{owner}/{self.source}"


class SpaceConfig(BaseModel):
    """``spaces_config.yaml``: the keys of the front matter, then what a Space is given.

    The first keys are named and spelled as the Hub reads them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = Field(min_length=1)
    emoji: str
    colorFrom: Colour  # noqa: N815
    colorTo: Colour  # noqa: N815
    sdk: Literal["gradio"]
    sdk_version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    python_version: str = Field(pattern=r"^3\.\d+$")
    app_file: str
    suggested_hardware: str
    short_description: str = Field(max_length=60)
    license: str
    hf_oauth: bool = False
    """Whether visitors can sign in with Hugging Face."""
    hf_oauth_scopes: tuple[Annotated[str, Field(pattern=r"^[a-z]+(-[a-z]+)*$")], ...] = ()
    """What the app may do for them, beside knowing their name."""
    hf_oauth_expiration_minutes: int = Field(480, ge=1, le=43_200)
    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    hardware: str
    sleep_time: int | None = None
    """Seconds without a visit after which the Space sleeps; -1 for never; the Hub's own if None."""
    volumes: tuple[Storage, ...] = ()
    variables: dict[str, str] = {}
    secrets: tuple[str, ...] = ()

    @classmethod
    def from_yaml(cls, path: str | Path, **changed: Any) -> SpaceConfig:
        """Read ``spaces_config.yaml``.

        Args:
            path: The file.
            changed: Values that stand in place of those in the file.

        Raises:
            ConfigError: If the file cannot be read, or a key is missing, unknown or wrong.
        """
        try:
            return cls(**{**read_settings(path), **changed})
        except ValidationError as error:
            raise ConfigError(describe_validation_error(error)) from None

    @property
    def hardware_kind(self) -> HardwareKind:
        """What the app finds there: no GPU, one of its own, or one for the length of a call."""
        if self.hardware.startswith("cpu-"):
            return "cpu"
        return "zero" if self.hardware.startswith("zero-") else "gpu"

    def without_volumes(self) -> SpaceConfig:
        """The same Space with nothing mounted, and without the variables that point there."""
        mounts = tuple(f"{volume.mount_path.rstrip('/')}/" for volume in self.volumes)
        kept = {
            name: value
            for name, value in self.variables.items()
            if not mounts or not f"{value}/".startswith(mounts)
        }
        return self.model_copy(update={"volumes": (), "variables": kept})

    @field_validator("hardware", "suggested_hardware")
    @classmethod
    def _known_hardware(cls, value: str) -> str:
        from huggingface_hub import SpaceHardware

        known = [hardware.value for hardware in SpaceHardware]
        if value not in known:
            near = difflib.get_close_matches(value, known, n=1)
            raise ValueError(
                f"must be a hardware of Spaces, such as {near[0] if near else 'cpu-basic'}"
            )
        return value

    @field_validator("variables", "secrets")
    @classmethod
    def _usable_names(cls, value: Any) -> Any:
        for name in value:
            if not _NAME.fullmatch(name):
                raise ValueError("must have names of letters, digits and underscores")
        return value

    @model_validator(mode="after")
    def _fits(self) -> SpaceConfig:
        if self.hardware_kind == "zero" and self.python_version not in ZERO_GPU_PYTHON:
            raise ValueError(
                f"the hardware {self.hardware} (ZeroGPU) runs Python "
                f"{' and '.join(ZERO_GPU_PYTHON)} only; python_version is {self.python_version}"
            )
        if self.sleep_time is not None:
            if self.sleep_time < -1 or self.sleep_time == 0:
                raise ValueError("sleep_time must be a number of seconds, or -1 for never")
            if self.hardware == "cpu-basic":
                raise ValueError(
                    f"the hardware cpu-basic sleeps after {FREE_SLEEP}; leave sleep_time out"
                )
        both = set(self.variables) & set(self.secrets)
        if both:
            raise ValueError(
                f"{min(both)} is a variable, which everybody can read, and a secret; keep one"
            )
        mounts = [volume.mount_path for volume in self.volumes]
        if len(set(mounts)) < len(mounts):
            raise ValueError("two volumes have the same mount_path")
        return self
