"""`graft predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from graft.cli.options import DeviceName, Json

if TYPE_CHECKING:
    from graft.cli.texts.predict import Form


def predict(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    paths: Annotated[list[str], typer.Argument(help="Pictures, folders of pictures, or patterns such as 'new/*.jpg'.")],
    top: Annotated[int, typer.Option(min=1, help="How many classes to name for each picture.")] = 1,
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of text.")] = False,
    device: DeviceName = "auto",
) -> None:
    """Say what is on pictures."""
    from graft.cli.texts.predict import print_each
    from graft.errors import UsageError
    from graft.jobs import predict as job

    if json and csv:
        raise UsageError("--json and --csv exclude each other; give one of them")
    form: Form = "json" if json else "csv" if csv else "text"
    if print_each(job.run(model, paths, top=top, device=device), form, top=top):
        raise typer.Exit(1)
