"""The page that `graft search --out` writes: the query, its neighbours in each space, and what the spaces are worth."""

from __future__ import annotations

import base64
import html
import io
import os
from pathlib import Path
from typing import Final

from PIL import Image

from graft.data.decode import decode, read_picture
from graft.disk.files import write_whole
from graft.errors import BadPicture, shown
from graft.features.search import Found, Match, Quality, Ranking
from graft.runtime.stream import ordered_map

_THUMBNAIL: Final = 160  # longest side, pixels
_QUALITY: Final = 82  # of JPEG
_STYLE: Final = """
:root { color-scheme: light dark; font: 15px/1.4 system-ui, sans-serif; }
body { background: light-dark(#f4f6f8, #1f2328); margin: 1.5rem auto; max-width: 84rem; padding: 0 1rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
ol { display: grid; gap: .6rem; grid-template-columns: repeat(auto-fill, minmax(10.2rem, 1fr)); list-style: none;
  margin: 0; padding: 0; }
li, .query { background: light-dark(#fff, #2a2f36); border-top: 3px solid #8886; padding: .5rem; }
.query { display: inline-block; }
.same { border-top-color: light-dark(#1a7f4b, #4cc38a); } .other { border-top-color: light-dark(#c4441c, #ff9169); }
img { display: block; height: 10rem; margin-bottom: .3rem; object-fit: contain; width: 100%; }
.path { display: block; font-size: .8rem; opacity: .75; overflow-wrap: anywhere; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem .2rem 0; text-align: left; }
td { font-variant-numeric: tabular-nums; }
"""


def write_page(out: Path, found: Found) -> None:
    """Write the page, whole or not at all. Raises GraftError where the file cannot be written."""
    write_whole(out, page(found).encode())


def page(found: Found) -> str:
    """One self-contained page as HTML text, pictures inside."""
    title = f"Nearest to {_text(Path(found.image).name)}"
    label = f"<b>{_text(found.label)}</b> " if found.label is not None else ""
    left_out = f"; {len(found.copies)} with the same bytes left out" if found.copies else ""
    rankings = "".join(_section(ranking, found) for ranking in found.rankings)
    quality = _table(found.quality) if found.quality is not None else ""
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body><h1>{title}</h1><p>of {found.pictures:,} pictures in {_text(found.folder)}{left_out}</p>"
        f'<div class="query">{_picture(found.image)}{label}<span class="path">{_text(found.image)}</span></div>'
        f"{rankings}{quality}</body></html>\n"
    )


def _section(ranking: Ranking, found: Found) -> str:
    """A heading and a row of pictures; where the query's class is known, a colour says which share it."""
    pictures = ordered_map(lambda match: _picture(match.path), ranking.matches)
    items = (_item(m, picture, found) for m, picture in zip(ranking.matches, pictures, strict=True))
    return f"<h2>In {_text(ranking.space.title)}</h2><ol>{''.join(items)}</ol>"


def _item(match: Match, picture: str, found: Found) -> str:
    kind = "" if found.label is None else ' class="same"' if match.label == found.label else ' class="other"'
    name = f"<b>{_text(match.label)}</b> " if match.label is not None else ""
    path = _text(os.path.relpath(match.path, found.root))
    return f'<li{kind}>{picture}{name}{match.distance:.4g}<span class="path">{path}</span></li>'


def _table(quality: Quality) -> str:
    """Precision at k: a row a space, a column a k."""
    ks = "".join(f"<th>first {precision.k}</th>" for precision in quality.at[0][1])
    rows = "".join(
        f"<tr><td>{_text(space.title)}</td>" + "".join(f"<td>{_text(p.share.percent())}</td>" for p in at) + "</tr>"
        for space, at in quality.at
    )
    return (
        f"<h2>How often neighbours share the class</h2><p>Asked of {quality.queries:,} pictures of this folder, "
        "near-duplicates left out; 95 % interval.</p>"
        f"<table><tr><th></th>{ks}</tr>{rows}"
        f"<tr><td>drawn at random</td><td>{100 * quality.chance:.1f} %</td></tr></table>"
    )


def _picture(path: str) -> str:
    """An `img` with the thumbnail inside, or a word where the file has gone since it was read."""
    try:
        picture = decode(read_picture(path), name=path, shortest=_THUMBNAIL // 2).image
    except BadPicture:
        return "<p>no longer there</p>"
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img alt="{_text(Path(path).name)}" src="data:image/jpeg;base64,{data}">'


def _text(value: str) -> str:
    return html.escape(shown(value))
