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

__all__ = ["HOVER", "Axis", "gain_chart", "loss_chart", "scatter_chart"]

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
    across = _step_axis(max(total_steps, int(x[-1]) if len(x) else 1))

    layers = [_grid(down)]
    thin_x, thin_y = downsample(x, y)
    line_x, line_y = downsample(x, smooth(y, smoothing), 200)
    if smoothing > 0 and len(x):
        layers.append(_line(thin_x, thin_y, across, down, TUNED, 1, opacity=0.3))
        layers.append(_line(line_x, line_y, across, down, TUNED, 2.5))
    elif len(x):
        layers.append(_line(thin_x, thin_y, across, down, TUNED, 2))
    if validation:
        vx = np.array([step for step, _ in validation], float)
        vy = np.array([loss for _, loss in validation], float)
        vx, vy = downsample(vx, vy, 200)
        layers.append(_line(vx, vy, across, down, INK, 1.5, dash="5 4"))
        if len(vx) <= 60:
            layers.append(_dots(vx, vy, across, down, INK, 7))
    tips = [
        (across.place(a), down.place(b), f"step {int(a):,}: train loss {b:.4g}")
        for a, b in zip(line_x, line_y, strict=True)
    ] + [
        (across.place(a), down.place(b), f"step {a:,}: validation loss {b:.4g}")
        for a, b in validation[-200:]
    ]
    legend = (
        f"<b>Loss</b>{_key('train', TUNED)}{_key('validation', INK, dot=True)}"
        "<span title='Mean negative log-likelihood of a right token; lower is better.'>"
        "nats a token, lower is better</span>"
    )
    return _figure(
        "Train and validation loss over the steps", legend, layers, across, down, tips,
        height=280, x_label="optimizer step", waiting="" if seen else waiting,
    )  # fmt: skip


def gain_chart(gains: Sequence[float], questions: Sequence[str], metric: str) -> str:
    """Tuned minus base score of each question, sorted: how many got better, and how much."""
    order = sorted(range(len(gains)), key=lambda i: gains[i])
    y = np.array([gains[i] for i in order], float)
    x = np.arange(1, len(y) + 1, dtype=float)
    reach = max(0.1, float(np.abs(y).max(initial=0.0)))
    down = Axis.linear(min(0.0, float(y.min(initial=0.0))) if (y < 0).any() else 0.0, reach, 4)
    across = Axis(0.5, len(y) + 0.5, tuple(_few(len(y))))
    zero = SIZE * (1 - down.place(0.0))
    thin_x, thin_y = downsample(x, y)
    better = _area(thin_x, np.maximum(thin_y, 0), across, down, zero, TUNED)
    worse = _area(thin_x, np.minimum(thin_y, 0), across, down, zero, BASE)
    axis = f'<line x1="0" x2="{SIZE:g}" y1="{zero:.1f}" y2="{zero:.1f}" stroke="{INK}"/>'
    up, same = int((y > 1e-9).sum()), int((np.abs(y) <= 1e-9).sum())
    legend = (
        f"<b>Gain of each question</b>{_key(f'{up} better', TUNED)}"
        f"{_key(f'{len(y) - up - same} worse', BASE)}<span>{same} unchanged</span>"
    )
    tips = [
        (across.place(a), down.place(b), f"{b:+.2f}  {questions[order[int(a) - 1]][:80]}")
        for a, b in zip(thin_x, thin_y, strict=True)
    ]
    return _figure(
        f"Gain in {metric} of each question, sorted", legend, [_grid(down), better, worse, axis],
        across, down, tips, height=230, x_label=f"questions, sorted by gain in {metric}",
    )  # fmt: skip


def scatter_chart(
    base: Sequence[float], tuned: Sequence[float], questions: Sequence[str], metric: str
) -> str:
    """One dot a question: base score across, tuned score up; above the diagonal tuning won."""
    across = down = Axis(0.0, 1.0, (0.0, 0.25, 0.5, 0.75, 1.0))
    keep = np.linspace(0, len(base) - 1, min(len(base), 1500)).astype(int)
    x, y = np.asarray(base, float)[keep], np.asarray(tuned, float)[keep]
    diagonal = (
        f'<line x1="0" y1="{SIZE:g}" x2="{SIZE:g}" y2="0" stroke="{BASE}" stroke-dasharray="5 4"/>'
    )
    dots = [
        _dots(x[mask], y[mask], across, down, colour, 8, opacity=0.55)
        for mask, colour in ((y >= x, TUNED), (y < x, BASE))
    ]
    tips = [
        (float(a), float(b), f"base {a:.2f}, tuned {b:.2f}  {questions[i][:70]}")
        for i, a, b in zip(keep, x, y, strict=True)
    ]
    legend = (
        f"<b>Base against tuned</b>{_key('tuned better', TUNED, dot=True)}"
        f"{_key('base better', BASE, dot=True)}"
    )
    return _figure(
        f"{metric} of tuned against base, a dot a question", legend,
        [_grid(down), diagonal, *dots], across, down, tips,
        height=230, x_label=f"{metric} of base (across) and of tuned (up)",
    )  # fmt: skip


def _figure(
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


def _step_axis(total: int) -> Axis:
    ticks = [t for t in Axis.linear(0, total).ticks if t <= total and t == int(t)]
    if total - ticks[-1] > total * 0.12:
        ticks.append(float(total))
    elif ticks[-1] != total:
        ticks[-1] = float(total)
    return Axis(0.0, float(max(total, 1)), tuple(ticks))


def _few(count: int) -> list[float]:
    return sorted({1.0, float(max(1, round(count / 2))), float(max(count, 1))})


def _key(text: str, colour: str, *, dot: bool = False) -> str:
    kind = "key dot" if dot else "key"
    return f'<span class="{kind}" style="--key:{colour}">{escape(text)}</span>'


def _grid(down: Axis) -> str:
    places = (SIZE * (1 - down.place(tick)) for tick in down.ticks)
    return "".join(
        f'<line x1="0" x2="{SIZE:g}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--grid)"/>'
        for y in places
    )


def _xy(x: Floats, y: Floats, across: Axis, down: Axis) -> list[str]:
    return [
        f"{SIZE * across.place(a):.1f} {SIZE * (1 - down.place(b)):.1f}"
        for a, b in zip(x, y, strict=True)
    ]


def _line(
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
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<path d="M{"L".join(_xy(x, y, across, down))}" stroke="{colour}" stroke-width="{width:g}"'
        f' opacity="{opacity:g}" stroke-linejoin="round"{dashed}/>'
    )


def _dots(
    x: Floats, y: Floats, across: Axis, down: Axis, colour: str, width: float, opacity: float = 1.0
) -> str:
    # Lines of no length with round ends: they stay round however the SVG is stretched.
    path = "".join(f"M{point}h0" for point in _xy(x, y, across, down))
    return (
        f'<path d="{path}" stroke="{colour}" stroke-width="{width:g}" opacity="{opacity:g}"'
        ' stroke-linecap="round"/>'
    )


def _area(x: Floats, y: Floats, across: Axis, down: Axis, zero: float, colour: str) -> str:
    if not len(x):
        return ""
    half = 0.5 if len(x) < 400 else 0.0
    wide_x = np.repeat(x, 2) + np.tile([-half, half], len(x))
    points = "L".join(_xy(wide_x, np.repeat(y, 2), across, down))
    left, right = (SIZE * across.place(float(v)) for v in (wide_x[0], wide_x[-1]))
    path = f"M{left:.1f} {zero:.1f}L{points}L{right:.1f} {zero:.1f}Z"
    return f'<path d="{path}" style="fill:{colour}" opacity=".85"/>'
