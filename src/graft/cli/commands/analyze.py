"""`graft analyze` and `graft compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from graft.cli.options import Json

if TYPE_CHECKING:
    from graft.cli.texts.analyze import Form

Input = Annotated[str | None, typer.Option("--input", help="C,H,W of one picture. [default: the network's own]")]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV instead of text.")]
Html = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page of pictures that zooms.")]
Svg = Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write the picture as SVG.")]


def analyze(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="A network's name, timm:NAME, torchvision:NAME, an ONNX file, a Caffe prototxt or a model folder.",
        ),
    ],
    input_shape: Input = None,
    batch: Annotated[int, typer.Option("--batch", help="Pictures at a time, for memory and times.")] = 1,
    json: Json = False,
    csv: Csv = False,
    html: Html = None,
    svg: Svg = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time each stage on this machine, for a network that PyTorch builds.")
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="FOLDER", help="Hold each stage's view against a folder or zip of pictures."),
    ] = None,
) -> None:
    """Say what a network costs and sees, layer by layer."""
    from graft.cli.texts.analyze import analysis_text
    from graft.jobs import analyze as job

    form = _form(json, csv)
    found = job.run_analyze(
        what,
        input_shape=job.parse_shape(input_shape) if input_shape else None,
        batch=batch,
        html=html,
        svg=svg,
        measured=measure,
        against=against,
    )
    if form != "text" or measure or against or not (svg or html):
        print(analysis_text(found, form, batch=batch))
    if form == "text":
        _say_what_was_written(svg, html)


def compare(
    whats: Annotated[list[str], typer.Argument(metavar="WHAT...", help="Networks, as `graft analyze` takes them.")],
    accuracy: Annotated[
        list[str] | None, typer.Option("--accuracy", metavar="NAME=PERCENT", help="Top-1 accuracy of one of them.")
    ] = None,
    input_shape: Input = None,
    json: Json = False,
    csv: Csv = False,
    html: Html = None,
    svg: Svg = None,
) -> None:
    """Set networks beside each other: cost, memory, and accuracy against multiply-adds."""
    from graft.cli.texts.analyze import comparison_text
    from graft.jobs import analyze as job

    form = _form(json, csv)
    shape = job.parse_shape(input_shape) if input_shape else None
    print(
        comparison_text(job.run_compare(whats, accuracies=accuracy or (), input_shape=shape, html=html, svg=svg), form)
    )
    if form == "text":
        _say_what_was_written(svg, html)


def _form(json: bool, csv: bool) -> Form:
    if json and csv:
        raise typer.BadParameter("choose one of --json and --csv")
    return "json" if json else "csv" if csv else "text"


def _say_what_was_written(*files: Path | None) -> None:
    from graft.errors import shown

    for file in files:
        if file is not None:
            print(f"wrote {shown(file)}")
