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
    from graft.lessons import schedules as job

    print(job.run(name, epochs=epochs, warmup=warmup, rate=rate, svg=svg, png=png, as_json=json))
