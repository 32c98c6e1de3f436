"""`graft train`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graft.cli.options import Cache, CsvFile, DeviceName, OnBadImage
from graft.cli.training_options import PANEL, with_training_flags

if TYPE_CHECKING:
    from graft.cli.live import Watch
    from graft.jobs.curves import Event
    from graft.progress import Progress

_DATA, _NETWORK, _OUTPUT = "The pictures", "The network", "The run"


@with_training_flags
def train(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Class folders, ready splits of them, a zip of either, a .npz file, or a folder of IDX files."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The model folder to write.", rich_help_panel=_OUTPUT)],
    strategy: Annotated[
        str,
        typer.Option(
            help="auto: what the data supports, tried. probe: a new head on a pretrained network. finetune: its upper "
            "stages tuned as well. scratch: a whole network from fresh weights.",
            rich_help_panel=_NETWORK,
        ),
    ] = "auto",
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
    probe_on: Annotated[
        str,
        typer.Option(
            help="What a probe's head stands on: auto, top, or names of stages with commas between them.",
            rich_help_panel=_NETWORK,
        ),
    ] = "auto",
    test_fraction: Annotated[
        float, typer.Option(help="Share of each class held out for the test.", rich_help_panel=_DATA)
    ] = 0.2,
    class_weights: Annotated[
        str | None,
        typer.Option(
            help="none, or balanced: rare classes count as much as common ones. [default: none]", rich_help_panel=_DATA
        ),
    ] = None,
    on_bad_image: OnBadImage = "skip",
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="Also read what links point to.", rich_help_panel=_DATA)
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Decides the split; where weights are trained, their order too. [default: 0]", rich_help_panel=_OUTPUT
        ),
    ] = None,
    cache: Cache = None,
    device: DeviceName = "auto",
    force: Annotated[
        bool, typer.Option("--force", help="Replace the model at --out.", rich_help_panel=_OUTPUT)
    ] = False,
    size: Annotated[
        int | None, typer.Option(help="Side of the pictures, pixels. [default: the network's]", rich_help_panel=PANEL)
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="A TOML file of the settings below; flags win over it.", rich_help_panel=PANEL)
    ] = None,
    freeze: Annotated[
        str | None,
        typer.Option(
            help="The highest stage that fine-tuning leaves as it is, or none. [default: what the advice says]",
            rich_help_panel=PANEL,
        ),
    ] = None,
    gate: Annotated[
        bool,
        typer.Option("--gate/--no-gate", help="Check the set-up before training from scratch.", rich_help_panel=PANEL),
    ] = True,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run that was stopped.", rich_help_panel=PANEL)
    ] = False,
    **training: Any,
) -> None:
    """Learn to tell the classes of FOLDER apart, and say honestly how well."""
    from graft.jobs import train as job
    from graft.run.settings import TrainingSettings, TrainSettings, training_settings

    learning = training_settings(
        {**training, "seed": seed, "class_weights": class_weights}, file=settings, strategy=strategy
    )
    usual = learning or TrainingSettings()
    chosen = TrainSettings(
        csv=csv, strategy=strategy, network=network, weights=weights, fit=fit, test_fraction=test_fraction,
        class_weights=class_weights or usual.class_weights, on_bad_image=on_bad_image, follow_links=follow_links,
        seed=usual.seed if seed is None else seed, cache=cache,
        device=device, size=size, freeze=freeze, probe_on=probe_on, gate=gate, resume=resume,
        training=learning,
    )  # fmt: skip
    with _views() as (progress, watch):
        manifest = job.run(folder, out, chosen, force=force, progress=progress, watch=watch)
    print(job.summary(manifest, out))


@contextmanager
def _views() -> Iterator[tuple[Progress, Watch]]:
    """Bars while a job works, and the curves in their place while a network trains."""
    from graft.cli.live import live_view
    from graft.cli.show import progress_bar
    from graft.jobs.curves import End, Start

    with ExitStack() as shown:
        bars = shown.enter_context(progress_bar())
        curves: Watch | None = None

        def progress(what: str, done: int, total: int) -> None:
            bars(what, done, total)

        def watch(event: Event) -> None:
            nonlocal bars, curves
            if isinstance(event, Start) or curves is None:
                shown.close()
                curves = shown.enter_context(live_view())
            curves(event)
            if isinstance(event, End):
                shown.close()
                bars = shown.enter_context(progress_bar())

        yield progress, watch
