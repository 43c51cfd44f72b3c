"""SECURITY.md names a test for each threat, and each of them exists."""

from __future__ import annotations

import ast
import re

import pytest

from tests.forked import ROOT

ROWS = re.findall(
    r"^\| ([^|]+) \| [^|]+ \| `([\w/.]+)::(\w+)` \|$",
    (ROOT / "SECURITY.md").read_text("utf-8"),
    re.M,
)
LISTED = [
    "path traversal by run ids", "uploads", "browserstate", "arguments of the api", "html",
    "oversized bodies", "many connections", "symlinks in runs", "csv formulas", "secrets in logs",
    "ssrf through model and data ids", "urls", "deserialisation", "reach from other machines",
]  # fmt: skip


def test_every_row_of_the_table_is_read() -> None:
    lines = (ROOT / "SECURITY.md").read_text("utf-8").splitlines()
    assert len(ROWS) == len([line for line in lines if line.startswith("| ")]) - 1


@pytest.mark.parametrize("threat", LISTED)
def test_a_threat_has_a_test(threat: str) -> None:
    assert any(threat in name.lower() for name, _, _ in ROWS)


@pytest.mark.parametrize(("file", "name"), sorted({(file, name) for _, file, name in ROWS}))
def test_the_test_is_there(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
