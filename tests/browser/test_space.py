"""A Space as a stranger sees it who signs in to publish under a name of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qa_lora import runs
from qa_lora.config import TrainConfig
from qa_lora.events import Finished, Step, to_json
from qa_lora.owners import owner_word
from qa_lora.sign_in import PACKAGES
from qa_lora.ui.visitors import COOKIE
from tests.lively import make_adapter, make_model
from tests.loopback_hub import Hub, running_hub
from tests.served import App, serving_app

pytest.importorskip("playwright")
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[App, Hub]]:
    for package in PACKAGES:
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("space")
    with running_hub() as hub:
        variables = {**hub.environment(folder / "home"), **hub.app.environment(hub)}
        with serving_app(folder / "runs", variables) as app:
            yield app, hub


def test_a_stranger_signs_in_publishes_and_signs_out(
    browser: Any, space: tuple[App, Hub], tiny_model: Path, tmp_path: Path
) -> None:
    app, hub = space
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(app.url)
    page.locator("#data-card .card").wait_for()
    (cookie,) = (each for each in context.cookies() if each["name"] == COOKIE)
    assert cookie["httpOnly"]
    model = make_model(tiny_model, tmp_path / "model")
    owner = owner_word(f"cookie {cookie['value']}")
    run = runs.create(TrainConfig.build(model=str(model), name="mine"), app.runs_dir, owner)
    make_adapter(model, run.adapter)
    log = [Step(1, 0.1, 2.0, 0.1, 1, 1, 1, 1, 1), Finished(1, "completed", 1.0, 1.0, 3.0, 4.0)]
    run.events_path.write_text("".join(f"{to_json(event)}\n" for event in log))

    page.get_by_role("button", name="Sign in with Hugging Face").click()
    page.get_by_role("button", name="Logout (someone)").wait_for()
    (session,) = (each for each in context.cookies() if each["name"] == "session")
    assert session["httpOnly"] and session["secure"] and session["sameSite"] == "None"
    (token,) = hub.app.tokens

    page.locator("#to-publish").click()
    expect(page.locator("#publish-account")).to_contain_text("You are signed in as someone")
    page.get_by_label("Repository").fill("someone/mine")
    page.locator("#publish-go").click()
    expect(page.locator("#publish-message .good")).to_contain_text("files uploaded")
    assert "adapter_model.safetensors" in hub.files("model", "someone/mine")
    assert token not in page.content()
    assert token not in page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")

    page.get_by_role("button", name="Logout (someone)").click()
    page.get_by_role("button", name="Sign in with Hugging Face").wait_for()
    # The run is theirs as before; publishing needs the name.
    page.locator("#to-publish").click()
    expect(page.locator("#publish-account")).to_contain_text("Sign in with Hugging Face")
    page.get_by_label("Repository").fill("someone/again")
    page.locator("#publish-go").click()
    expect(page.locator("#publish-message .bad")).to_contain_text("Publishing needs a login")
    page.set_viewport_size({"width": 390, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert token not in app.log.read_text()
    context.close()
