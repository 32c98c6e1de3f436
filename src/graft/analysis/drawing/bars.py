"""Where a network's memory, parameters and multiply-adds are: three rows of bars, a bar a layer."""

from __future__ import annotations

from html import escape
from typing import Final

from graft.analysis.drawing import svg
from graft.analysis.show import amount, binary
from graft.analysis.table import Analysis, Layer, folded

_MARGIN: Final = 64
_PANEL: Final = 150
_GAP: Final = 62
_TOP: Final = 84
_LONGEST_LABEL: Final = 26
_STYLE: Final = (
    ".title{font-size:19px;font-weight:650}.faint{fill:#66727f}.panel{font-size:13px;font-weight:600}.tick{font-size:11px}"
    ".bar:hover rect{fill-opacity:.6}"
)


def bars_svg(analysis: Analysis) -> str:
    """Memory, parameters and multiply-adds by layer as an SVG file.

    Layers that cost nothing in all three are left out; norms and activations count with the layer that they follow.
    """
    layers = [x for x in folded(analysis).layers if x.activation_bytes or x.parameters or x.macs]
    panels = (
        ("memory of activations", [x.activation_bytes for x in layers], binary(analysis.activation_bytes)),
        ("parameters", [x.parameters for x in layers], amount(analysis.parameters).strip()),
        ("multiply-adds", [x.macs for x in layers], amount(analysis.macs).strip()),
    )
    step = max(5.0, min(44.0, 1080 / max(1, len(layers))))
    width = 2 * _MARGIN + max(step * len(layers), 560)
    named = step >= 12
    longest = max((min(len(x.name), _LONGEST_LABEL) for x in layers), default=0)
    foot = -8 + (svg.width_of("x" * longest, 11) if named else 0)
    height = _TOP + len(panels) * (_PANEL + _GAP) + foot
    content = [svg.text(_MARGIN, 34, analysis.network, style="title")]
    for p, (heading, values, total) in enumerate(panels):
        base = _TOP + p * (_PANEL + _GAP) + _PANEL + 16
        content += _panel(layers, values, f"{heading}: {total} in all", base, step)
    base = _TOP + len(panels) * (_PANEL + _GAP) - 34
    if named:
        content += [_label(layer.name, _MARGIN + (i + 0.5) * step, base) for i, layer in enumerate(layers)]
    return svg.picture(width, height, f"{analysis.network}: cost by layer", _STYLE, content)


def _panel(layers: list[Layer], values: list[int], heading: str, base: float, step: float) -> list[str]:
    """One row of bars standing on `base`, with its highest value named."""
    most, total = max(values, default=0), max(1, sum(values))
    parts = [
        svg.text(_MARGIN, base - _PANEL - 24, heading, style="panel"),
        svg.line(_MARGIN, base, _MARGIN + step * len(layers), base, stroke="#8a96a3"),
    ]
    for i, (layer, value) in enumerate(zip(layers, values, strict=True)):
        tall = _PANEL * value / most if most else 0
        x, (fill, stroke) = _MARGIN + i * step, svg.FAMILIES[svg.family(layer.kind)]
        gap = 0.12 * step
        bar = svg.box(x + gap, base - tall, step - 2 * gap, tall, fill=stroke if step < 12 else fill, stroke=stroke)
        share = f"{value / total:.0%}"
        label = svg.text(x + step / 2, base - tall - 4, share, style="tick", anchor="middle")
        worth_saying = step >= 30 and value / total >= 0.005
        tip = f"<title>{escape(layer.name)}: {value:,} ({share})</title>"
        parts.append(f'<g class="bar">{tip}{bar}{label if worth_saying else ""}</g>')
    return parts


def _label(name: str, x: float, y: float) -> str:
    """A layer's name, upright below its bars."""
    short = name if len(name) <= _LONGEST_LABEL else "…" + name[1 - _LONGEST_LABEL :]
    tag = svg.text(0, 0, short, style="tick", anchor="end")
    return f'<g transform="translate({x + 4:.1f} {y:.1f}) rotate(-90)">{tag}</g>'
