"""requirements.txt as a Space needs it: the pins, for one Python and one kind of hardware."""

from __future__ import annotations

import re
from collections.abc import Iterable

from qa_lora.errors import ConfigError
from qa_lora.spaces.config import ZERO_GPU_TORCH, SpaceConfig

__all__ = ["SIGN_IN_PINS", "ZERO_GPU_TORCH_PIN", "space_requirements"]

ZERO_GPU_TORCH_PIN = "2.11.0"
"""The release of torch that a ZeroGPU Space gets; the project's own pin may be too new for it."""

CPU_INDEX = "--extra-index-url https://download.pytorch.org/whl/cpu"
"""Where torch has releases without several gigabytes of CUDA libraries."""

SIGN_IN_PINS = ("authlib==1.9.10", "itsdangerous==2.2.0")
"""What gradio[oauth] asks for in no version of its own; requirements-dev.txt has the same."""

# A Space installs gradio with extras of its own beside this file. Those of them that speak MCP
# hold pydantic back, so an exact pin would leave pip no solution.
_AS_RANGE = {"pydantic": "pydantic>=2.9,<3"}


def space_requirements(pins: str, config: SpaceConfig) -> str:
    """The lines of a Space's requirements.txt.

    Args:
        pins: Text of the project's requirements.txt.
        config: Names the Python, the hardware and the gradio of the Space.

    Raises:
        ConfigError: If gradio is pinned to another release than the Space runs.
    """
    from packaging.requirements import Requirement

    environment = {
        "python_version": config.python_version,
        "python_full_version": f"{config.python_version}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
    }
    kind = config.hardware_kind
    lines = [f"# For Python {config.python_version} on {config.hardware}; made by qa-lora deploy."]
    if kind == "cpu":
        lines.append(CPU_INDEX)
    for text in _requirements(pins):
        pin = Requirement(text)
        if pin.marker is not None and not pin.marker.evaluate(environment):
            continue
        name = re.sub(r"[-_.]+", "-", pin.name).lower()
        if name == "gradio":
            if str(pin.specifier) != f"=={config.sdk_version}":
                raise ConfigError(
                    f"The Space would run gradio {config.sdk_version}, but requirements.txt has "
                    f"{pin.name}{pin.specifier}.",
                    "Make sdk_version in spaces_config.yaml the same.",
                )
            lines += [f"gradio[oauth]=={config.sdk_version}", *SIGN_IN_PINS]
        elif name == "torch" and kind == "zero":
            lines.append(f"torch=={ZERO_GPU_TORCH_PIN}  # of {' to '.join(ZERO_GPU_TORCH)}")
        else:
            lines.append(_AS_RANGE.get(name, f"{pin.name}{pin.specifier}"))
    if kind == "zero":
        lines.append("spaces")
    return "\n".join(lines) + "\n"


def _requirements(text: str) -> Iterable[str]:
    for line in text.splitlines():
        line = line.split("#", 1)[0].strip()
        if line and not line.startswith("-"):
            yield line
