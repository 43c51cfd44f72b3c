"""The leaderboard: runs that were scored on the same questions, and their loss curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from qa_lora.report.leaderboard import Board, Leaderboard, Standing
from qa_lora.run_summaries import setting_text
from qa_lora.ui import charts
from qa_lora.ui.engine import Engine
from qa_lora.ui.evaluate.charts import COLOURS, Curve, curves_chart
from qa_lora.ui.evaluate.metrics import STATISTICS, metric_help, metric_name, term
from qa_lora.ui.evaluate.table import interval, reach_of, signed, span_html
from qa_lora.ui.series import Followers

__all__ = ["BoardTab", "board_html", "build_board", "wire_board"]

Update = dict[Any, Any]
MOST_SHOWN = 100
NOTHING = (
    '<div class="empty"><b>Nothing to compare yet</b>Score two runs on the same questions, with '
    "the same rows and seed, and they stand here side by side.</div>"
)


@dataclass(frozen=True)
class BoardTab:
    """The components."""

    tab: Any
    questions: Any
    metric: Any
    kind: Any
    table: Any
    curves: Any


def build_board(tab: Any) -> BoardTab:
    """Lay it out."""
    with gr.Row(elem_id="board-options", equal_height=False):
        questions = gr.Dropdown(
            [], label="Scored on", elem_id="board", interactive=True, allow_custom_value=True,
            min_width=260, scale=3,
        )  # fmt: skip
        metric = gr.Dropdown(
            [("ROUGE-L", "rougeL")], value="rougeL", label="Sorted by", elem_id="board-metric",
            interactive=True, min_width=160,
        )  # fmt: skip
        kind = gr.Radio(
            [("Validation", "validation"), ("Train", "train")], value="validation",
            label="Loss drawn", elem_id="board-kind", min_width=200,
        )  # fmt: skip
    table = gr.HTML(NOTHING, elem_id="board-table", js_on_load=None)
    curves = gr.HTML("", elem_id="board-curves", js_on_load=charts.HOVER)
    return BoardTab(tab, questions, metric, kind, table, curves)


def board_html(
    board: Board,
    metric: str,
    differing: dict[str, dict[str, Any]],
    in_view: str | None,
    titles: Mapping[str, str],
) -> str:
    """The table: place, run, base, score, gain with its interval, and the settings that differ.

    Args:
        board: The runs.
        metric: By which they are sorted.
        differing: By setting, by run, its value.
        in_view: The run that the page shows.
        titles: What runs are called, by id, as far as a person has named them.
    """
    ranked = board.ranked(metric)[:MOST_SHOWN]
    gains = [gain for each in ranked if (gain := each.differences.get(metric))]
    reach = reach_of(gains)
    heads = "".join(f"<th>{escape(_setting(name))}</th>" for name in differing)
    name = term(metric_name(metric), metric_help(metric))
    rows = "".join(
        _row(place, each, metric, reach, differing, in_view, titles)
        for place, each in enumerate(ranked)
    )
    left = len(board.standings) - len(ranked)
    note = f"<p class='subdued'>{left:,} more runs are not shown.</p>" if left else ""
    alone = (
        "<p class='subdued'>Only one run was scored on these questions: score another one with the "
        "same questions, rows and seed.</p>"
        if len(ranked) == 1
        else ""
    )
    return (
        f'<div class="card"><h3>{len(board.standings):,} run{"s" * (len(board.standings) != 1)} on '
        f"the same {board.rows:,} question{'s' * (board.rows != 1)}</h3>"
        '<div class="scroll" tabindex="0"><table class="metrics board"><thead><tr><th></th>'
        f"<th>Run</th><th class='n tuned'>{name}</th><th class='n base'>Base</th>"
        f"<th class='n'>{term('Gain', STATISTICS['95 % interval'])}</th>"
        f"<th class='drawn'>from {-reach:g} to {reach:+g}</th>{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>{alone}{note}</div>"
    )


def _row(
    place: int,
    each: Standing,
    metric: str,
    reach: float,
    differing: dict[str, dict[str, Any]],
    in_view: str | None,
    titles: Mapping[str, str],
) -> str:
    colour = f' style="--key:{COLOURS[place]}"' if place < len(COLOURS) else ""
    mark = f'<i class="key-dot"{colour}></i>' if colour else ""
    gain = each.differences.get(metric)
    score, base = each.scores.get(metric), each.base.get(metric)
    written, drawn = "–", ""
    if gain is not None:
        written = f"{signed(gain['mean'], 3)} {interval(gain)}"
        drawn = span_html(gain, reach)
    older = (
        " <abbr title='The run was trained on after this evaluation: score it again.'>older adapter"
        "</abbr>"
        if each.newer_adapter
        else ""
    )
    settings = "".join(
        f"<td>{escape(setting_text(values.get(each.run.id)))}</td>" for values in differing.values()
    )
    chosen = ' class="in-view"' if each.run.id == in_view else ""
    title = titles.get(each.run.id, "")
    name = escape(each.run.id)
    if title:
        name = f"<b>{escape(title)}</b> <span class='subdued'>{name}</span>"
    return (
        f"<tr{chosen}><td class='n'>{place + 1}</td><td>{mark}{name}{older}</td>"
        f"<td class='n tuned'><b>{_number(score)}</b></td><td class='n base'>{_number(base)}</td>"
        f"<td class='n'>{written}</td><td>{drawn}</td>{settings}</tr>"
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _setting(name: str) -> str:
    return name.replace("_", " ")


def _label(board: Board) -> str:
    many = len(board.standings)
    where = board.data if board.split == "file" else f"{board.split} of {board.data or 'a run'}"
    return (
        f"{where}, {board.rows:,} questions: {many} run{'s' * (many != 1)} · "
        f"{board.fingerprint[:8]}"
    )


def wire_board(engine: Engine, run: Any, tab: BoardTab, opened: Sequence[Any]) -> None:
    """Connect its events.

    Args:
        engine: What the server holds.
        run: The component of the run in view.
        tab: The components.
        opened: Events that bring it into view.
    """
    leaderboard = Leaderboard(engine.runs_dir)
    followers = Followers(limit=4 * len(COLOURS))

    def show(run_id: str | None, chosen: str | None, metric: str, kind: str) -> Update:
        """The board that was chosen, else the one with the most runs."""
        listed = engine.listed()
        boards = leaderboard.boards(item.run.id for item in listed)
        if not boards:
            return {
                tab.questions: gr.Dropdown(choices=[], value=None),
                tab.table: NOTHING,
                tab.curves: gr.HTML("", visible=False),
            }
        board = next((b for b in boards if b.fingerprint == chosen), boards[0])
        metrics = board.metrics
        metric = metric if metric in metrics else metrics[0]
        kind = "train" if kind == "train" else "validation"
        ranked = board.ranked(metric)[:MOST_SHOWN]
        titles = {item.run.id: item.title for item in listed}
        return {
            tab.questions: gr.Dropdown(
                choices=[(_label(b), b.fingerprint) for b in boards], value=board.fingerprint
            ),
            tab.metric: gr.Dropdown(
                choices=[(metric_name(name), name) for name in metrics], value=metric
            ),
            tab.table: board_html(board, metric, leaderboard.differing(ranked), run_id, titles),
            tab.curves: gr.HTML(curves_chart(curves(ranked, kind, titles), kind), visible=True),
        }

    def curves(ranked: Sequence[Standing], kind: str, titles: Mapping[str, str]) -> list[Curve]:
        found = []
        for each, colour in zip(ranked, COLOURS, strict=False):
            progress = followers.progress(each.run)
            if kind == "train":
                steps, losses = progress.steps, progress.losses
            else:
                steps = [step for step, _ in progress.validation]
                losses = [loss for _, loss in progress.validation]
            found.append(Curve(titles.get(each.run.id) or each.run.id, colour, steps, losses))
        return found

    quiet: dict[str, Any] = {
        "show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None,
    }  # fmt: skip
    gr.on(
        [*opened, tab.questions.input, tab.metric.input, tab.kind.change], show,
        [run, tab.questions, tab.metric, tab.kind],
        [tab.questions, tab.metric, tab.table, tab.curves], trigger_mode="always_last", **quiet,
    )  # fmt: skip
