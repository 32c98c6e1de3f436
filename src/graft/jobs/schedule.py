"""`graft schedule`: the rates of learning-rate schedules over a run, and pictures of them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from graft.disk.files import write_whole
from graft.lessons.schedules import Curve, curve, picture
from graft.training.recipe.schedules import SCHEDULES


def run(
    name: str | None,
    *,
    epochs: int = 90,
    warmup: float = 0.0,
    rate: float = 0.1,
    svg: Path | None = None,
    png: Path | None = None,
) -> tuple[Curve, ...]:
    """One schedule or, without a name, all of them; svg, png: files for the picture.

    Raises UsageError as `curve` does, and GraftError where a file cannot be written.
    """
    names = [name] if name is not None else [schedule.name for schedule in SCHEDULES]
    curves = tuple(curve(each, epochs=epochs, warmup=warmup, rate=rate) for each in names)
    files: tuple[tuple[Path | None, Literal["svg", "png"]], ...] = ((svg, "svg"), (png, "png"))
    for path, form in files:
        if path is not None:
            write_whole(path, picture(curves, form))
    return curves
