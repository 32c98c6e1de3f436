"""`graft demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graft.cli.options import Cache


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the pictures and the model.")] = Path("demo"),
    cache: Cache = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier demo.")] = False,
) -> None:
    """Train on 5,000 real handwritten digits that come with the installation."""
    import graft.jobs.demo as job
    from graft.cli.show import progress_bar
    from graft.cli.texts.train import summary

    with progress_bar() as progress:
        manifest = job.run(out, cache=cache, force=force, progress=progress)
    print(summary(manifest, out / job.MODEL))
