"""The report's charts as inline SVG, drawn from plain numbers.

Colours are CSS classes that `page.css` defines for the light and the dark scheme, from the colour-blind-safe palette
of Okabe & Ito (2008). A strip stretches to the width it is given and so carries no text; its labels are HTML. A chart
with axes keeps its shape, and its text stays legible at 300 CSS pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from graft.evaluate.intervals import Interval
from graft.evaluate.metrics import ReliabilityBin

WIDTH, HEIGHT = 340, 210  # of a chart with axes, in SVG units
LEFT, RIGHT, TOP, BOTTOM = 46, 20, 12, 38  # its margins
_MOST_TICKS = 6


@dataclass(frozen=True)
class Axis:
    """A range of values along one side of a chart, linear or logarithmic, with its title."""

    title: str
    low: float
    high: float
    log: bool = False
    percent: bool = False

    def place(self, value: float) -> float:
        """Where a value lies on the axis: 0 at `low`, 1 at `high`."""
        if self.log:
            return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """At most `_MOST_TICKS` round values within the axis: powers of ten, or steps of 1, 2 or 5 times one."""
        if self.log:
            return self._decades()
        step = _round_step((self.high - self.low) / (_MOST_TICKS - 1))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]

    def _decades(self) -> list[float]:
        """Powers of ten; on an axis with fewer than two of them also their doubles and halves, or else its ends."""
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        if last > first:
            return [10.0**power for power in range(first, last + 1, math.ceil((last - first + 1) / _MOST_TICKS))]
        near = [factor * 10.0**power for power in range(first - 1, first + 1) for factor in (1, 2, 5)]
        inside = [value for value in near if self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9)]
        return inside if len(inside) > 1 else [self.low, self.high]

    def label(self, value: float) -> str:
        """A tick's value as text, `80 %` or `0.001`."""
        return f"{100 * value:.4g} %" if self.percent else f"{value:.4g}"


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))


def around(title: str, values: Sequence[float], *, percent: bool = False) -> Axis:
    """A linear axis that holds all `values` with a little room, and some width even where they are all equal."""
    low, high = min(values), max(values)
    room = 0.1 * (high - low) or 0.01
    return Axis(title, low - room, high + room, percent=percent)


def share_strip(interval: Interval, *, tone: str, baseline: float | None = None) -> Markup:
    """A bar from 0 to the share, a whisker over its interval and, where given, a mark at the baseline; 0–100 % wide.

    tone: the CSS class of the bar, `hit` or `miss`. Nothing but the grid is drawn for a share of no pictures.
    """
    shapes = [f'<line class="grid" x1="{x}" x2="{x}" y1="0" y2="20"/>' for x in (0, 25, 50, 75, 100)]
    if not math.isnan(interval.value):
        value, low, high = (_number(100 * v) for v in (interval.value, interval.low, interval.high))
        shapes += [
            f'<rect class="{tone}" x="0" y="4" width="{value}" height="12"/>',
            f'<line class="whisker" x1="{low}" x2="{high}" y1="10" y2="10"/>',
            f'<line class="whisker" x1="{low}" x2="{low}" y1="6" y2="14"/>',
            f'<line class="whisker" x1="{high}" x2="{high}" y1="6" y2="14"/>',
        ]
    if baseline is not None:
        at = _number(100 * baseline)
        shapes.append(f'<line class="baseline" x1="{at}" x2="{at}" y1="0" y2="20"/>')
    return _strip(100, interval.percent(), shapes)


def stacked_strip(parts: Sequence[float], *, total: float, title: str) -> Markup:
    """Parts end to end on a scale from 0 to `total`; the i-th has the CSS class `part-i`."""
    shapes, start = [], 0.0
    for i, part in enumerate(parts):
        x, width = 1000 * start / total, 1000 * part / total
        shapes.append(f'<rect class="part-{i}" x="{_number(x)}" y="0" width="{_number(width)}" height="20"/>')
        start += part
    return _strip(1000, title, shapes)


def _strip(width: int, title: str, shapes: Sequence[str]) -> Markup:
    return Markup(  # numbers and our own class names; the title is escaped
        f'<svg class="strip" viewBox="0 0 {width} 20" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(title)}">{"".join(shapes)}</svg>'
    )


def line_chart(x: Axis, y: Axis, points: Sequence[tuple[float, float]], *, chosen: int | None, title: str) -> Markup:
    """Points joined by a line in the order given, the chosen one ringed."""
    at = [(_x(x, a), _y(y, b)) for a, b in points]
    path = " ".join(f"{_number(a)},{_number(b)}" for a, b in at)
    shapes = [f'<polyline class="line" points="{path}"/>']
    shapes += [f'<circle class="dot" cx="{_number(a)}" cy="{_number(b)}" r="2.5"/>' for a, b in at]
    if chosen is not None:
        a, b = at[chosen]
        shapes.append(f'<circle class="chosen" cx="{_number(a)}" cy="{_number(b)}" r="6"/>')
    return _chart(x, y, shapes, title)


def reliability_chart(bins: Sequence[ReliabilityBin]) -> Markup:
    """How often right (with its interval) against how sure, and the diagonal on which both agree.

    Source: DeGroot & Fienberg, The Statistician 32 (1983) 12; the area of a dot is in proportion to its answers.
    """
    x, y = Axis("how sure it was", 0, 1, percent=True), Axis("how often right", 0, 1, percent=True)
    most = max((b.n for b in bins), default=1)
    floor, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    shapes = [f'<line class="diagonal" x1="{LEFT}" y1="{floor}" x2="{right}" y2="{TOP}"/>']
    for b in bins:
        across = _number(_x(x, b.confidence))
        low, high, value = (_number(_y(y, v)) for v in (b.accuracy.low, b.accuracy.high, b.accuracy.value))
        shapes.append(f'<line class="whisker" x1="{across}" x2="{across}" y1="{low}" y2="{high}"/>')
        shapes.append(f'<circle class="dot" cx="{across}" cy="{value}" r="{2 + 5 * math.sqrt(b.n / most):.1f}"/>')
    return _chart(x, y, shapes, "how often right against how sure")


def _x(axis: Axis, value: float) -> float:
    return LEFT + axis.place(value) * (WIDTH - LEFT - RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - axis.place(value) * (HEIGHT - TOP - BOTTOM)


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _chart(x: Axis, y: Axis, shapes: Sequence[str], title: str) -> Markup:
    """Axes with ticks and titles around `shapes`, which come escaped."""
    floor, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    frame = []
    for tick in y.ticks():
        at = _number(_y(y, tick))
        frame.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{at}" y2="{at}"/>')
        frame.append(f'<text x="{LEFT - 5}" y="{at}" dy="0.35em" text-anchor="end">{y.label(tick)}</text>')
    for tick in x.ticks():
        at = _number(_x(x, tick))
        frame.append(f'<line class="axis" x1="{at}" x2="{at}" y1="{floor}" y2="{floor + 4}"/>')
        frame.append(f'<text x="{at}" y="{floor + 15}" text-anchor="middle">{x.label(tick)}</text>')
    frame.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{floor}" y2="{floor}"/>')
    middle = (LEFT + right) / 2
    frame.append(f'<text class="title" x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">{escape(x.title)}</text>')
    return Markup(  # numbers and our own class names; the titles are escaped
        f'<figure class="chart"><figcaption>{escape(y.title)}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'role="img" aria-label="{escape(title)}">{"".join([*frame, *shapes])}</svg></figure>'
    )
