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
    from json import dumps

    from graft.cli.texts.networks import as_json, as_text
    from graft.jobs import networks as job

    if pattern.startswith("timm:"):
        names = job.timm_networks(pattern.removeprefix("timm:"))
        print(dumps(names, indent=2) if json else "\n".join(names))
        return
    entries = job.networks(pattern)
    print(as_json(entries) if json else as_text(entries))
