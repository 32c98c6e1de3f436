"""`graft audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graft.cli.options import Cache, CsvFile, Json


def audit(
    folder: Annotated[
        Path, typer.Argument(help="Class folders, ready splits of them, a zip, a .npz file or IDX files.")
    ],
    csv: CsvFile = None,
    model: Annotated[
        Path | None, typer.Option(help="A model trained on this folder: also list the labels it doubts most.")
    ] = None,
    follow_links: Annotated[bool, typer.Option("--follow-links", help="Also read what links point to.")] = False,
    json: Json = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with status 1 when something serious was found.")
    ] = False,
    cache: Cache = None,
) -> None:
    """Find what is wrong with the pictures before a model learns it."""
    from graft.cli.show import progress_bar
    from graft.cli.texts.audit import as_json, as_text
    from graft.jobs import audit as job

    with progress_bar() as progress:
        found = job.run(folder, csv=csv, model=model, follow_links=follow_links, cache=cache, progress=progress)
    print(as_json(found) if json else as_text(found))
    if strict and job.is_serious(found):
        raise typer.Exit(1)
