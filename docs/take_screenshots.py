"""Take the screenshots of the docs from a finished run: ``python docs/take_screenshots.py RUNS``.

RUNS is a runs folder whose newest run is finished and scored, such as ``qa-lora demo`` leaves one,
with an older one or two for the Runs tab to compare it with.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "screenshots"
SIZES = {"wide": (1440, 1000), "phone": (390, 844)}


def main(runs_dir: str) -> None:
    """Start the app over `runs_dir` and photograph its four tabs, wide and as on a phone."""
    from playwright.sync_api import sync_playwright

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    environment = {
        **os.environ,
        "QA_LORA_RUNS_DIR": runs_dir,
        "GRADIO_SERVER_PORT": url.rsplit(":", 1)[1],
    }
    app = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment)
    try:
        wait_for(url)
        FOLDER.mkdir(parents=True, exist_ok=True)
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            for name, (width, height) in SIZES.items():
                page = chromium.new_page(viewport={"width": width, "height": height})
                page.set_default_timeout(120_000)
                take(page, url, name)
            chromium.close()
    finally:
        app.terminate()


def wait_for(url: str) -> None:
    """Wait until the app answers."""
    for _ in range(600):
        try:
            urllib.request.urlopen(url, timeout=5)
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("The app did not start.")


def take(page: Any, url: str, name: str) -> None:
    """The four tabs at one size; on a phone scrolled to what the tab is about."""
    page.goto(url)
    page.locator("#data-card dt", has_text="Answers").wait_for()
    page.locator("#slot .gain").wait_for()
    page.locator("#light", has_text="idle").wait_for()
    shoot(page, "train", name, "#slot")

    page.locator("#to-compare").click()
    page.locator("#chips button").first.click()
    page.locator("#compare-panes footer", has_text="ROUGE-L").first.wait_for()
    page.locator("#compare-panes mark").first.wait_for()
    shoot(page, "compare", name, "#question")

    page.get_by_role("tab", name="Evaluate").click()
    page.locator("#row-table article").first.wait_for()
    page.locator("#gain figure").wait_for()
    shoot(page, "evaluate", name, "#headline")

    page.get_by_role("tab", name="Runs").click()
    page.locator("#runs-table .virtual-row .body-cell").nth(1).click()
    page.locator("#run-details dl").wait_for()
    page.locator("#run-other input").click()
    page.locator("#run-other").get_by_role("option").first.click()
    page.locator("#run-curves .chart").wait_for()
    shoot(page, "runs", name, "#runs-count")


def shoot(page: Any, tab: str, name: str, phone_top: str) -> None:
    """Save one picture."""
    page.mouse.move(0, 0)
    if name == "wide":
        page.evaluate("window.scrollTo(0, 0)")
    else:
        page.evaluate(
            "top => window.scrollTo(0, document.querySelector(top).getBoundingClientRect().top"
            " + window.scrollY - 12)",
            phone_top,
        )
    page.wait_for_timeout(800)  # the last animation
    page.screenshot(path=FOLDER / f"{tab}-{name}.png")


if __name__ == "__main__":
    main(sys.argv[1])
