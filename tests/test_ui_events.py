"""How the page's events are wired, whatever they do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

pytest.importorskip("gradio")
from gradio.blocks import BlockFunction

from qa_lora.ui.build import build_app


def test_news_is_not_dropped_while_the_page_is_busy_with_the_last(tmp_path: Path) -> None:
    """gradio drops what comes in the meantime, unless the first of an event's causes is a change.

    A page that opens on a tab hears of the tab first and of the run in view a moment later.
    """
    events = build_app(tmp_path).fns
    told = [each for each in events.values() if heard(each, events) & {"change"}]
    assert len(told) > 10
    assert [each.fn for each in told if each.trigger_mode != "always_last"] == []


def test_no_two_handlers_set_each_other_off_for_ever(tmp_path: Path) -> None:
    """What comes while a handler is at work gradio tells again, to all that hear of it.

    Two that are told the last news by one event of a component would do so for each other.
    """
    events = build_app(tmp_path).fns.values()
    late = [each for each in events if each.trigger_mode == "always_last"]
    direct = Counter(target for each in late for target in each.targets if target[0] is not None)
    assert [target for target, times in direct.items() if times > 1] == []


def heard(each: BlockFunction, events: Mapping[int, BlockFunction]) -> set[str]:
    """What kinds of events call a handler of the server, at first or second hand."""
    if each.fn is None:
        return set()
    told_by = events[each.trigger_after] if each.trigger_after is not None else None
    relayed = told_by is not None and told_by.fn is None and told_by.trigger_mode == "multiple"
    return {kind for _, kind in (told_by if relayed and told_by else each).targets}
