"""`graft evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graft.cli.options import CsvFile, DeviceName, Json


def evaluate(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    folder: Annotated[
        Path, typer.Argument(help="Labelled pictures: class folders, a zip of them, a .npz file or IDX files.")
    ],
    csv: CsvFile = None,
    json: Json = False,
    device: DeviceName = "auto",
) -> None:
    """Score a model on labelled pictures, with intervals."""
    from graft.cli.show import progress_bar
    from graft.cli.texts.evaluate import as_json, as_text
    from graft.jobs import evaluate as job

    with progress_bar() as progress:
        result = job.run(model, folder, csv=csv, device=device, progress=progress)
    print(as_json(result) if json else as_text(result))
