"""The project as a Hugging Face Space.

The Hub reads the front matter of README.md; it does not know ``spaces_config.yaml``. That file is
the source: ``python -m qa_lora.spaces`` writes the front matter from it, and ``qa-lora deploy``
makes a Space of it.
"""

from __future__ import annotations

import sys

from qa_lora.errors import ConfigError
from qa_lora.spaces.card import front_matter, read_front_matter, write_front_matter
from qa_lora.spaces.config import SpaceConfig, Storage

__all__ = [
    "SpaceConfig",
    "Storage",
    "front_matter",
    "main",
    "read_front_matter",
    "write_front_matter",
]


def main() -> int:
    """Write the front matter of ./README.md from ./spaces_config.yaml."""
    try:
        write_front_matter("README.md", SpaceConfig.from_yaml("spaces_config.yaml"))
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0
