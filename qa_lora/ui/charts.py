"""Charts as HTML: an SVG that stretches to its place, with axis text that does not.

Everything is drawn from numbers and escaped text; the colours are the style sheet's, so dark and
light follow the page. ``chart.js`` shows the values of the point nearest to the pointer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np

from qa_lora.ui.series import Floats, downsample, smooth

__all__ = [
    "BASE",
    "HOVER",
    "INK",
    "SIZE",
    "TUNED",
    "Axis",
    "dots",
    "figure",
    "grid",
    "key",
    "line",
    "loss_chart",
    "step_axis",
    "xy",
]

HOVER = Path(__file__).with_name("chart.js").read_text("utf-8")
SIZE = 1000.0
TUNED, BASE, INK = "var(--tuned)", "var(--base)", "var(--body-text-color)"


@dataclass(frozen=True)
class Axis:
    """From where to where, and which values are written at it."""

    low: float
    high: float
    ticks: tuple[float, ...] = field(default=())
    log: bool = False

    @classmethod
    def linear(cls, low: float, high: float, count: int = 5) -> Axis:
        """An axis with at most about `count` round values, widened to hold both ends."""
        if not high > low:
            high = low + 1.0
        raw = (high - low) / count
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        ticks = tuple(round(i * step, 10) for i in range(first, last + 1))
        return cls(ticks[0], ticks[-1], ticks)

    @classmethod
    def logarithmic(cls, low: float, high: float) -> Axis:
        """An axis of powers of ten with 2 and 5 between them where there is room."""
        low = max(low, 1e-6)
        high = max(high, low * 1.01)
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        marks = [m * 10.0**d for d in decades for m in (1, 2, 5)]
        below = max(m for m in marks if m <= low * (1 + 1e-9))
        above = min((m for m in marks if m >= high * (1 - 1e-9)), default=marks[-1])
        inside = [m for m in marks if below <= m <= above]
        if len(inside) > 7:
            inside = [m for m in inside if math.isclose(10 ** round(math.log10(m)), m)]
        return cls(below, above, tuple(inside), log=True)

    def place(self, value: float) -> float:
        """Where a value lies: 0 at the low end, 1 at the high end."""
        if self.log:
            span = math.log(self.high / self.low)
            return min(1.0, max(0.0, math.log(max(value, self.low) / self.low) / span))
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


def loss_chart(
    steps: Sequence[int],
    losses: Sequence[float],
    validation: Sequence[tuple[int, float]],
    total_steps: int,
    *,
    log: bool = False,
    smoothing: float = 0.0,
    waiting: str = "",
) -> str:
    """Train and validation loss over the steps of the whole run.

    Args:
        steps: Steps that are done, ascending.
        losses: Train loss of each, nats a label token.
        validation: (step, validation loss), ascending.
        total_steps: Where the run will end; the axis shows it from the start, so nothing jumps.
        log: Whether the loss axis is logarithmic.
        smoothing: 0 to 1, see :func:`qa_lora.ui.series.smooth`.
        waiting: What to say while there is nothing to draw.
    """
    x, y = np.asarray(steps, float), np.asarray(losses, float)
    seen = [*losses, *(loss for _, loss in validation)]
    high = max(seen, default=1.0)
    down = Axis.logarithmic(min(seen, default=0.1), high) if log else Axis.linear(0.0, high)
    across = step_axis(max(total_steps, int(x[-1]) if len(x) else 1))

    layers = [grid(down)]
    thin_x, thin_y = downsample(x, y)
    line_x, line_y = downsample(x, smooth(y, smoothing), 200)
    if smoothing > 0 and len(x):
        layers.append(line(thin_x, thin_y, across, down, TUNED, 1, opacity=0.3))
        layers.append(line(line_x, line_y, across, down, TUNED, 2.5))
    elif len(x):
        layers.append(line(thin_x, thin_y, across, down, TUNED, 2))
    if validation:
        vx = np.array([step for step, _ in validation], float)
        vy = np.array([loss for _, loss in validation], float)
        vx, vy = downsample(vx, vy, 200)
        layers.append(line(vx, vy, across, down, INK, 1.5, dash="5 4"))
        if len(vx) <= 60:
            layers.append(dots(vx, vy, across, down, INK, 7))
    tips = [
        (across.place(a), down.place(b), f"step {int(a):,}: train loss {b:.4g}")
        for a, b in zip(line_x, line_y, strict=True)
    ] + [
        (across.place(a), down.place(b), f"step {a:,}: validation loss {b:.4g}")
        for a, b in validation[-200:]
    ]
    legend = (
        f"<b>Loss</b>{key('train', TUNED)}{key('validation', INK, dot=True)}"
        "<span title='Mean negative log-likelihood of a right token; lower is better.'>"
        "nats a token, lower is better</span>"
    )
    return figure(
        "Train and validation loss over the steps", legend, layers, across, down, tips,
        height=280, x_label="optimizer step", waiting="" if seen else waiting,
    )  # fmt: skip


def figure(
    label: str,
    legend: str,
    layers: Sequence[str],
    across: Axis,
    down: Axis,
    tips: Sequence[tuple[float, float, str]],
    *,
    height: int,
    x_label: str,
    waiting: str = "",
) -> str:
    """A chart of layers on each other, with axes, a legend and the texts of its points.

    Args:
        label: What it shows, for those who do not see it.
        legend: HTML above it.
        layers: SVG, in units of :data:`SIZE` from the upper left corner.
        across: The axis below.
        down: The axis at the left.
        tips: (place across, place up, text) of points that tell their values.
        height: Of the plot in pixels.
        x_label: Below the axis.
        waiting: What to say while there is nothing to draw.
    """
    y_text = "".join(
        f'<span style="bottom:{down.place(t) * 100:.2f}%">{t:g}</span>' for t in down.ticks
    )
    sides = {0: "first", len(across.ticks) - 1: "last"}
    x_text = "".join(
        f'<span class="{sides.get(i, "")}" style="left:{across.place(t) * 100:.2f}%">{t:,g}</span>'
        for i, t in enumerate(across.ticks)
    )
    points = json.dumps([[round(a, 4), round(1 - b, 4), text] for a, b, text in tips])
    empty = f'<div class="wait">{escape(waiting)}</div>' if waiting else ""
    return (
        f'<figure class="chart" role="img" aria-label="{escape(label)}">'
        f"<figcaption>{legend}</figcaption>"
        f'<div class="chart-grid"><div class="chart-y" style="height:{height}px">{y_text}</div>'
        f'<div class="chart-plot" data-points="{escape(points)}">'
        f'<svg viewBox="0 0 {SIZE:g} {SIZE:g}" preserveAspectRatio="none" aria-hidden="true">'
        f'{"".join(layers)}</svg>{empty}<div class="chart-cursor"></div>'
        f'<div class="chart-tip"></div></div>'
        f'<div class="chart-x">{x_text}<em>{escape(x_label)}</em></div></div></figure>'
    )


def step_axis(total: int) -> Axis:
    """An axis from 0 to the last optimizer step, which is written at it."""
    ticks = [t for t in Axis.linear(0, total).ticks if t <= total and t == int(t)]
    if total - ticks[-1] > total * 0.12:
        ticks.append(float(total))
    elif ticks[-1] != total:
        ticks[-1] = float(total)
    return Axis(0.0, float(max(total, 1)), tuple(ticks))


def key(text: str, colour: str, *, dot: bool = False) -> str:
    """An entry of a legend."""
    kind = "key dot" if dot else "key"
    return f'<span class="{kind}" style="--key:{colour}">{escape(text)}</span>'


def grid(down: Axis) -> str:
    """A line at each tick of the axis at the left."""
    places = (SIZE * (1 - down.place(tick)) for tick in down.ticks)
    return "".join(
        f'<line x1="0" x2="{SIZE:g}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--grid)"/>'
        for y in places
    )


def xy(x: Floats, y: Floats, across: Axis, down: Axis) -> list[str]:
    """Points in the units of a figure's layers."""
    return [
        f"{SIZE * across.place(a):.1f} {SIZE * (1 - down.place(b)):.1f}"
        for a, b in zip(x, y, strict=True)
    ]


def line(
    x: Floats,
    y: Floats,
    across: Axis,
    down: Axis,
    colour: str,
    width: float,
    *,
    opacity: float = 1.0,
    dash: str = "",
) -> str:
    """A line through points."""
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<path d="M{"L".join(xy(x, y, across, down))}" stroke="{colour}" stroke-width="{width:g}"'
        f' opacity="{opacity:g}" stroke-linejoin="round"{dashed}/>'
    )


def dots(
    x: Floats, y: Floats, across: Axis, down: Axis, colour: str, width: float, opacity: float = 1.0
) -> str:
    """A dot a point."""
    # Lines of no length with round ends: they stay round however the SVG is stretched.
    path = "".join(f"M{point}h0" for point in xy(x, y, across, down))
    return (
        f'<path d="{path}" stroke="{colour}" stroke-width="{width:g}" opacity="{opacity:g}"'
        ' stroke-linecap="round"/>'
    )
