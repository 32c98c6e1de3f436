"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Cache = Annotated[
    Path | None,
    typer.Option("--cache", help="Folder for what is computed once. [default: $GRAFT_CACHE or the system's]"),
]
DeviceName = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
OnBadImage = Annotated[
    str,
    typer.Option("--on-bad-image", help="skip: set unreadable files aside and list them; strict: stop at the first."),
]
CsvFile = Annotated[
    Path | None, typer.Option("--csv", help="A CSV of path and label (and split), instead of class folders.")
]
