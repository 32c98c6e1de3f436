"""The page that `graft analyze --html` writes: drawings of a network, to zoom and to point at."""

from __future__ import annotations

from collections.abc import Sequence

from graft.pages.page import inline, page


def analysis_page(title: str, drawings: Sequence[str]) -> str:
    """The page as HTML text. drawings: SVG files of `graft.analysis.drawing`."""
    return page("analysis.html.j2", title=title, script="zoom.js", pictures=[inline(svg) for svg in drawings])
