"""A read-only demo shows what can be done in it, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qa_lora.errors import RunError
from qa_lora.runs import Run
from qa_lora.serving import ServerSettings

pytest.importorskip("gradio")
from qa_lora.run_summaries import summarize
from qa_lora.ui.build import build_app
from qa_lora.ui.engine import Engine
from qa_lora.ui.runs.details import details_html, possible

CHANGING = {
    "start", "to-publish", "publish-go", "publish-look", "score", "score-file", "compare-add",
    "evaluate-add", "evaluate-zip", "run-resume", "run-stop", "run-continue", "run-download",
    "run-delete", "run-save", "run-title",
}  # fmt: skip
LOOKING = {"ask", "run-open", "runs-find", "runs-table", "columns", "to-compare", "past"}


def shown(runs_dir: Path, **settings: Any) -> set[str]:
    """The elements that a page has when nothing hides them or what they are in."""
    app = build_app(runs_dir, Engine(runs_dir, ServerSettings(public=True, **settings)))
    found = set()
    for block in app.blocks.values():
        part, seen = block, True
        while part is not None:
            # What a chosen run brings into view counts as shown.
            seen = seen and (part.visible is not False or part.elem_id == "run-acts")
            part = part.parent
        if seen and block.elem_id:
            found.add(block.elem_id)
    return found


def test_a_demo_shows_nothing_that_it_would_refuse(tmp_path: Path) -> None:
    usual, demo = shown(tmp_path), shown(tmp_path, read_only=True)
    assert usual >= CHANGING
    assert not demo & CHANGING
    assert demo >= usual & LOOKING and "run-open" in demo and "columns" in demo


def test_what_is_not_ones_own_can_be_opened_only(tmp_path: Path) -> None:
    run = Run(tmp_path / "2026-01-01-000000-x")
    run.path.mkdir()
    (run.path / "config.yaml").write_text("model: [")
    other, own = possible(run, own=False), possible(run)
    assert other.open and own.delete and own.label
    assert not (other.delete or other.label or other.download or other.resume or other.stop)
    assert "Not yours" in details_html(run, summarize(run), own=False)


def test_a_damaged_run_does_not_say_where_it_lies(tmp_path: Path) -> None:
    run = Run(tmp_path / "2026-01-01-000000-x")
    run.path.mkdir()
    (run.path / "config.yaml").write_text("model: [")
    with pytest.raises(RunError, match=r"config.yaml is not valid YAML") as caught:
        run.config()
    for text in (str(caught.value), details_html(run, summarize(run))):
        assert "config.yaml" in text and str(tmp_path) not in text
