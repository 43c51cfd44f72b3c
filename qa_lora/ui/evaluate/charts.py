"""The charts of an evaluation: gain of each question, base against tuned, loss curves of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from qa_lora.ui.charts import (
    BASE,
    INK,
    SIZE,
    TUNED,
    Axis,
    dots,
    figure,
    grid,
    key,
    line,
    step_axis,
    xy,
)
from qa_lora.ui.series import Floats, downsample, smooth

__all__ = ["COLOURS", "Curve", "curves_chart", "gain_chart", "scatter_chart"]

MOST_DOTS = 1500
COLOURS = tuple(f"var(--run-{place})" for place in range(8))
"""One for each run whose loss is drawn."""


def gain_chart(gains: Sequence[float], questions: Sequence[str], metric: str) -> str:
    """Tuned minus base score of each question, sorted: how many got better, and how much.

    Args:
        gains: One a question.
        questions: Their texts.
        metric: What the metric is called.
    """
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
        f"<b>Gain of each question</b>{key(f'{up:,} better', TUNED)}"
        f"{key(f'{len(y) - up - same:,} worse', BASE)}<span>{same:,} unchanged</span>"
    )
    tips = [
        (across.place(a), down.place(b), f"{b:+.2f}  {questions[order[int(a) - 1]][:80]}")
        for a, b in zip(thin_x, thin_y, strict=True)
    ]
    return figure(
        f"Gain in {metric} of each question, sorted", legend, [grid(down), better, worse, axis],
        across, down, tips, height=230, x_label=f"questions, sorted by gain in {metric}",
    )  # fmt: skip


def scatter_chart(
    base: Sequence[float], tuned: Sequence[float], questions: Sequence[str], metric: str
) -> str:
    """One dot a question: base score across, tuned score up; above the diagonal tuning won.

    Args:
        base: A score a question, 0 to 1.
        tuned: The adapter's.
        questions: Their texts.
        metric: What the metric is called.
    """
    across = down = Axis(0.0, 1.0, (0.0, 0.25, 0.5, 0.75, 1.0))
    keep = np.linspace(0, len(base) - 1, min(len(base), MOST_DOTS)).astype(int)
    x, y = np.asarray(base, float)[keep], np.asarray(tuned, float)[keep]
    diagonal = (
        f'<line x1="0" y1="{SIZE:g}" x2="{SIZE:g}" y2="0" stroke="{BASE}" stroke-dasharray="5 4"/>'
    )
    layers = [
        dots(x[mask], y[mask], across, down, colour, 8, opacity=0.55)
        for mask, colour in ((y >= x, TUNED), (y < x, BASE))
    ]
    tips = [
        (float(a), float(b), f"base {a:.2f}, tuned {b:.2f}  {questions[i][:70]}")
        for i, a, b in zip(keep, x, y, strict=True)
    ]
    legend = (
        f"<b>Base against tuned</b>{key('tuned better', TUNED, dot=True)}"
        f"{key('base better', BASE, dot=True)}"
    )
    return figure(
        f"{metric} of tuned against base, a dot a question", legend,
        [grid(down), diagonal, *layers], across, down, tips,
        height=230, x_label=f"{metric} of base (across) and of tuned (up)",
    )  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """The loss of one run over its steps."""

    name: str
    colour: str
    steps: Sequence[float]
    losses: Sequence[float]


def curves_chart(curves: Sequence[Curve], kind: str) -> str:
    """The losses of several runs over each other.

    Args:
        curves: At least one with a point, or there is nothing to see.
        kind: "validation", drawn with its points, or "train", smoothed.
    """
    filled = [curve for curve in curves if len(curve.steps)]
    high = max((max(curve.losses) for curve in filled), default=1.0)
    down = Axis.linear(0.0, high)
    across = step_axis(max((int(curve.steps[-1]) for curve in filled), default=100))
    layers, tips = [grid(down)], []
    for curve in filled:
        x, y = np.asarray(curve.steps, float), np.asarray(curve.losses, float)
        if kind == "train":
            y = smooth(y, 0.4)
        x, y = downsample(x, y, 200)
        layers.append(line(x, y, across, down, curve.colour, 2))
        if kind == "validation" and len(x) <= 60:
            layers.append(dots(x, y, across, down, curve.colour, 7))
        tips += [
            (across.place(a), down.place(b), f"{curve.name}, step {int(a):,}: {b:.4g}")
            for a, b in zip(x, y, strict=True)
        ]
    legend = (
        f"<b>{escape(kind.capitalize())} loss</b>"
        f"{''.join(key(curve.name, curve.colour) for curve in filled)}"
        "<span title='Mean negative log-likelihood of a right token; lower is better.'>"
        "nats a token, lower is better</span>"
    )
    return figure(
        f"{kind} loss of the runs over their steps", legend, layers, across, down, tips, height=260,
        x_label="optimizer step", waiting="" if filled else "These runs have told no such loss.",
    )  # fmt: skip


def _few(count: int) -> list[float]:
    return sorted({1.0, float(max(1, round(count / 2))), float(max(count, 1))})


def _area(x: Floats, y: Floats, across: Axis, down: Axis, zero: float, colour: str) -> str:
    if not len(x):
        return ""
    half = 0.5 if len(x) < 400 else 0.0
    wide_x = np.repeat(x, 2) + np.tile([-half, half], len(x))
    points = "L".join(xy(wide_x, np.repeat(y, 2), across, down))
    left, right = (SIZE * across.place(float(v)) for v in (wide_x[0], wide_x[-1]))
    path = f"M{left:.1f} {zero:.1f}L{points}L{right:.1f} {zero:.1f}Z"
    return f'<path d="{path}" style="fill:{colour}" opacity=".85"/>'
