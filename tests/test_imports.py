"""What loads what: starting up is quick, and the library knows neither gradio nor its callers."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import qa_lora

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "qa_lora"
HEAVY = ("torch", "transformers", "peft", "datasets", "evaluate", "accelerate")

# A finder in front of all others that refuses gradio and records what heavy was asked for.
WATCH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {refused!r}:
            raise ImportError(f"{{name}} must not be imported here")

sys.meta_path.insert(0, Refuse())
"""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "GRADIO_ANALYTICS_ENABLED": "False"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def library_modules() -> list[str]:
    """Every module but the callers: the app's tabs, the command line, and what only starts them."""
    names = (
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted(PACKAGE.rglob("*.py"))
    )
    callers = ("qa_lora.ui", "qa_lora.cli", "qa_lora.__main__")
    return [name.removesuffix(".__init__") for name in names if not name.startswith(callers)]


def imported_by(path: Path) -> Iterator[str]:
    """Names of the modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(
    "code",
    [
        "import qa_lora",
        "import app",
        "import runpy; sys.argv = ['qa-lora', '--help']; runpy.run_module('qa_lora', run_name='__main__')",
    ],
    ids=["import qa_lora", "import app", "qa-lora --help"],
)
def test_start_up_loads_nothing_heavy(code: str) -> None:
    refused = python("-c", WATCH.format(refused=set(HEAVY)) + code)

    assert refused.returncode == 0, refused.stderr


def test_library_imports_without_gradio() -> None:
    modules = library_modules()
    assert "qa_lora.config" in modules

    code = WATCH.format(refused={"gradio", "gradio_client"})
    code += f"import importlib\nfor name in {modules!r}: importlib.import_module(name)"
    result = python("-c", code)

    assert result.returncode == 0, result.stderr


def test_only_the_app_imports_gradio() -> None:
    allowed = {ROOT / "app.py", *(PACKAGE / "ui").rglob("*.py")}
    others = set(PACKAGE.rglob("*.py")) - allowed
    found = {
        str(path.relative_to(ROOT))
        for path in others
        for name in imported_by(path)
        if name.split(".")[0] in {"gradio", "gradio_client"}
    }
    assert found == set()


def test_library_knows_neither_ui_nor_command_line() -> None:
    found = {
        f"{name} imports {imported}"
        for name in library_modules()
        for imported in imported_by(importlib_path(name))
        if imported.startswith(("qa_lora.ui", "qa_lora.cli"))
    }
    assert found == set()


def importlib_path(name: str) -> Path:
    path = ROOT.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def test_every_public_name_resolves() -> None:
    assert list(qa_lora.__all__) == sorted(qa_lora.__all__, key=_dunder_order)
    assert set(qa_lora._HOME) | {"__version__"} == set(qa_lora.__all__)
    for name in qa_lora.__all__:
        assert getattr(qa_lora, name) is not None
    assert set(qa_lora.__all__) <= set(dir(qa_lora))


def _dunder_order(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest: the order that the linter keeps."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def test_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        importlib.import_module("qa_lora").nothing  # noqa: B018


def test_version_is_the_one_that_is_packaged() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{qa_lora.__version__}"\n' in text
