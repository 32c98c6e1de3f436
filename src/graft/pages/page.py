"""The shell that every page shares: one file that stands alone, in which text from outside stays text.

Styles, drawings and pictures are inside; the page's own content security policy forbids anything else to be fetched,
and any script but the page's own.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from typing import Any

from markupsafe import Markup, escape

from graft.errors import shown
from graft.evaluate.intervals import Interval


def page(template: str, *, title: str, script: str = "", **parts: Any) -> str:
    """A whole page as HTML text.

    template: the name of a file of pages/templates that extends the shell. script: the name of one that holds a
    script. parts: what the template names; a str is escaped, a `Markup` (our own drawings) is not.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("graft.pages"),
        autoescape=True,
        finalize=_one_line,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= _FILTERS

    def read(name: str) -> Markup:
        assert environment.loader is not None
        return Markup(environment.loader.get_source(environment, name)[0])

    code = read(script) if script else Markup("")
    return environment.get_template(template).render(
        title=title, policy=_policy(code), style=read("style.css"), script=code, **parts
    )


def inline(svg: str) -> Markup:
    """A drawing of ours, an SVG file, as a part of a page."""
    return Markup(svg[svg.index("<svg") :])


def png(picture: bytes) -> str:
    """A PNG file as the address of an image inside the page."""
    return _data_url(picture, "image/png")


def jpeg(picture: bytes) -> str:
    """A JPEG file as the address of an image inside the page."""
    return _data_url(picture, "image/jpeg")


def percent(share: float) -> str:
    """A share 0–1 as `88.6 %`; a dash for nan."""
    return "–" if share != share else f"{100 * share:.1f} %"


def points(difference: Interval) -> str:
    """A difference of shares in percentage points: `65.1 (60.9 to 69.1)`."""
    return f"{100 * difference.value:.1f} ({100 * difference.low:.1f} to {100 * difference.high:.1f})".replace("-", "−")


def duration(seconds: float) -> str:
    """`0.42 s`, `36 s`, `4 min 18 s` or `2 h 5 min`."""
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def unbroken(text: str) -> Markup:
    """Escaped text in which no line ends between a number and its per cent sign or inside a range."""
    return Markup(re.sub(r"(?<=\d)–(?=\d)", "–\N{WORD JOINER}", str(escape(shown(text)))).replace(" %", "&nbsp;%"))


_FILTERS: dict[str, Callable[..., Any]] = {
    "count": "{:,}".format,
    "duration": duration,
    "jpeg": jpeg,
    "percent": percent,
    "png": png,
    "unbroken": unbroken,
}


def _one_line(value: Any) -> Any:
    """Text from outside without control characters or lone surrogates; the environment escapes it afterwards."""
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _policy(script: str) -> str:
    """What the browser may do: show what is inside, and run the one script that has this digest."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    allowed = f"; script-src 'sha256-{digest}'" if script else ""
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'{allowed}"


def _data_url(picture: bytes, media: str) -> str:
    return f"data:{media};base64,{base64.b64encode(picture).decode('ascii')}"
