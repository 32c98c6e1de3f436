"""`graft networks`."""

from __future__ import annotations

from typing import Annotated

import typer

from graft.cli.options import Json


def networks(
    pattern: Annotated[
        str, typer.Argument(help="Part of a name, or a shell pattern; timm:PATTERN lists the CNNs of timm.")
    ] = "",
    json: Json = False,
) -> None:
    """List the networks that can be named: what they cost, how good they are, where their weights come from."""
    from graft.jobs import networks as job

    print(job.run(pattern, as_json=json))
