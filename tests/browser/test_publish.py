"""Publishing as a visitor sees it; without a network, as far as that goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qa_lora import runs
from qa_lora.config import TrainConfig
from qa_lora.events import Finished, Step, to_json
from tests.browser.conftest import App
from tests.lively import make_adapter, make_model

pytest.importorskip("playwright")
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


@pytest.fixture
def run(app: App, tiny_model: Path, tmp_path: Path) -> runs.Run:
    model = make_model(tiny_model, tmp_path / "model")
    run = runs.create(TrainConfig.build(model=str(model), name="mine"), app.runs_dir)
    make_adapter(model, run.adapter)
    events = [Step(i, 0.1, 2.0 / i, 0.1, 1, 1, 1, 1, 1) for i in (1, 2)]
    log = [*events, Finished(2, "completed", 1.0, 1.0, 3.0, 4.0)]
    run.events_path.write_text("".join(f"{to_json(event)}\n" for event in log))
    return run


def test_a_look_at_what_would_be_published(run: runs.Run, new_page: Callable[..., Any]) -> None:
    page = new_page()
    page.locator("#to-publish").click()
    fold = page.locator("#publish-fold")
    expect(fold.get_by_role("button").first).to_contain_text("mine, the run in view")
    expect(fold).to_be_in_viewport()
    expect(page.get_by_label("Private")).to_be_checked()
    page.locator("#publish-look").click()
    expect(page.locator("#publish-message")).to_contain_text("cannot be the id of a repository")
    page.get_by_label("Repository").fill("someone/mine")
    expect(page.locator("#publish-message .note")).to_have_count(0)
    page.locator("#publish-look").click()
    files = page.locator("#publish-files")
    expect(files.get_by_role("row")).to_have_count(9)
    expect(files).to_contain_text("Offline mode is on.")
    page.get_by_role("button", name="Model card").click()
    expect(page.locator("#publish-card h1")).to_have_text("A LoRA adapter for model")
    expect(page.locator("#publish-plot img")).to_be_visible()
    page.set_viewport_size({"width": 390, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("#publish-go").click()
    expect(page.locator("#publish-message .bad")).to_be_visible()
