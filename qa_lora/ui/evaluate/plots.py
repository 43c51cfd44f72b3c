"""The charts of an evaluation as SVG files that need nothing else: for a model card.

Unlike the charts of the page they bring their colours, letters and white ground with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from qa_lora.report import LABELS, TUNED, Report
from qa_lora.report.slices import SLICES, Slice
from qa_lora.report.verdict import SURE
from qa_lora.ui.charts import Axis
from qa_lora.ui.evaluate.table import interval, signed

__all__ = ["gain_plot", "interval_plot", "plots", "scatter_plot", "slice_plot"]

TEAL, GREY, INK, RULE = "#0f766e", "#5b6980", "#1e293b", "#e2e8f0"
WIDTH = 720
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 44, 48
NAMES = 190
"""Pixels for the names of bars."""
ROW = 34
MOST_MARKS = 2000


def plots(report: Report, *, metric: str = "rougeL") -> dict[str, tuple[str, str]]:
    """All plots of a report.

    Returns:
        By title, the name of the file without an ending, and the SVG.
    """
    found: dict[str, tuple[str, str]] = {}
    name = LABELS.get(metric, metric)
    for place, system in enumerate(report.systems[1:]):
        who = _who(report, system)
        end = f"-{place + 1}" if who else ""
        found[f"Difference{who} from the base"] = (
            f"differences{end}",
            interval_plot(report, system),
        )
        found[f"Gain{who} in {name} of each question"] = (
            f"gain{end}",
            gain_plot(report, metric, system),
        )
        found[f"{name} of the base and{who or ' of tuned'}"] = (
            f"scatter{end}",
            scatter_plot(report, metric, system),
        )
        for by in SLICES:
            parts = report.slices(by, metric, system)
            if len(parts) > 1:
                found[f"Gain{who} in {name} by {by}"] = (
                    f"{by.replace(' ', '-')}{end}",
                    slice_plot(parts, f"Gain{who} in {name} by {by}"),
                )
    return found


def interval_plot(report: Report, system: str = TUNED) -> str:
    """The difference in each metric with its interval."""
    gains = [(m, g) for m in report.metrics if (g := report.differences[system].get(m))]
    return _intervals(
        [(LABELS.get(m, m), g) for m, g in gains],
        f"Difference{_who(report, system)} from the base, 95 % interval",
    )


def slice_plot(parts: Sequence[Slice], title: str) -> str:
    """The gain of each part of the questions with its interval."""
    rows = [(f"{part.name} (n = {part.count:,})", vars(part.gain)) for part in parts]
    return _intervals(rows, f"{title}, 95 % interval")


def gain_plot(report: Report, metric: str, system: str = TUNED) -> str:
    """The gain of each question, sorted."""
    found = (row.gain(metric, system) for row in report.examples)
    y = np.sort([gain for gain in found if gain is not None])
    height = 300
    down = Axis.linear(float(min(0.0, y.min(initial=0.0))), float(max(0.1, y.max(initial=0.1))), 4)
    across = Axis(0.0, float(max(1, len(y))))
    body = _lines_across(down, height)
    if len(y) > MOST_MARKS:
        y = y[np.linspace(0, len(y) - 1, MOST_MARKS).astype(int)]
        across = Axis(0.0, float(MOST_MARKS))
    zero = _up(down, 0.0, height)
    wide = (WIDTH - LEFT - RIGHT) / max(1, len(y))
    for i, value in enumerate(y):
        top = _up(down, float(value), height)
        body += (
            f'<rect x="{LEFT + across.place(i) * (WIDTH - LEFT - RIGHT):.2f}" '
            f'y="{min(top, zero):.2f}" width="{wide + 0.05:.2f}" height="{abs(top - zero):.2f}" '
            f'fill="{TEAL if value > 0 else GREY}"/>'
        )
    body += _text(LEFT + (WIDTH - LEFT - RIGHT) / 2, height - 14, "questions, sorted", "middle")
    name = LABELS.get(metric, metric)
    return _svg(f"Gain{_who(report, system)} in {name} of each question", body, height)


def scatter_plot(report: Report, metric: str, system: str = TUNED) -> str:
    """A dot a question: the base's score across, the adapter's up."""
    pairs = [
        (row.scores["base"][metric], row.scores[system][metric])
        for row in report.examples
        if row.gain(metric, system) is not None
    ][:MOST_MARKS]
    height, unit = 420, Axis(0.0, 1.0, (0.0, 0.25, 0.5, 0.75, 1.0))
    wide = WIDTH - LEFT - RIGHT
    body = _lines_across(unit, height)
    for tick in unit.ticks:
        body += _text(LEFT + tick * wide, height - 30, f"{tick:g}", "middle")
    low, top = _up(unit, 0.0, height), _up(unit, 1.0, height)
    body += (
        f'<line x1="{LEFT}" y1="{low}" x2="{WIDTH - RIGHT}" y2="{top}" stroke="{GREY}" '
        'stroke-dasharray="5 4"/>'
    )
    for base, other in pairs:
        body += (
            f'<circle cx="{LEFT + base * wide:.1f}" cy="{_up(unit, other, height):.1f}" r="4" '
            f'fill="{TEAL if other >= base else GREY}" fill-opacity="0.5"/>'
        )
    name = LABELS.get(metric, metric)
    body += _text(LEFT + wide / 2, height - 10, "base (across), adapter (up)", "middle")
    return _svg(f"{name}{_who(report, system)} against the base, a dot a question", body, height)


def _who(report: Report, system: str) -> str:
    """Whose it is, where that is not clear."""
    return f" of {system}" if len(report.systems) > 2 else ""


def _intervals(rows: Sequence[tuple[str, Mapping[str, Any]]], title: str) -> str:
    height = TOP + ROW * len(rows) + BOTTOM - 14
    low = min((gain["low"] for _, gain in rows), default=0.0)
    high = max((gain["high"] for _, gain in rows), default=0.1)
    axis = Axis.linear(min(0.0, low), max(0.0, high))
    left, wide = NAMES, WIDTH - NAMES - 140

    def place(value: float) -> float:
        return left + axis.place(value) * wide

    bottom = height - BOTTOM + 14
    body = ""
    for tick in axis.ticks:
        colour = INK if tick == 0 else RULE
        x = place(tick)
        body += f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}" stroke="{colour}"/>'
        body += _text(x, bottom + 20, f"{tick:g}", "middle")
    for i, (name, gain) in enumerate(rows):
        y = TOP + ROW * i + ROW / 2
        mean, least, most = (gain[key] for key in ("mean", "low", "high"))
        colour = TEAL if least > 0 and gain["p_value"] < SURE else GREY
        body += _text(left - 10, y + 4, name if len(name) < 28 else f"{name[:26]}…", "end")
        body += (
            f'<line x1="{place(least):.1f}" y1="{y}" x2="{place(most):.1f}" y2="{y}" '
            f'stroke="{colour}" stroke-width="6" stroke-opacity="0.45" stroke-linecap="round"/>'
            f'<circle cx="{place(mean):.1f}" cy="{y}" r="5" fill="{colour}"/>'
        )
        numbers = f"{signed(mean)} {interval(gain)}"
        body += _text(WIDTH - 8, y + 4, numbers, "end")
    return _svg(title, body, height)


def _lines_across(down: Axis, height: int) -> str:
    body = ""
    for tick in down.ticks:
        y = _up(down, tick, height)
        colour = INK if tick == 0 else RULE
        body += (
            f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="{colour}"/>'
        )
        body += _text(LEFT - 8, y + 4, f"{tick:g}", "end")
    return body


def _up(axis: Axis, value: float, height: int) -> float:
    return TOP + (1 - axis.place(value)) * (height - TOP - BOTTOM)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(title: str, body: str, height: int) -> str:
    said = escape(title)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img" font-family="sans-serif" font-size="13" '
        f'fill="{INK}"><title>{said}</title><rect width="100%" height="100%" fill="#ffffff"/>'
        f'<text x="16" y="26" font-size="15" font-weight="bold">{said}</text>{body}</svg>\n'
    )
