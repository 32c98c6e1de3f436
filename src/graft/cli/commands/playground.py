"""`graft playground`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def playground(
    save: Annotated[Path, typer.Option("--save", help="Folder for the pictures and a page that shows them.")],
    force: Annotated[bool, typer.Option("--force", help="Replace pictures of an earlier run.")] = False,
) -> None:
    """Draw what training does, on problems small enough to see through."""
    import graft.jobs.playground as job
    from graft.cli.show import progress_bar

    with progress_bar() as progress:
        page = job.run(save, force=force, progress=progress)
    print(page)
