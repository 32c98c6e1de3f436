"""`graft info`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graft.cli.options import Json


def info(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    json: Json = False,
    verify: Annotated[bool, typer.Option("--verify", help="Also replay the golden pictures.")] = False,
) -> None:
    """Say what a model is, how good it is and how it was made."""
    from graft.cli.texts.info import as_json, as_text
    from graft.jobs import info as job

    manifest = job.run(model, verify=verify)
    print(as_json(manifest) if json else as_text(manifest, model, verified=verify))
