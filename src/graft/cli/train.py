"""`graft train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graft.cli.options import Cache, CsvFile, DeviceName, OnBadImage

_DATA, _NETWORK, _OUTPUT = "The pictures", "The network", "The run"


def train(
    folder: Annotated[
        Path, typer.Argument(help="Class folders, ready splits (train, val, test) of them, or a zip of either.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The model folder to write.", rich_help_panel=_OUTPUT)],
    csv: CsvFile = None,
    network: Annotated[
        str,
        typer.Option(help="A name that `graft networks` lists, or timm:NAME.", rich_help_panel=_NETWORK),
    ] = "efficientnet-lite0",
    weights: Annotated[
        Path | None, typer.Option(help="Its pretrained weights, a .safetensors or .pt file.", rich_help_panel=_NETWORK)
    ] = None,
    fit: Annotated[
        str, typer.Option(help="How pictures fill the square: squash, crop or pad.", rich_help_panel=_NETWORK)
    ] = "squash",
    test_fraction: Annotated[
        float, typer.Option(help="Share of each class held out for the test.", rich_help_panel=_DATA)
    ] = 0.2,
    class_weights: Annotated[
        str, typer.Option(help="none, or balanced: rare classes count as much as common ones.", rich_help_panel=_DATA)
    ] = "none",
    on_bad_image: OnBadImage = "skip",
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="Also read what links point to.", rich_help_panel=_DATA)
    ] = False,
    seed: Annotated[int, typer.Option(help="Decides the split, and nothing else.", rich_help_panel=_OUTPUT)] = 0,
    cache: Cache = None,
    device: DeviceName = "auto",
    force: Annotated[
        bool, typer.Option("--force", help="Replace the model at --out.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Learn to tell the classes of FOLDER apart, and say honestly how well."""
    from graft.cli.show import progress_bar
    from graft.jobs import train as job

    settings = job.TrainSettings(
        csv=csv, network=network, weights=weights, fit=fit, test_fraction=test_fraction, class_weights=class_weights,
        on_bad_image=on_bad_image, follow_links=follow_links, seed=seed, cache=cache, device=device,
    )  # fmt: skip
    with progress_bar() as progress:
        manifest = job.run(folder, out, settings, force=force, progress=progress)
    print(job.summary(manifest, out))
