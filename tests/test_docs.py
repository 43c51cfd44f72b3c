"""The documents agree with the code and with the tree."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest

from qa_lora.cli import build_parser
from qa_lora.config import TrainConfig
from qa_lora.presets import PRESETS

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("*.md")),
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")),
]


def test_settings_page_is_current() -> None:
    text = runpy.run_path(str(ROOT / "docs" / "make_settings.py"))["text"]()
    assert (ROOT / "docs" / "settings.md").read_text("utf-8") == text, "run: make docs"


def test_scaling_page_is_current() -> None:
    text = runpy.run_path(str(ROOT / "docs" / "make_scaling.py"))["text"]()
    assert (ROOT / "docs" / "scaling.md").read_text("utf-8") == text, "run: make docs"


def test_settings_page_names_every_setting_and_preset() -> None:
    page = (ROOT / "docs" / "settings.md").read_text("utf-8")
    assert re.findall(r"^\| `(\w+)`", page, re.MULTILINE) == list(TrainConfig.model_fields)
    assert re.findall(r"^\*\*(.+)\*\*", page, re.MULTILINE) == list(PRESETS)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_and_pictures_lead_somewhere(document: str) -> None:
    path = ROOT / document
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    missing = [
        target
        for target in targets
        if target and "://" not in target and not (path.parent / target).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_make_targets_that_are_named_exist(document: str) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)`", (ROOT / document).read_text("utf-8")))
    assert named <= targets


def test_architecture_names_every_module() -> None:
    """The annotated tree lists each file of the package, and none that is gone."""
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    tree = text.split("<!-- tree -->")[1].split("```")[1]
    listed = set(re.findall(r"^ +(\w+\.py)\b", tree, re.MULTILINE))
    there = {path.name for path in (ROOT / "qa_lora").rglob("*.py")}
    assert there - {"__init__.py"} - listed == set(), "docs/architecture.md lacks these"
    assert listed - there == set(), "docs/architecture.md names these, which are gone"


@pytest.mark.slow
def test_code_of_the_concepts_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    page = (ROOT / "docs" / "concepts.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) >= 8
    exec(compile("\n".join(blocks), "docs/concepts.md", "exec"), {})


@pytest.mark.parametrize(
    "document",
    ["README.md", "docs/concepts.md", "docs/architecture.md", "docs/publishing.md"],
)
def test_commands_are_ones_the_command_line_takes(document: str) -> None:
    text = (ROOT / document).read_text("utf-8")
    whole = re.findall(r"^qa-lora (.+)$", text, re.MULTILINE)
    named = re.findall(r"`qa-lora ([^`]+)`", text)
    if document == "README.md":
        assert len(whole) >= 3
        assert {command.split()[0] for command in named} >= set(_commands())
    for command in [*whole, *(c for c in named if not c.startswith("-"))]:
        if len(command.split()) > 1 or command in {"demo", "runs"}:
            build_parser().parse_args(shlex.split(command))
        else:
            assert command in _commands()


def _commands() -> list[str]:
    (choices,) = (a.choices for a in build_parser()._actions if isinstance(a.choices, dict))
    return list(choices)
