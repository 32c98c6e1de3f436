"""`graft schedule`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graft.cli.options import Json


def schedule(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A schedule; without one, all are listed.")] = None,
    epochs: Annotated[int, typer.Option("--epochs", help="Length of the run.")] = 90,
    warmup: Annotated[float, typer.Option("--warmup", help="Epochs in which the rate rises linearly first.")] = 0.0,
    rate: Annotated[float, typer.Option("--rate", help="Base rate.")] = 0.1,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write the picture as SVG.")] = None,
    png: Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Write the picture as PNG.")] = None,
    json: Json = False,
) -> None:
    """Draw how a schedule changes the learning rate over a run, with its formula and source."""
    from graft.cli.texts.schedule import as_json, as_text
    from graft.errors import shown
    from graft.jobs import schedule as job

    curves = job.run(name, epochs=epochs, warmup=warmup, rate=rate, svg=svg, png=png)
    if json:
        print(as_json(curves, alone=name is not None))
        return
    print(as_text(curves, alone=name is not None))
    for path in (svg, png):
        if path is not None:
            print(f"wrote {shown(path)}")
