"""What the Runs tab shows now: read from the folders at each look, sent only where it changed."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import gradio as gr

from qa_lora.run_order import arrange
from qa_lora.runs import Run
from qa_lora.ui.engine import Engine
from qa_lora.ui.header import run_choices
from qa_lora.ui.runs.comparison import comparison_html, loss_curves
from qa_lora.ui.runs.details import details_html, possible
from qa_lora.ui.runs.layout import NOTHING_CHOSEN, RunsTab
from qa_lora.ui.runs.table import count_html, table_value
from qa_lora.ui.series import Followers

__all__ = ["View"]

Update = dict[Any, Any]


class View:
    """Draws the tab for any page of the server.

    Args:
        engine: What the server holds.
        tab: The components.
    """

    def __init__(self, engine: Engine, tab: RunsTab) -> None:
        self.engine = engine
        self.tab = tab
        self._followers = Followers(limit=16)

    def inputs(self) -> list[Any]:
        """What :meth:`show` takes."""
        tab = self.tab
        return [
            tab.chosen,
            tab.other,
            tab.kind,
            tab.text,
            tab.status,
            tab.order,
            tab.most,
            tab.seen,
        ]

    def outputs(self) -> list[Any]:
        """What :meth:`show` may update."""
        tab = self.tab
        return [
            tab.count, tab.table, tab.details, tab.acts, tab.open, tab.resume, tab.stop, tab.go_on,
            tab.publish, tab.download, tab.delete, tab.save, tab.title, tab.note, tab.other,
            tab.comparison, tab.curves, tab.trash, tab.trashed, tab.empty, tab.more, tab.chosen,
            tab.seen,
        ]  # fmt: skip

    def show(
        self,
        chosen: str,
        other: str | None,
        kind: str,
        text: str,
        status: str | None,
        order: str,
        most: int,
        seen: dict[str, str],
    ) -> Update:
        """What changed since this page looked last.

        Args:
            chosen: The id of the run that was clicked.
            other: Of the one that it is compared with.
            kind: Which losses are drawn.
            text: Words that all rows shown have.
            status: Their status; any if empty.
            order: Their order.
            most: How many rows are shown.
            seen: By part of the tab, a digest of what the page shows of it.
        """
        tab, engine = self.tab, self.engine
        rows = engine.rows()
        found = arrange(rows, text=str(text or ""), status=status or "", order=order)
        run = engine.find(chosen)
        row = next((each for each in rows if run is not None and each.id == run.id), None)
        if row is None:
            run = None
        own = run is not None and engine.access.owns(run.path)
        shown = details_html(run, row, own=own) if run and row else NOTHING_CHOSEN
        parts: dict[str, tuple[Any, Any]] = {
            "count": (tab.count, count_html(len(found[:most]), len(found), rows)),
            "table": (tab.table, table_value(found[:most])),
            "details": (tab.details, shown),
        }
        update: Update = {}
        fresh: dict[str, str] = {}

        def is_news(name: str, value: object) -> bool:
            fresh[name] = sha256(repr(value).encode("utf-8", "replace")).hexdigest()
            return seen.get(name) != fresh[name]

        for name, (component, value) in parts.items():
            if is_news(name, value):
                update[component] = value
        if is_news("more", more := len(found) > most):
            update[tab.more] = gr.Button(visible=more)
        if is_news("acts", can := possible(run, own=own) if run else None):
            update[tab.acts] = gr.Column(visible=can is not None)
            if can is not None:
                update |= {
                    tab.open: gr.Button(interactive=can.open),
                    tab.resume: gr.Button(interactive=can.resume),
                    tab.stop: gr.Button("Cancel" if can.waits else "Stop", interactive=can.stop),
                    tab.go_on: gr.Button(interactive=can.go_on),
                    tab.publish: gr.Button(interactive=can.go_on and can.label),
                    tab.download: gr.Button(interactive=can.download),
                    tab.delete: gr.Button(interactive=can.delete),
                    tab.save: gr.Button(interactive=can.label),
                    tab.title: gr.Textbox(interactive=can.label),
                    tab.note: gr.Textbox(interactive=can.label),
                }
        if run is not None:
            update |= self._compare(run, other, kind, is_news)
        deleted = [each.id for each in engine.deleted.runs()]
        if is_news("trash", deleted):
            many = len(deleted)
            update |= {
                tab.trash: gr.Accordion(
                    f"Trash · {many:,} run{'s' * (many != 1)}", visible=bool(many)
                ),
                tab.trashed: gr.Dropdown(choices=deleted, value=deleted[0] if many else None),
                tab.empty: gr.Button(f"Empty the trash ({many:,})"),
            }
        if chosen and run is None:
            # Not without need: a click that came meanwhile has chosen another one.
            update[tab.chosen] = ""
        return {**update, tab.seen: fresh}

    def _compare(self, run: Run, other: str | None, kind: str, is_news: Any) -> Update:
        tab, engine = self.tab, self.engine
        update: Update = {}
        choices = [each for each in run_choices(engine, other) if each[1] != run.id]
        if is_news("others", choices):
            update[tab.other] = gr.Dropdown(choices=choices)
        two = engine.find(other)
        if two is None or two.id == run.id:
            if is_news("comparison", None):
                update |= {tab.comparison: "", tab.curves: gr.HTML("", visible=False)}
            return update
        names = engine.name(run.id), engine.name(two.id)
        told = comparison_html(run, two, names)
        drawn = loss_curves(self._followers, (run, two), names, kind)
        if is_news("comparison", (told, drawn)):
            update |= {tab.comparison: told, tab.curves: gr.HTML(drawn, visible=True)}
        return update
