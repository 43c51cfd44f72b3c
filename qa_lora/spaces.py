"""What this project is as a Hugging Face Space: ``spaces_config.yaml``, and README's front matter.

The Hub reads the front matter of README.md; it does not know ``spaces_config.yaml``. That file is
the source, and ``python -m qa_lora.spaces`` writes the front matter from it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qa_lora.config import describe_validation_error, read_settings
from qa_lora.errors import ConfigError

__all__ = ["SpaceConfig", "Storage", "front_matter", "read_front_matter", "write_front_matter"]

Colour: TypeAlias = Literal["red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"]


class Storage(BaseModel):
    """A bucket that is mounted as a volume, so that runs outlive a restart of the Space."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bucket: str
    mount_path: str = Field(pattern=r"^/\S+$")


class SpaceConfig(BaseModel):
    """``spaces_config.yaml``: the keys of the front matter, then what a Space is created with.

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
    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    hardware: str
    storage: Storage | None = None
    variables: dict[str, str] = {}
    secrets: tuple[str, ...] = ()

    @classmethod
    def from_yaml(cls, path: str | Path) -> SpaceConfig:
        """Read ``spaces_config.yaml``.

        Raises:
            ConfigError: If the file cannot be read, or a key is missing, unknown or wrong.
        """
        try:
            return cls(**read_settings(path))
        except ValidationError as error:
            raise ConfigError(describe_validation_error(error)) from None


_CREATION = {"hardware", "storage", "variables", "secrets"}


def front_matter(config: SpaceConfig) -> dict[str, Any]:
    """What the Hub reads at the top of README.md; lists that are empty are left out."""
    values = config.model_dump(mode="json", exclude=_CREATION)
    return {key: value for key, value in values.items() if value != []}


def read_front_matter(readme: str | Path) -> dict[str, Any]:
    """The front matter that a README has now; empty when it has none."""
    from huggingface_hub import metadata_load

    return dict(metadata_load(readme) or {})


def write_front_matter(readme: str | Path, config: SpaceConfig) -> None:
    """Replace a README's front matter, or put one in front; the text below stays as it is."""
    from huggingface_hub import metadata_save

    metadata_save(readme, front_matter(config))


def main() -> int:
    """Write the front matter of ./README.md from ./spaces_config.yaml."""
    try:
        write_front_matter("README.md", SpaceConfig.from_yaml("spaces_config.yaml"))
    except ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
