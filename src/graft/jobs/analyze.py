"""`graft analyze` and `graft compare`: what networks cost and see, layer by layer, and pictures of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from graft.analysis.table import Analysis, Pair, Shape
from graft.disk.files import write_whole
from graft.errors import BadPicture, UsageError, nearest, shown

if TYPE_CHECKING:
    from torch import nn

    from graft.analysis.compare import Compared
    from graft.analysis.fit import Fit
    from graft.analysis.measure import Measured

_MOST_PICTURES: Final = 500  # of a folder, spread evenly: enough for a median
_STAGES: Final = "stages."  # where a network of ours keeps them: its layers are named by stage, as the paper names them


@dataclass(frozen=True)
class Subject:
    """A network to look at. stages: its stages and classifier, which its layers' names begin with; empty if unknown.

    build: gives the module with weights of some sort, to be timed; None for what is no module. accuracy: published
    or measured top-1 in percent, where it is known.
    """

    analysis: Analysis
    stages: tuple[str, ...] = ()
    build: Callable[[], nn.Module] | None = None
    accuracy: float | None = None


@dataclass(frozen=True)
class Analyzed:
    """What an analysis gave. fit: how pictures fit it, of which `unread` could not be read; measured: times here."""

    analysis: Analysis
    fit: Fit | None = None
    unread: int = 0
    measured: Measured | None = None


def analyze(what: str | Path, *, input_shape: Shape | None = None) -> Analysis:
    """A network layer by layer: shapes, memory, parameters, multiply-adds, receptive fields.

    what: as `run_analyze` takes it. input_shape: (C, H, W) of one picture, the network's own if None.
    Raises UsageError when it cannot be found, read or followed, BadModel for a model folder that is not sound.
    """
    return find_subject(str(what), input_shape).analysis


def parse_shape(text: str) -> Shape:
    """`3,227,227` → (3, 227, 227). Raises UsageError for anything but one to four whole numbers above 0."""
    parts = text.replace("x", ",").replace("×", ",").split(",")
    if not 1 <= len(parts) <= 4 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"--input must be sides such as 3,224,224, got {shown(text)!r}; give channels, height, width")
    return tuple(int(part) for part in parts)


def run_analyze(
    what: str,
    *,
    input_shape: Shape | None = None,
    batch: int = 1,
    html: Path | None = None,
    svg: Path | None = None,
    measured: bool = False,
    against: Path | None = None,
) -> Analyzed:
    """A network analysed, drawn, timed and held against pictures, as far as is asked for.

    what: a network of ours, `timm:NAME`, `torchvision:NAME`, an ONNX file, a prototxt or a model folder. batch:
    pictures at a time, for memory and times. html, svg: files to write the pictures to. measured: time its stages
    here. against: a folder of pictures that it should fit.
    Raises UsageError when it cannot be found, read or followed; GraftError when a file cannot be written.
    """
    if batch < 1:
        raise UsageError(f"--batch must be at least 1, got {batch}")
    subject = find_subject(what, input_shape)
    analysis = subject.analysis
    if svg is not None or html is not None:
        from graft.analysis.drawing.bars import bars_svg
        from graft.analysis.drawing.draw import as_svg
        from graft.pages.analysis import analysis_page

        drawing = as_svg(analysis, batch=batch)
        if svg is not None:
            write_whole(svg, drawing.encode())
        if html is not None:
            write_whole(html, analysis_page(analysis.network, [drawing, bars_svg(analysis)]).encode())
    fit, unread = (None, 0) if against is None else _against(subject, against)
    return Analyzed(analysis, fit, unread, _measured(subject, batch) if measured else None)


def run_compare(
    whats: Sequence[str],
    *,
    accuracies: Sequence[str] = (),
    input_shape: Shape | None = None,
    html: Path | None = None,
    svg: Path | None = None,
) -> tuple[Compared, ...]:
    """Networks beside each other; html, svg: files for the plot of accuracy against multiply-adds.

    accuracies: NAME=PERCENT each, in place of what is published or was measured.
    Raises UsageError as `run_analyze` does, for an accuracy of no network here, and for a plot without any accuracy.
    """
    from graft.analysis.compare import compare, compare_svg
    from graft.pages.analysis import analysis_page

    given = _accuracies(accuracies, whats)
    subjects = [(what, find_subject(what, input_shape)) for what in whats]
    rows = compare([(s.analysis, given.get(what, s.accuracy)) for what, s in subjects])
    if html is not None or svg is not None:
        if all(row.accuracy is None for row in rows):
            raise UsageError("the plot needs an accuracy, and none of these has one; add --accuracy NAME=PERCENT")
        picture = compare_svg(rows)
        if svg is not None:
            write_whole(svg, picture.encode())
        if html is not None:
            write_whole(html, analysis_page("Comparison", [picture]).encode())
    return rows


def find_subject(what: str, input_shape: Shape | None = None) -> Subject:
    """The network that `what` names, analysed. Raises UsageError when there is none."""
    library, colon, name = what.partition(":")
    if colon and library == "timm":
        return _timm(name, input_shape)
    if colon and library == "torchvision":
        return _torchvision(name, input_shape)
    path = Path(what)
    if path.is_dir():
        if input_shape is not None:
            raise UsageError(f"the input of a model folder is part of it; leave --input out for {shown(what)}")
        return _model_folder(path)
    if path.suffix == ".onnx":
        from graft.analysis.readers.onnx_graph import read_onnx

        return Subject(read_onnx(path, input_shape=input_shape))
    if path.suffix in (".prototxt", ".pbtxt"):
        from graft.analysis.readers.caffe import read_prototxt

        return Subject(read_prototxt(path, input_shape=input_shape))
    return _ours(what, input_shape)


def _ours(name: str, input_shape: Shape | None) -> Subject:
    from graft.models.catalog import CARDS, create, look_up

    card = look_up(name)
    if card is None:
        raise UsageError(
            f"{shown(name)!r} is no network of ours; give a name that `graft networks` lists, timm:NAME, "
            f"torchvision:NAME, FILE.onnx, FILE.prototxt or a model folder{nearest(name, [c.name for c in CARDS])}"
        )
    name = card.name

    from graft.analysis.readers.meta import built_without_weights
    from graft.analysis.readers.trace import analyze_module
    from graft.models.network import CLASSIFIER, stage_names

    network = built_without_weights(lambda: create(name))
    analysis = analyze_module(network, input_shape or card.input, name=name)
    layers = tuple(replace(layer, name=layer.name.removeprefix(_STAGES)) for layer in analysis.layers)
    top1 = card.error.top1 if card.error else None
    return Subject(
        replace(analysis, layers=layers),
        stages=(*stage_names(network), CLASSIFIER),
        build=lambda: create(name, seed=0),
        accuracy=None if top1 is None else round(100 - top1, 2),
    )


def _timm(name: str, input_shape: Shape | None) -> Subject:
    import timm

    known = timm.list_models()
    if name.split(".")[0] not in known:
        raise UsageError(f"timm has no network {shown(name)!r}{nearest(name, known)}")

    from graft.analysis.readers.meta import built_without_weights
    from graft.analysis.readers.trace import analyze_module

    def build() -> nn.Module:
        network: nn.Module = timm.create_model(name, pretrained=False)
        return network

    network = built_without_weights(build)
    shape = input_shape or tuple(network.pretrained_cfg["input_size"])  # type: ignore[index]
    return Subject(analyze_module(network, shape, name=f"timm:{name}"), build=build)


def _torchvision(name: str, input_shape: Shape | None) -> Subject:
    from torchvision import models  # type: ignore[import-untyped]

    known = models.list_models(module=models)
    if name not in known:
        raise UsageError(f"torchvision has no network {shown(name)!r}{nearest(name, known)}")

    from graft.analysis.readers.meta import built_without_weights
    from graft.analysis.readers.trace import analyze_module

    def build() -> nn.Module:
        quick = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        network: nn.Module = models.get_model(name, weights=None, **quick)
        return network

    published = models.get_model_weights(name).DEFAULT
    side = published.transforms().crop_size[0]
    accuracy = published.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    analysis = analyze_module(built_without_weights(build), input_shape or (3, side, side), name=f"torchvision:{name}")
    return Subject(analysis, build=build, accuracy=accuracy)


def _model_folder(folder: Path) -> Subject:
    """The graph as it is shipped: preprocessing inside, batch norms folded where the export folded them."""
    import onnx

    from graft.analysis.readers.onnx_graph import analyze_onnx
    from graft.classifier.artefact import load

    classifier = load(folder)
    test = classifier.manifest.test
    accuracy = 100 * test.top1.value if test else None
    return Subject(analyze_onnx(onnx.load_from_string(classifier.graph), name=folder.name), accuracy=accuracy)


def _measured(subject: Subject, batch: int) -> Measured:
    if subject.build is None:
        raise UsageError(
            f"--measure times PyTorch networks, and {shown(subject.analysis.network)} is none; "
            "name a network of ours, timm:NAME or torchvision:NAME"
        )
    from graft.analysis.measure import measure

    network = subject.build()
    parts = {name: _part(network, name) for name in subject.stages} or dict(network.named_children())
    return measure(network, subject.analysis, parts, batch=batch)


def _part(network: nn.Module, stage: str) -> nn.Module:
    """A stage of a network of ours, or its classifier."""
    from graft.models.network import CLASSIFIER

    return network.get_submodule(stage if stage == CLASSIFIER else _STAGES + stage)


def _against(subject: Subject, folder: Path) -> tuple[Fit, int]:
    from graft.analysis.fit import fit_to_pictures

    sizes, unread = picture_sizes(folder)
    return fit_to_pictures(subject.analysis, sizes, names=subject.stages), unread


def picture_sizes(folder: Path) -> tuple[list[Pair], int]:
    """(height, width) of up to 500 pictures of a folder or zip, spread evenly, and how many more could not be read.

    Raises BadFolder for one without labelled pictures, BadPicture when none can be read.
    """
    from graft.data.decode import decode, read_picture
    from graft.data.sources.opened import opened
    from graft.disk.cache import cache_folder

    sizes: list[Pair] = []
    unread = 0
    with opened(folder, cache_folder(None)) as collection:
        for sample in collection.samples[:: max(1, -(-len(collection.samples) // _MOST_PICTURES))]:
            try:
                picture = decode(read_picture(sample.path), name=sample.path, shortest=1)
            except BadPicture:
                unread += 1
            else:
                sizes.append((picture.height, picture.width))
    if not sizes:
        raise BadPicture(f"none of the pictures in {shown(folder)} can be read; run graft audit on it")
    return sizes, unread


def _accuracies(pairs: Sequence[str], whats: Sequence[str]) -> dict[str, float]:
    found = {}
    for pair in pairs:
        name, equals, percent = pair.rpartition("=")
        if not equals or name not in whats:
            raise UsageError(
                f"--accuracy must be NAME=PERCENT of a network here, got {shown(pair)!r}{nearest(name, whats)}"
            )
        try:
            found[name] = float(percent)
        except ValueError as error:
            raise UsageError(
                f"--accuracy needs a number of percent, got {shown(percent)!r} for {shown(name)}"
            ) from error
        if not 0 <= found[name] <= 100:
            raise UsageError(f"--accuracy must be between 0 and 100 percent, got {percent} for {shown(name)}")
    return found
