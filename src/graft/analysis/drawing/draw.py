"""A network as a graph with its cost table beside it: one SVG file.

Each layer's node stands on its row of the table and lights up with it. Bars behind the numbers compare the layers.
"""

from __future__ import annotations

from html import escape
from typing import Final

from graft.analysis.drawing import svg
from graft.analysis.drawing.lanes import Edge, Layout, lay_out
from graft.analysis.show import amount, by, cells, summary
from graft.analysis.table import NOT_CALLED, PICTURE, Analysis, Layer, folded

_LINE: Final = 26  # height of a row
_TOP: Final = 104  # where the first row begins
_NODE: Final = (124, 19)
_DOT: Final = (16, 14)
_WIDEST: Final = 5  # more lanes than this are drawn narrow, without text in the nodes
_MARGIN: Final = 24
_GAP: Final = 26
_STYLE: Final = (
    ".title{font-size:19px;font-weight:650}.faint{fill:#66727f}.head{fill:#66727f;font-size:11px}"
    ".node{font-size:11px}.edge{fill:none;stroke:#8a96a3;stroke-width:1.4}"
    ".lit{fill:transparent}.row:hover .lit{fill:#0072b2;fill-opacity:.1}"
    ".row:hover .shape{stroke-width:2.5}.edge.on{stroke:#0072b2;stroke-width:2.6}"
)


def as_svg(analysis: Analysis, *, batch: int = 1, fold: bool = True) -> str:
    """The graph and its table as an SVG file.

    batch: pictures at a time, for the memory at the foot. fold: norms, activations, dropout and flattening are drawn
    with the layer that they follow; the table's numbers are then theirs together.
    """
    shown = folded(analysis) if fold else analysis
    layout = lay_out(shown)
    step = _NODE[0] + 16 if layout.width <= _WIDEST else max(10, min(_DOT[0] + 8, 640 // layout.width))
    node = _NODE if layout.width <= _WIDEST else (min(_DOT[0], step - 2), _DOT[1])
    graph = layout.width * step
    columns = _columns(shown)
    left = _MARGIN + graph + _GAP
    width = max(left + columns[-1].right - columns[0].left + _MARGIN, 760)
    foot = _TOP + len(shown.layers) * _LINE + 26
    notes = summary(analysis, batch)
    place = _Place(step, node, left)
    content = [
        svg.text(_MARGIN, 34, analysis.network, style="title"),
        svg.text(_MARGIN, 54, f"input {by(analysis.input_shape)} · {_counts(analysis)}", style="faint"),
        *_legend(shown, width),
        *_headings(columns, left),
        *(_edge(edge, layout, place) for edge in layout.edges),
        _source(place),
        *(_row(i, layer, layout, place, columns, width) for i, layer in enumerate(shown.layers)),
        svg.line(left, foot - 22, width - _MARGIN, foot - 22),
        *(svg.text(_MARGIN, foot + 18 * i, note, style="faint") for i, note in enumerate(notes)),
    ]
    height = foot + 18 * len(notes) + 10
    width = max(width, _MARGIN * 2 + max(svg.width_of(note, 11) for note in notes))
    return svg.picture(width, height, f"{analysis.network}: graph and cost by layer", _STYLE, content)


class _Place:
    """Where lanes, nodes and the table stand."""

    def __init__(self, step: int, node: tuple[int, int], left: float) -> None:
        self.step, self.node, self.left = step, node, left

    def x(self, lane: int) -> float:
        return _MARGIN + (lane + 0.5) * self.step

    def y(self, row: int) -> float:
        return _TOP + (row + 0.5) * _LINE


class _Column:
    """One column of the table: a heading, its cell, and for numbers the value behind the bar."""

    def __init__(self, heading: str, left: float, width: float, cell: int, values: list[int]) -> None:
        self.heading, self.left, self.width, self.cell, self.values = heading, left, width, cell, values
        self.most = max(values, default=0)

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def numeric(self) -> bool:
        return self.cell >= 4


def _columns(analysis: Analysis) -> list[_Column]:
    layers = analysis.layers
    numbers = {
        4: [layer.activation_bytes for layer in layers],
        5: [layer.parameters for layer in layers],
        6: [layer.macs for layer in layers],
    }
    headings = {
        0: "layer",
        2: "output",
        3: "window",
        4: "memory, KB",
        5: "parameters",
        6: "MACs",
        7: "field, px",
        8: "jump",
    }
    texts = [cells(layer) for layer in layers]
    columns: list[_Column] = []
    x = 0.0
    for cell, heading in headings.items():
        longest = max([svg.width_of(row[cell], 12) for row in texts] + [svg.width_of(heading, 11)])
        width = max(longest + 14, 84 if cell in numbers else 0)
        columns.append(_Column(heading, x, width, cell, numbers.get(cell, [])))
        x += width + 10
    return columns


def _counts(analysis: Analysis) -> str:
    calls = sum(layer.kind != NOT_CALLED for layer in analysis.layers)
    return f"{calls} layers · {amount(analysis.parameters).strip()} parameters · {amount(analysis.macs).strip()} MACs"


def _legend(analysis: Analysis, width: float) -> list[str]:
    """The families that occur, right of the title."""
    found = {svg.family(layer.kind) for layer in analysis.layers}
    parts: list[str] = []
    x = width - _MARGIN
    for name in reversed([name for name in svg.FAMILIES if name in found]):
        x -= svg.width_of(name, 11) + 30
        fill, stroke = svg.FAMILIES[name]
        parts += [
            svg.box(x, 60, 14, 12, fill=fill, stroke=stroke, radius=3),
            svg.text(x + 19, 70, name, style="head"),
        ]
    return parts


def _headings(columns: list[_Column], left: float) -> list[str]:
    parts = []
    for column in columns:
        x = left + (column.right if column.numeric else column.left)
        parts.append(svg.text(x, _TOP - 8, column.heading, style="head", anchor="end" if column.numeric else "start"))
    parts.append(svg.line(left, _TOP - 2, left + columns[-1].right, _TOP - 2))
    return parts


def _source(place: _Place) -> str:
    """The picture, above the first row."""
    return svg.text(place.x(0), _TOP - 14, "picture", style="head", anchor="middle")


def _edge(edge: Edge, layout: Layout, place: _Place) -> str:
    """From the foot of a node, or its side when the line changes lanes, down to the next one's head or side."""
    half = place.node[1] / 2
    start = (
        (place.x(0), _TOP - 10.0)
        if edge.source == PICTURE
        else (place.x(layout.lanes[edge.source]), place.y(edge.source))
    )
    end = (place.x(layout.lanes[edge.target]), place.y(edge.target))
    x, bend = place.x(edge.lane), 7
    if x == start[0]:
        path = f"M{x:.1f} {start[1] + (0 if edge.source == PICTURE else half):.1f}"
    else:
        turn = bend if x > start[0] else -bend
        path = f"M{start[0]:.1f} {start[1]:.1f}H{x - turn:.1f}q{turn} 0 {turn} {bend}"
    if x == end[0]:
        path += f"V{end[1] - half:.1f}"
    else:
        turn = bend if end[0] > x else -bend
        path += f"V{end[1] - bend:.1f}q0 {bend} {turn} {bend}H{end[0]:.1f}"
    return f'<path class="edge" data-from="{edge.source}" data-to="{edge.target}" d="{path}"/>'


def _row(i: int, layer: Layer, layout: Layout, place: _Place, columns: list[_Column], width: float) -> str:
    """A node and its row of the table, in one group that lights up as a whole."""
    y, x = place.y(i), place.x(layout.lanes[i])
    node_width, node_height = place.node
    fill, stroke = svg.FAMILIES[svg.family(layer.kind)]
    stroke = "#c0392b" if layer.uncounted else stroke
    parts = [f'<rect class="lit" x="0" y="{y - _LINE / 2:.1f}" width="{width:.1f}" height="{_LINE}"/>']
    if layer.kind != NOT_CALLED:
        shape = svg.box(
            x - node_width / 2, y - node_height / 2, node_width, node_height, fill=fill, stroke=stroke, radius=6
        )
        parts.append(shape.replace("<rect", '<rect class="shape"'))
        if place.node == _NODE:
            parts.append(svg.text(x, y + 4, _caption(layer), style="node", anchor="middle"))
    values = cells(layer)
    for column in columns:
        cell_left, cell_right = place.left + column.left, place.left + column.right
        if column.values and column.most:
            share = column.values[i] / column.most * column.width
            parts.append(svg.box(cell_left + 4, y - 9, share, 18, fill=fill, radius=2))
        content = values[column.cell].rstrip()
        parts.append(
            svg.text(cell_right, y + 4, content, anchor="end")
            if column.numeric
            else svg.text(cell_left, y + 4, content)
        )
    tip = escape(f"{layer.name}: {layer.kind}, {by(layer.input_shape)} → {by(layer.output_shape)}")
    return f'<g class="row" data-row="{i}"><title>{tip}</title>{"".join(parts)}</g>'


def _caption(layer: Layer) -> str:
    """What a node says: its kernel and kind, and how many channels leave a layer that sets them."""
    kernel = f"{by(layer.kernel)} " if layer.kernel and max(layer.kernel) < 100 else ""
    kind = layer.kind
    if (
        kind == "conv"
        and layer.groups
        and layer.groups > 1
        and layer.input_shape
        and layer.groups == layer.input_shape[0]
    ):
        kind = "depthwise"
    sets_channels = kind in ("conv", "depthwise", "transposed conv", "linear")
    channels = f", {layer.output_shape[0]}" if sets_channels and len(layer.output_shape) in (1, 3) else ""
    caption = f"{kernel}{kind}{channels}"
    return caption if len(caption) <= 21 else caption[:20] + "…"
