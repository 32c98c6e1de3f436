"""`graft advise`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from graft.cli.recipe_options import with_recipe_flags

_LOOKED_AT: Final = (
    *("csv", "network", "weights", "fit", "test_fraction", "class_weights", "on_bad_image", "follow_links", "seed"),
    *("cache", "device"),
)


@with_recipe_flags(_LOOKED_AT)
def advise(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Class folders, ready splits of them, a zip of either, a .npz file, or a folder of IDX files."
        ),
    ],
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all of it as JSON.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write a page of it, .html.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace these files if they exist.")] = False,
    **flags: Any,
) -> None:
    """Say which way of learning FOLDER supports: a new head, fine-tuning from where, or all from scratch."""
    from graft.cli.show import progress_bar
    from graft.jobs.advise import advise as job
    from graft.training.recipe.read import recipe_of

    with progress_bar() as progress:
        found = job(folder, recipe=recipe_of(flags), json=json, out=out, force=force, progress=progress)
    print("\n".join(found.lines()))
    for file in (json, out):
        if file is not None:
            print(f"wrote {file}")
