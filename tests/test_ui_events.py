"""How the page's events are wired, whatever they do."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("gradio")
from qa_lora.ui.build import build_app


def test_news_is_not_dropped_while_the_page_is_busy_with_the_last(tmp_path: Path) -> None:
    """gradio drops what comes in the meantime, unless the first of an event's causes is a change.

    A page that opens on a tab hears of the tab first and of the run in view a moment later.
    """
    events = build_app(tmp_path).fns.values()
    news = [each for each in events if any(kind == "change" for _, kind in each.targets)]
    assert any(len(each.targets) > 1 for each in news)
    assert [each.fn for each in news if each.trigger_mode != "always_last"] == []
