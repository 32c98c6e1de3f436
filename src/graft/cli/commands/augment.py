"""`graft augment`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def augment(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture of yours.")],
    policy: Annotated[
        str | None, typer.Option("--policy", help="light, standard or strong: its members, and then all of it.")
    ] = None,
    only: Annotated[
        str | None,
        typer.Option("--only", metavar="NAMES", help="Some augmentations, such as lens,jpeg. [default: all]"),
    ] = None,
    others: Annotated[
        list[Path] | None,
        typer.Option("--with", metavar="IMAGE", help="Another picture, to mix with; may be given again."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="A .png, .jpg, .webp or .html. [default: IMAGE-augmented.png]"),
    ] = None,
    draws: Annotated[int, typer.Option("--draws", help="Examples of each.")] = 6,
    side: Annotated[int, typer.Option("--side", metavar="PIXELS", help="The short side that pictures get.")] = 128,
    seed: Annotated[int, typer.Option("--seed", help="What the examples are drawn from.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Show what each augmentation does to a picture, on one page."""
    from graft.jobs.augment import run_augment

    print(
        run_augment(
            image,
            policy=policy,
            only=only,
            others=others or (),
            out=out,
            draws=draws,
            side=side,
            seed=seed,
            force=force,
        )
    )
