"""The page of examples that `graft augment` writes: rows of pictures with names, as an image or as HTML."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from graft.pages.page import page

Pixels = npt.NDArray[np.uint8]  # (H, W, 3)

_LEAST_SIDE: Final = 64  # pixels; smaller pictures are enlarged by a whole number, so that their pixels stay visible
_GAP, _MARGIN, _LABELS, _TITLE = 6, 12, 220, 36  # pixels: between pictures, around all, for names, for the title
_DPI: Final = 100
_PAPER: Final = "#e9edf1"  # not white, so that the edges of white pictures show
_QUALITY: Final = 80  # of JPEG and WebP


@dataclass(frozen=True)
class Row:
    """One line of the page: what was done, and pictures (H, W, 3) that came of it, all of one size."""

    name: str
    summary: str
    pictures: tuple[Pixels, ...]


def as_image(rows: Sequence[Row], title: str, suffix: str) -> bytes:
    """The file's bytes; rows: at least one, pictures of one size. suffix: .png, .jpg or .webp."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cells = [[_enlarged(picture) for picture in row.pictures] for row in rows]
    height, width = cells[0][0].shape[:2]
    line = max(height, 58) + _GAP  # a name and three lines of summary
    most = max(len(row) for row in cells)
    total = (_LABELS + most * (width + _GAP) + 2 * _MARGIN, _TITLE + len(rows) * line + 2 * _MARGIN)
    figure = Figure(figsize=(total[0] / _DPI, total[1] / _DPI), dpi=_DPI, facecolor=_PAPER)
    FigureCanvasAgg(figure)
    figure.text(_MARGIN / total[0], 1 - _MARGIN / total[1], title, size=12, weight="bold", va="top")
    for number, (row, pictures) in enumerate(zip(rows, cells, strict=True)):
        top = total[1] - _MARGIN - _TITLE - number * line  # pixels from the bottom, as matplotlib counts
        figure.text(_MARGIN / total[0], top / total[1], row.name, size=10, weight="bold", va="top")
        summary = textwrap.fill(row.summary, 34)
        figure.text(_MARGIN / total[0], (top - 17) / total[1], summary, size=7.5, color="#444444", va="top")
        for place, picture in enumerate(pictures):
            left = _MARGIN + _LABELS + place * (width + _GAP)
            figure.figimage(picture, left, top - height, origin="upper")
    file = io.BytesIO()
    kind = {".png": "png", ".jpg": "jpeg", ".webp": "webp"}[suffix]
    figure.savefig(file, format=kind, pil_kwargs={} if kind == "png" else {"quality": _QUALITY})
    return file.getvalue()


def as_html(rows: Sequence[Row], title: str) -> bytes:
    """The page, pictures inside."""
    shown = [{"name": row.name, "summary": row.summary, "pictures": map(_png, row.pictures)} for row in rows]
    return page("augment.html.j2", title=title, rows=shown).encode()


def _enlarged(picture: Pixels) -> Pixels:
    """(H, W, 3) → each pixel k×k, so that the short side is _LEAST_SIDE or more."""
    k = -(-_LEAST_SIDE // min(picture.shape[:2]))
    return np.repeat(np.repeat(picture, k, axis=0), k, axis=1)


def _png(picture: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(_enlarged(picture)).save(file, "PNG")
    return file.getvalue()
