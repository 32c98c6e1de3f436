"""`graft search`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graft.cli.options import Cache, Json


def search(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture to start from.")],
    folder: Annotated[
        Path, typer.Option("--in", metavar="FOLDER", help="Where to search: class folders, or pictures without any.")
    ],
    k: Annotated[int, typer.Option("-k", help="How many pictures to show.")] = 10,
    metric: Annotated[str, typer.Option("--metric", help="Of the feature space: cosine or l2.")] = "cosine",
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write a page of pictures, .html.")] = None,
    json: Json = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the page if it exists.")] = False,
    cache: Cache = None,
) -> None:
    """Find the pictures nearest to one: as the model sees them, and pixel by pixel."""
    from graft.cli.show import progress_bar
    from graft.cli.texts.search import as_json, as_text
    from graft.jobs import search as job

    with progress_bar() as progress:
        found = job.search(
            model, image, folder, k=k, metric=metric, out=out, force=force, cache=cache, progress=progress
        )
    print(as_json(found) if json else as_text(found))
