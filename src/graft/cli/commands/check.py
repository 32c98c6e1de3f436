"""`graft check`."""

from __future__ import annotations

from typing import Annotated

import typer

from graft.cli.options import Json


def check(
    network: Annotated[str, typer.Option(help="A name that `graft networks` lists, or timm:NAME.")],
    gradients: Annotated[
        bool, typer.Option("--gradients", help="Hold backpropagation's gradients against differences, in float64.")
    ] = False,
    loss: Annotated[str, typer.Option(help="cross-entropy or svm.")] = "cross-entropy",
    coordinates: Annotated[
        int | None, typer.Option(help="Numbers compared in each tensor. [default: 10; 2 for deep networks]")
    ] = None,
    training: Annotated[
        bool, typer.Option("--training", help="In train mode: batch norm takes the batch's statistics.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Decides the weights, the pictures and the coordinates.")] = 0,
    json: Json = False,
) -> None:
    """Check a network before it is trained: are its gradients right? Exit status 1 if one is not."""
    from graft.cli.texts.check import as_json, as_text
    from graft.jobs import check as job

    if not gradients:
        raise typer.BadParameter("say what to check: --gradients")
    report = job.check_gradients(network, loss=loss, coordinates=coordinates, training=training, seed=seed)
    print(as_json(report) if json else as_text(report))
    if not report.passed:
        raise typer.Exit(1)
