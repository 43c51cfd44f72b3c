"""The files of a Space, made from the project's checkout."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qa_lora
from qa_lora.errors import ConfigError
from qa_lora.spaces.card import space_readme
from qa_lora.spaces.config import SpaceConfig
from qa_lora.spaces.requirements import space_requirements

__all__ = [
    "MANIFEST",
    "Content",
    "Manifest",
    "SpaceFile",
    "find_checkout",
    "read_content",
    "read_manifest",
]

PACKAGE = "qa_lora"
CONFIG = "spaces_config.yaml"
MANIFEST = ".qa-lora-space.json"
"""File of a Space that says that it is one of this project, and what deploying put there."""

_NEEDED = ("app.py", "requirements.txt", "LICENSE", CONFIG)


@dataclass(frozen=True)
class SpaceFile:
    """One file as it will be in the Space."""

    path: str
    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)


@dataclass(frozen=True)
class Content:
    """All files of a Space, and what was left out that might be missed."""

    files: tuple[SpaceFile, ...]
    untracked: tuple[str, ...] = ()
    """Files of the package that git does not know; they are not uploaded."""

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    def paths(self) -> set[str]:
        return {file.path for file in self.files}


@dataclass(frozen=True)
class Manifest:
    """What deploying put into a Space: it takes that away again, and nothing else."""

    files: frozenset[str] = frozenset()
    variables: frozenset[str] = frozenset()


def find_checkout(start: Path | None = None) -> Path:
    """The project's folder, with app.py beside the package.

    Args:
        start: Where to look first; the current folder if None, then where this package lies.

    Raises:
        ConfigError: If neither is one, as when the package was installed from a wheel.
    """
    for folder in (start or Path.cwd(), Path(qa_lora.__file__).parent.parent):
        if all((folder / name).is_file() for name in (*_NEEDED, f"{PACKAGE}/__init__.py")):
            return folder.resolve()
    raise ConfigError(
        "A Space is deployed from a checkout of the project, with app.py, requirements.txt and "
        "spaces_config.yaml, and this is not one.",
        "Clone the repository and run the command there.",
    )


def read_content(root: Path, config: SpaceConfig) -> Content:
    """Read what a Space needs, and nothing else: no tests, documents, runs or caches.

    Args:
        root: The checkout.
        config: What the Space is.

    Raises:
        ConfigError: If a file cannot be read, or the pins do not fit the Space.
    """
    tracked, untracked = _package_files(root)
    try:
        files = [SpaceFile(name, (root / name).read_bytes()) for name in tracked]
        files += [
            SpaceFile(name, (root / name).read_bytes()) for name in {config.app_file, "LICENSE"}
        ]
        pins = (root / "requirements.txt").read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be read: {error.strerror}.") from None
    files.append(SpaceFile("README.md", space_readme(config).encode()))
    files.append(SpaceFile("requirements.txt", space_requirements(pins, config).encode()))
    files.sort(key=lambda file: file.path)
    manifest = {
        "project": "qa-lora",
        "version": qa_lora.__version__,
        "variables": sorted(config.variables),
        "files": [file.path for file in files],
    }
    files.insert(0, SpaceFile(MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode()))
    return Content(tuple(files), tuple(untracked))


def read_manifest(manifest: bytes) -> Manifest | None:
    """What a manifest lists; None if it is not one of this project."""
    try:
        values: Any = json.loads(manifest)
        if values["project"] != "qa-lora":
            return None
        files, variables = values["files"], values.get("variables", ())
        return Manifest(frozenset(map(str, files)), frozenset(map(str, variables)))
    except (ValueError, KeyError, TypeError):
        return None


def _package_files(root: Path) -> tuple[list[str], list[str]]:
    """Files of the package: those that git tracks, and those it neither tracks nor ignores.

    Without git, as in an unpacked archive, all but caches count as tracked.
    """
    tracked = _git(root)
    if tracked is None:
        found = sorted(path for path in (root / PACKAGE).rglob("*") if path.is_file())
        names = [path.relative_to(root) for path in found]
        hidden = ("__pycache__", ".")
        return [
            name.as_posix()
            for name in names
            if not any(part.startswith(hidden) for part in name.parts) and name.suffix != ".pyc"
        ], []
    untracked = _git(root, "--others", "--exclude-standard") or []
    return [name for name in tracked if (root / name).is_file()], untracked


def _git(root: Path, *options: str) -> list[str] | None:
    """What ``git ls-files`` lists of the package; None where there is no git or no repository."""
    try:
        done = subprocess.run(
            ["git", "ls-files", "-z", *options, "--", PACKAGE],
            cwd=root,
            capture_output=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return [
        name for name in done.stdout.decode("utf-8", "surrogateescape").split("\0") if name
    ] or None
