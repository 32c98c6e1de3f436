"""`graft advise`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graft.cli.options import Cache, CsvFile, DeviceName, OnBadImage


def advise(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Class folders, ready splits of them, a zip of either, a .npz file, or a folder of IDX files."
        ),
    ],
    csv: CsvFile = None,
    network: Annotated[
        str, typer.Option(help="A name that `graft networks` lists, or timm:NAME.")
    ] = "efficientnet-lite0",
    weights: Annotated[Path | None, typer.Option(help="Its pretrained weights, a .safetensors or .pt file.")] = None,
    fit: Annotated[str, typer.Option(help="How pictures fill the square: squash, crop or pad.")] = "squash",
    test_fraction: Annotated[
        float, typer.Option(help="Share of each class held out for a test, and not looked at here.")
    ] = 0.2,
    class_weights: Annotated[
        str, typer.Option(help="none, or balanced: rare classes count as much as common ones.")
    ] = "none",
    on_bad_image: OnBadImage = "skip",
    follow_links: Annotated[bool, typer.Option("--follow-links", help="Also read what links point to.")] = False,
    seed: Annotated[int, typer.Option(help="Decides the split.")] = 0,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all of it as JSON.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write a page of it, .html.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace these files if they exist.")] = False,
    cache: Cache = None,
    device: DeviceName = "auto",
) -> None:
    """Say which way of learning FOLDER supports: a new head, fine-tuning from where, or all from scratch."""
    from graft.cli.show import progress_bar
    from graft.jobs.advise import advise as job
    from graft.run.settings import TrainSettings

    settings = TrainSettings(
        csv=csv, network=network, weights=weights, fit=fit, test_fraction=test_fraction, class_weights=class_weights,
        on_bad_image=on_bad_image, follow_links=follow_links, seed=seed, cache=cache, device=device,
    )  # fmt: skip
    with progress_bar() as progress:
        found = job(folder, settings=settings, json=json, out=out, force=force, progress=progress)
    print("\n".join(found.lines()))
    for file in (json, out):
        if file is not None:
            print(f"wrote {file}")
