"""An analysis as text for a terminal, as CSV and as JSON. Numbers are exact; the terminal's table alone is rounded."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, Final

from graft.analysis.table import NOT_CALLED, Analysis, Layer, Shape, memory

_CSV_COLUMNS: Final = (
    *("name", "kind", "input_shape", "output_shape", "kernel", "stride", "padding", "dilation", "groups"),
    *("activation_bytes", "output_bytes", "parameters", "macs", "pool_operations"),
    *("receptive_field", "jump", "centre", "gated", "uncounted"),
)


def as_json(analysis: Analysis) -> str:
    """A JSON object: network, input (C, H, W), layers and totals; two spaces of indent.

    kernel, stride and padding are [rows, columns]; receptive_field is the longer side in pixels, or null where
    positions cannot be followed; macs is null in a layer that cannot be counted, which the totals then leave out.
    """
    document = {
        "network": analysis.network,
        "input": list(analysis.input_shape),
        "layers": [_json_layer(layer) for layer in analysis.layers],
        "totals": {
            "activation_bytes": analysis.activation_bytes,
            "parameters": analysis.parameters,
            "macs": analysis.macs,
        },
    }
    return json.dumps(document, indent=2)


def _json_layer(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "kind": layer.kind,
        "input_shape": list(layer.input_shape),
        "output_shape": list(layer.output_shape),
        "kernel": layer.kernel and list(layer.kernel),
        "stride": layer.stride and list(layer.stride),
        "padding": layer.padding and list(layer.padding),
        "groups": layer.groups,
        "activation_bytes": layer.activation_bytes,
        "parameters": layer.parameters,
        "macs": None if layer.uncounted else layer.macs,
        "receptive_field": max(layer.field.size) if layer.field else None,
    }


def as_csv(analysis: Analysis) -> str:
    """A header and a row for each layer; pairs and shapes as 3×227×227, fields and centres in pixels."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for layer in analysis.layers:
        field = layer.field
        writer.writerow(
            (
                *(layer.name, layer.kind, by(layer.input_shape), by(layer.output_shape)),
                *(by(layer.kernel), by(layer.stride), by(layer.padding), by(layer.dilation), layer.groups or ""),
                *(layer.activation_bytes, layer.output_bytes, layer.parameters),
                "" if layer.uncounted else layer.macs,
                layer.pool_operations,
                by(field.size) if field else "",
                f"{float(field.rows.jump):g}×{float(field.columns.jump):g}" if field else "",
                f"{float(field.rows.centre):g}×{float(field.columns.centre):g}" if field else "",
                ("yes" if field.gated else "no") if field else "",
                layer.uncounted,
            )
        )
    return out.getvalue()


_HEADINGS: Final = ("layer", "kind", "output", "window", "KB", "params", "MACs", "field", "jump", "centre")


def as_text(analysis: Analysis, *, batch: int = 1) -> str:
    """The table as a terminal shows it, its totals, and the memory that `batch` pictures need."""
    lines = aligned([_HEADINGS, *(cells(layer) for layer in analysis.layers)], left=4)
    return "\n".join(
        [f"{analysis.network}, input {by(analysis.input_shape)}", "", *lines, "", *summary(analysis, batch)]
    )


def aligned(rows: Sequence[Sequence[str]], *, left: int) -> list[str]:
    """A table as lines of text, its first row ruled off as the head; `left` columns stand left, the others right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        columns = enumerate(zip(row, widths, strict=True))
        lines.append("  ".join(c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in columns).rstrip())
    return [lines[0], "─" * max(len(line) for line in lines), *lines[1:]]


def summary(analysis: Analysis, batch: int) -> list[str]:
    """Sentences for the foot of a table: totals, memory, and what could not be counted or never ran."""
    need = memory(analysis, batch=batch)
    pictures = f"{batch} picture{'s' if batch > 1 else ''}"
    flops = f"{amount(2 * analysis.macs)}FLOP, counting two for each"
    lines = [
        f"parameters {analysis.parameters:,}; multiply-adds {analysis.macs:,} a picture ({flops})",
        f"activations {binary(analysis.activation_bytes)} a picture",
        f"memory for {pictures}: about {binary(need.infer)} to infer, {binary(need.train)} to train with momentum",
    ]
    if analysis.uncounted:
        names = "; ".join(f"{layer.name}: {layer.uncounted}" for layer in analysis.uncounted)
        lines.append(f"not counted: {names}")
    idle = [layer.name for layer in analysis.layers if layer.kind == NOT_CALLED]
    if idle:
        lines.append(f"never called, yet with parameters: {', '.join(idle)}")
    if any(layer.field and layer.field.gated for layer in analysis.layers):
        lines.append("field*: a gate also scales the map by numbers drawn from the whole picture")
    return lines


def cells(layer: Layer) -> tuple[str, ...]:
    """One layer as the table's ten cells, rounded for reading."""
    field = layer.field
    window = ""
    if layer.kernel and layer.stride and layer.padding:
        window = by(layer.kernel)
        window += f" s{square(layer.stride)}" if layer.stride != (1, 1) else ""
        window += f" p{square(layer.padding)}" if layer.padding != (0, 0) else ""
        window += f" d{square(layer.dilation)}" if layer.dilation not in (None, (1, 1)) else ""
        window += f" g{layer.groups}" if (layer.groups or 1) > 1 else ""
    return (
        layer.name,
        layer.kind,
        by(layer.output_shape),
        window,
        f"{layer.activation_bytes / 1024:,.0f}" if layer.activation_bytes else "–",
        amount(layer.parameters) if layer.parameters else "–",
        "?" if layer.uncounted else amount(layer.macs) if layer.macs else "–",
        (square(field.size) + ("*" if field.gated else "")) if field else "?",
        square((float(field.rows.jump), float(field.columns.jump))) if field else "?",
        square((float(field.rows.centre), float(field.columns.centre))) if field else "?",
    )


def by(shape: Shape | None) -> str:
    """(3, 227, 227) → 3×227×227, None → nothing."""
    return "×".join(str(side) for side in shape) if shape else ""


def square(pair: Sequence[float] | None) -> str:
    """(7, 7) → 7, (1, 7) → 1×7; one decimal at most."""
    if not pair:
        return ""
    sides = [f"{side:.1f}".removesuffix(".0") for side in pair]
    return sides[0] if len(set(sides)) == 1 else "×".join(sides)


def amount(number: int) -> str:
    """A count in K, M or G (thousands), three digits: 72,855,552 → 72.9 M."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("K", 10**3)):
        if number >= size:
            value = number / size
            return f"{value:.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f} {unit}"
    return f"{number} "


def binary(size: int) -> str:
    """Bytes in KB, MB or GB of 1024: 1,994,752 → 1.9 MB."""
    for unit, scale in (("GB", 2**30), ("MB", 2**20)):
        if size >= scale:
            return f"{size / scale:,.1f} {unit}"
    return f"{size / 1024:,.1f} KB"
