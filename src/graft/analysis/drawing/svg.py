"""The few pieces of SVG that the pictures are made of. Lengths are in pixels; all text is escaped here."""

from __future__ import annotations

from html import escape
from typing import Final, Literal

Anchor = Literal["start", "middle", "end"]

INK: Final = "#1f2933"
FAINT: Final = "#66727f"
RULE: Final = "#d5dbe1"
PAPER: Final = "#ffffff"

# Fill and outline of each family of layers: tints of the Okabe–Ito palette, told apart with colour-blind eyes.
FAMILIES: Final = {
    "convolution": ("#cfe3f5", "#0072b2"),
    "pooling": ("#fbe3c0", "#c77f00"),
    "linear": ("#cdeadf", "#008463"),
    "attention": ("#f3d9e8", "#b0568a"),
    "join": ("#fbf3b8", "#9a8c00"),
    "other": ("#e8ebee", "#7b8794"),
}
_FAMILY_OF: Final = {
    "conv": "convolution",
    "transposed conv": "convolution",
    "max pool": "pooling",
    "avg pool": "pooling",
    "stochastic pool": "pooling",
    "linear": "linear",
    "matmul": "attention",
    "softmax": "attention",
    "add": "join",
    "concat": "join",
    "multiply": "join",
    "maximum": "join",
}


def family(kind: str) -> str:
    """The family whose colours a kind of layer wears."""
    return _FAMILY_OF.get(kind, "other")


def text(x: float, y: float, content: str, *, style: str = "", anchor: Anchor = "start") -> str:
    """One line of text; style is a class of the picture's style sheet."""
    kind = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{kind} text-anchor="{anchor}">{escape(content)}</text>'


def box(x: float, y: float, width: float, height: float, *, fill: str, stroke: str = "none", radius: float = 0) -> str:
    """A rectangle, rounded when radius is above 0."""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius:g}" '
        f'fill="{fill}" stroke="{stroke}"/>'
    )


def line(x1: float, y1: float, x2: float, y2: float, *, stroke: str = RULE) -> str:
    """A straight line, one pixel wide."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}"/>'


def picture(width: float, height: float, title: str, style: str, content: list[str]) -> str:
    """A whole SVG file with its title, for readers and screen readers, and its style sheet."""
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    font = f'font-family="Inter, system-ui, sans-serif" font-size="12" fill="{INK}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" {font}>',
            f"<title>{escape(title)}</title>",
            f"<style>text{{font-variant-numeric:tabular-nums}}{style}</style>",
            box(0, 0, width, height, fill=PAPER),
            *content,
            "</svg>",
        ]
    )


def width_of(content: str, size: float = 12) -> float:
    """About how wide a text is at a font size, in pixels."""
    return 0.56 * size * len(content)
