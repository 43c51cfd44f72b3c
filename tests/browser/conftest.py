"""The app as a real process, and a real Chromium that looks at it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.served import ROOT, App, serving_app

__all__ = ["ROOT", "App"]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app on a free port, over an empty runs folder."""
    with serving_app(tmp_path_factory.mktemp("browser-runs"), fork=True) as app:
        yield app


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium; missing, it fails a CI and skips a laptop."""
    found = shutil.which("chromium")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("There is no chromium: the browser tests cannot run.")
        pytest.skip("There is no chromium here.")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=60_000)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def new_page(browser: Any, app: App) -> Iterator[Callable[..., Any]]:
    """Opens a page of a visitor of their own."""
    contexts = []

    def open_page(**options: Any) -> Any:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.goto(app.url)
        page.locator("#data-card .card").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def page(new_page: Callable[..., Any]) -> Any:
    """One page of one visitor."""
    return new_page()
