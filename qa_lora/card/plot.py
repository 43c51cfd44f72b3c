"""The loss of a run as a picture that shows everywhere, in the dark as well.

PNG, not SVG: not every place that shows a card shows an SVG file that lies beside it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

__all__ = ["loss_plot"]

Points = Sequence[tuple[int, float]]

WIDTH, HEIGHT = 1440, 640
LEFT, RIGHT, TOP, BOTTOM = 130, 40, 90, 96
TEAL, PALE, INK, GREY, RULE = "#0f766e", "#9fcac6", "#1e293b", "#5b6980", "#e2e8f0"
MOST_POINTS = 400


def loss_plot(losses: Points, validation: Points) -> bytes | None:
    """Train and validation loss over the steps.

    Args:
        losses: (step, train loss), ascending.
        validation: (step, validation loss), ascending.

    Returns:
        A PNG file, the same bytes for the same losses; None if there is nothing to draw.
    """
    losses = [point for point in losses if math.isfinite(point[1])]
    validation = [point for point in validation if math.isfinite(point[1])]
    if not losses:
        return None
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (WIDTH, HEIGHT), "#ffffff")
    draw = ImageDraw.Draw(image)
    small, large = ImageFont.load_default(26), ImageFont.load_default(32)
    last = max(step for step, _ in [*losses, *validation])
    ticks = _ticks(max(loss for _, loss in [*losses, *validation]))

    def place(point: tuple[float, float]) -> tuple[float, float]:
        across = LEFT + point[0] / max(1, last) * (WIDTH - LEFT - RIGHT)
        return across, TOP + (1 - point[1] / ticks[-1]) * (HEIGHT - TOP - BOTTOM)

    for tick in ticks:
        left, y = place((0, tick))
        draw.line([(left, y), (WIDTH - RIGHT, y)], fill=INK if tick == 0 else RULE, width=2)
        draw.text((left - 14, y), f"{tick:g}", fill=GREY, font=small, anchor="rm")
    for step in [tick for tick in _ticks(last) if tick == int(tick) and tick <= last]:
        x, y = place((step, 0))
        draw.text((x, y + 12), f"{step:,.0f}", fill=GREY, font=small, anchor="mt")
    middle = (LEFT + WIDTH - RIGHT) / 2
    draw.text((middle, HEIGHT - 10), "optimizer step", fill=GREY, font=small, anchor="mb")

    thin = _thinned(losses)
    if len(thin) > 20:
        draw.line([place(point) for point in thin], fill=PALE, width=2)
        thin = _thinned(_smoothed(losses))
    draw.line([place(point) for point in thin], fill=TEAL, width=5, joint="curve")
    draw.line([place(point) for point in _thinned(validation)], fill=INK, width=3)
    for point in validation[:MOST_POINTS]:
        x, y = place(point)
        draw.ellipse([x - 5, y - 5, x + 5, y + 5], fill=INK)

    draw.text((LEFT, 24), "Loss, nats a token", fill=INK, font=large)
    at = LEFT + draw.textlength("Loss, nats a token", font=large) + 50
    for name, colour in (("train", TEAL), *([("validation", INK)] if validation else [])):
        draw.line([(at, 44), (at + 46, 44)], fill=colour, width=6)
        draw.text((at + 58, 44), name, fill=INK, font=small, anchor="lm")
        at += 100 + draw.textlength(name, font=small)
    out = io.BytesIO()
    image.quantize(64).save(out, "PNG", optimize=True)
    return out.getvalue()


def _ticks(high: float, count: int = 5) -> list[float]:
    """Round values from 0 to the first above `high`."""
    raw = max(high, 1e-6) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * times for times in (1, 2, 2.5, 5, 10) if power * times >= raw * 0.999)
    return [round(step * i, 10) for i in range(math.ceil(high / step - 1e-9) + 1)]


def _smoothed(points: Points) -> list[tuple[int, float]]:
    """Means over a window of neighbours, so that the course shows through the noise."""
    half = max(1, len(points) // 40)
    sums = [0.0]
    for _, value in points:
        sums.append(sums[-1] + value)
    found = []
    for i, (step, _) in enumerate(points):
        first, end = max(0, i - half), min(len(points), i + half + 1)
        found.append((step, (sums[end] - sums[first]) / (end - first)))
    return found


def _thinned(points: Points) -> list[tuple[int, float]]:
    """At most some hundred points: the lowest and the highest of each piece, never a peak lost."""
    if len(points) <= MOST_POINTS:
        return list(points)
    size = math.ceil(len(points) / (MOST_POINTS // 2))
    found: list[tuple[int, float]] = []
    for start in range(0, len(points), size):
        piece = points[start : start + size]
        ends = {min(piece, key=lambda p: p[1]), max(piece, key=lambda p: p[1])}
        found += sorted(ends)
    return found
