"""Several networks beside each other: a table, and accuracy against multiply-adds with the circle's area as parameters.

Source of the picture: Canziani, Paszke and Culurciello, "An Analysis of Deep Neural Network Models for Practical
Applications", 2016, fig. 2, arXiv:1605.07678.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from graft.analysis.drawing import svg
from graft.analysis.show import aligned, amount, binary, by
from graft.analysis.table import Analysis, Shape, memory

_WIDTH: Final = 860
_HEIGHT: Final = 560
_FRAME: Final = (76, 70, 810, 490)  # left, top, right, bottom of the plot
_LARGEST: Final = 46  # radius of the largest circle
_STYLE: Final = (
    ".title{font-size:19px;font-weight:650}.tick{font-size:11px;fill:#66727f}.name{font-weight:600}"
    ".network:hover circle{fill-opacity:.85}"
)


_Area = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Compared:
    """One network of a comparison. macs for one picture; memory_bytes to infer one; accuracy in percent, if known."""

    network: str
    input_shape: Shape
    parameters: int
    macs: int
    activation_bytes: int
    memory_bytes: int
    accuracy: float | None


def compare(analyses: Sequence[tuple[Analysis, float | None]]) -> tuple[Compared, ...]:
    """Networks and their accuracies (percent, or None), cheapest first.

    Raises ValueError unless every accuracy is between 0 and 100.
    """
    for analysis, accuracy in analyses:
        if accuracy is not None and not 0 <= accuracy <= 100:
            raise ValueError(f"accuracy must be in percent, 0 to 100, got {accuracy} for {analysis.network}")
    rows = [
        Compared(
            network=a.network,
            input_shape=a.input_shape,
            parameters=a.parameters,
            macs=a.macs,
            activation_bytes=a.activation_bytes,
            memory_bytes=memory(a).infer,
            accuracy=accuracy,
        )
        for a, accuracy in analyses
    ]
    return tuple(sorted(rows, key=lambda row: (row.macs, row.parameters, row.network)))


def compare_text(rows: Sequence[Compared]) -> str:
    """The table for a terminal."""
    head = ("network", "input", "parameters", "MACs", "activations", "memory", "accuracy")
    table = [head] + [
        (
            *(row.network, by(row.input_shape), amount(row.parameters).strip(), amount(row.macs).strip()),
            *(binary(row.activation_bytes), binary(row.memory_bytes)),
            f"{row.accuracy:.1f} %" if row.accuracy is not None else "–",
        )
        for row in rows
    ]
    return "\n".join(aligned(table, left=2))


def compare_csv(rows: Sequence[Compared]) -> str:
    """A header and a row a network, exact."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("network", "input", "parameters", "macs", "activation_bytes", "memory_bytes", "accuracy"))
    for row in rows:
        numbers = (row.parameters, row.macs, row.activation_bytes, row.memory_bytes)
        writer.writerow((row.network, by(row.input_shape), *numbers, "" if row.accuracy is None else row.accuracy))
    return out.getvalue()


def compare_json(rows: Sequence[Compared]) -> str:
    """A JSON list of objects, cheapest first; accuracy in percent or null."""
    return json.dumps(
        [
            {
                "network": row.network,
                "input": list(row.input_shape),
                "parameters": row.parameters,
                "macs": row.macs,
                "activation_bytes": row.activation_bytes,
                "memory_bytes": row.memory_bytes,
                "accuracy": row.accuracy,
            }
            for row in rows
        ],
        indent=2,
    )


def compare_svg(rows: Sequence[Compared]) -> str:
    """Accuracy against multiply-adds (logarithmic) as an SVG file, a circle's area in proportion to parameters.

    Networks without an accuracy are left out. Raises ValueError when none has one.
    """
    known = [(row, row.accuracy) for row in rows if row.accuracy is not None and row.macs > 0]
    if not known:
        raise ValueError("the plot needs the accuracy of one network at least, in percent, got none")
    scale = _Scale([row.macs for row, _ in known], [accuracy for _, accuracy in known])
    most = max(row.parameters for row, _ in known)
    circles = [
        (row, scale.x(row.macs), scale.y(accuracy), max(3.0, _LARGEST * math.sqrt(row.parameters / most)))
        for row, accuracy in known
    ]
    taken: list[_Area] = []
    marks: list[str] = []
    names: list[str] = []
    for row, x, y, r in sorted(circles, key=lambda circle: -circle[3]):
        tip = f"{row.network}: {row.accuracy:g} %, {amount(row.macs)}MACs, {amount(row.parameters)}parameters"
        circle = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}" fill="#56b4e9" fill-opacity=".45" stroke="#0072b2"/>'
        marks.append(f'<g class="network"><title>{escape(tip)}</title>{circle}</g>')
        others = [(u - s, v - s, u + s, v + s) for other, u, v, s in circles if other is not row]
        names.append(_name(row.network, x, y, r, [*taken, *others], taken))
    left, top, _, bottom = _FRAME
    content = [
        svg.text(left, 34, "Accuracy against multiply-adds", style="title"),
        svg.text(left, 54, f"area of a circle: parameters; the largest has {amount(most).strip()}", style="tick"),
        *scale.axes(),
        svg.text((left + _FRAME[2]) / 2, bottom + 44, "multiply-adds for one picture", anchor="middle"),
        _upright("accuracy, %", 24, (top + bottom) / 2),
        *marks,
        *names,
    ]
    return svg.picture(_WIDTH, _HEIGHT, "Accuracy against multiply-adds", _STYLE, content)


def _upright(words: str, x: float, y: float) -> str:
    return f'<g transform="translate({x:.0f} {y:.0f}) rotate(-90)">{svg.text(0, 0, words, anchor="middle")}</g>'


class _Scale:
    """From multiply-adds and percent to pixels, with room for the circles at the edges."""

    def __init__(self, macs: Sequence[int], accuracies: Sequence[float]) -> None:
        low, high = math.log10(min(macs)), math.log10(max(macs))
        self.low, self.high = low - 0.2, max(high, low + 0.6) + 0.2
        spread = max(accuracies) - min(accuracies)
        self.bottom = max(0.0, min(accuracies) - max(1.0, 0.15 * spread))
        self.top = min(100.0, max(accuracies) + max(1.0, 0.15 * spread))

    def x(self, macs: float) -> float:
        left, _, right, _ = _FRAME
        return left + (math.log10(macs) - self.low) / (self.high - self.low) * (right - left)

    def y(self, accuracy: float) -> float:
        _, top, _, bottom = _FRAME
        return bottom - (accuracy - self.bottom) / (self.top - self.bottom) * (bottom - top)

    def axes(self) -> list[str]:
        """Grid lines and their numbers: 1, 2 and 5 of each decade, and round percents."""
        left, top, right, bottom = _FRAME
        parts = [svg.box(left, top, right - left, bottom - top, fill="none", stroke=svg.RULE)]
        for power in range(math.floor(self.low), math.ceil(self.high) + 1):
            for factor in (1, 2, 5):
                macs = factor * 10**power if power >= 0 else 0
                if macs and self.low <= math.log10(macs) <= self.high:
                    x = self.x(macs)
                    parts.append(svg.line(x, top, x, bottom))
                    parts.append(svg.text(x, bottom + 18, _short(macs), style="tick", anchor="middle"))
        step = next(s for s in (0.5, 1, 2, 5, 10, 20) if (self.top - self.bottom) / s <= 9)
        for i in range(math.ceil(self.bottom / step), math.floor(self.top / step) + 1):
            y = self.y(i * step)
            parts.append(svg.line(left, y, right, y))
            parts.append(svg.text(left - 8, y + 4, f"{i * step:g}", style="tick", anchor="end"))
        return parts


def _short(macs: int) -> str:
    """A round count: 500000000 → 500 M."""
    unit, size = next((u, s) for u, s in (("G", 10**9), ("M", 10**6), ("K", 10**3), ("", 1)) if macs >= s)
    return f"{macs // size} {unit}".strip()


def _name(name: str, x: float, y: float, r: float, avoid: Sequence[_Area], named: list[_Area]) -> str:
    """A circle's name where it covers nothing, if there is such a place; its area joins `named`."""
    wide = svg.width_of(name) * 1.18  # names are bold
    inside = [(x - wide / 2, y + 4)] if wide < 1.8 * r else []
    beside = [(x + r + 4, y + 4), (x - r - 4 - wide, y + 4), (x - wide / 2, y - r - 5), (x - wide / 2, y + r + 14)]
    further = [(x + r + 4, y + 4 + 14 * i) for i in (-1, 1, -2, 2, -3, 3)]
    places = [(left, base, (left, base - 11, left + wide, base + 3)) for left, base in (*inside, *beside, *further)]
    within = [place for place in places if place[2][0] >= _FRAME[0] and place[2][2] <= _FRAME[2]] or places
    free = [place for place in within if not any(_overlap(place[2], other) for other in avoid)]
    left, base, area = (free or within)[0]
    named.append(area)
    return svg.text(left, base, name, style="name")


def _overlap(a: _Area, b: _Area) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
