"""`graft curves`: what the curves of training runs say, in words and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from graft.disk.files import write_whole
from graft.errors import UsageError, nearest, shown
from graft.training.checks.curves import Finding, verdict
from graft.training.loop.history import read_history

if TYPE_CHECKING:
    from graft.pages.curves import Drawn

FORMS: Final = (".svg", ".png", ".html")


def curves(run: str | Path) -> tuple[Finding, ...]:
    """What the curves of one run say, most serious first: at least one finding, which may be that all is well.

    run: a model folder, the folder of a run that is still working, or its history file.
    Raises BadModel, in one line, where there is no history of a training run.
    """
    return verdict(read_history(Path(run)))


def run(runs: Sequence[Path], out: Path | None = None) -> tuple[Drawn, ...]:
    """The runs with their verdicts, in the order given; `out` gets their picture, by its ending SVG, PNG or HTML.

    Raises UsageError for another ending, BadModel for what is no run, GraftError when `out` cannot be written.
    """
    from graft.pages.curves import Drawn

    if out is not None and out.suffix.lower() not in FORMS:
        raise UsageError(f"--out must end in .svg, .png or .html, got {shown(out)}{nearest(out.suffix.lower(), FORMS)}")
    histories = [(shown(path), read_history(path)) for path in runs]
    drawn = tuple(Drawn(name, history, verdict(history)) for name, history in histories)
    if out is not None:
        _write(out, drawn)
    return drawn


def _write(out: Path, runs: Sequence[Drawn]) -> None:
    from graft.pages.curves import curves_html, curves_png, curves_svg

    form = out.suffix.lower()
    content = curves_png(runs) if form == ".png" else (curves_svg if form == ".svg" else curves_html)(runs).encode()
    write_whole(out, content)
