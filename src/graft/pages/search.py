"""The page that `graft search --out` writes: the query, its neighbours in each space, and what the spaces are worth."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, Final

from PIL import Image

from graft.data.decode import decode, read_picture
from graft.disk.files import write_whole
from graft.errors import BadPicture
from graft.features.search import Found, Ranking
from graft.pages.page import jpeg, page
from graft.runtime.stream import ordered_map

_THUMBNAIL: Final = 160  # longest side, pixels
_QUALITY: Final = 82  # of JPEG


def write_page(out: Path, found: Found) -> None:
    """Write the page, whole or not at all. Raises GraftError where the file cannot be written."""
    write_whole(out, search_page(found).encode())


def search_page(found: Found) -> str:
    """The page as HTML text, pictures inside."""
    return page(
        "search.html.j2",
        title=f"Nearest to {Path(found.image).name}",
        found=found,
        query=_thumbnail(found.image),
        rankings=[(ranking.space.title, _matches(ranking, found)) for ranking in found.rankings],
    )


def _matches(ranking: Ranking, found: Found) -> list[dict[str, Any]]:
    """Neighbours with their pictures; where the query's class is known, a colour says which share it."""
    pictures = ordered_map(lambda match: _thumbnail(match.path), ranking.matches)
    return [
        {
            "match": match,
            "picture": picture,
            "path": os.path.relpath(match.path, found.root),
            "kind": "" if found.label is None else "same" if match.label == found.label else "other",
        }
        for match, picture in zip(ranking.matches, pictures, strict=True)
    ]


def _thumbnail(path: str) -> str:
    """The address of a small picture, or nothing where the file has gone since it was read."""
    try:
        picture = decode(read_picture(path), name=path, shortest=_THUMBNAIL // 2).image
    except BadPicture:
        return ""
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return jpeg(buffer.getvalue())
