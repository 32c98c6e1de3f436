"""`graft curves`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graft.cli.options import Json


def curves(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Model folders, folders of runs still at work, or history files."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Draw all runs into one .svg, .png or .html.")
    ] = None,
    json: Json = False,
) -> None:
    """Say what the curves of training runs show, and what to do about it."""
    from graft.cli.texts.curves import as_json, as_text
    from graft.jobs import curves as job

    drawn = job.run(runs, out)
    print(as_json(drawn) if json else as_text(drawn))
    if out is not None and not json:
        print(f"\nwrote {out}")
