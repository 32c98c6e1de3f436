"""The lower part of a network, which training leaves as it is: exported to ONNX once, then run from the cache.

An export takes seconds. Where the graph of the whole trunk lies at hand, its lower part is cut out of that in a
moment instead; PyTorch has the last word on either. What stands above the cut can be cut out likewise.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from graft.disk.cache import unwritable
from graft.disk.files import whole_file
from graft.errors import BadModel, UsageError
from graft.progress import Progress, silent
from graft.runtime.export import PARITY, difference_to, export_onnx, pixels_first
from graft.runtime.onnx import OnnxRunner

if TYPE_CHECKING:
    import onnx
    from torch import nn

LOWER_VERSION: Final = 2  # raise it when the exported graph changes
MAPS: Final = "maps"  # the graph's output
_ABOVE: Final = "above"  # the output of the graph above a cut
_AVERAGES: Final = ("GlobalAveragePool", "ReduceMean")


@dataclass(frozen=True)
class Lower:
    """The stages below a cut, ready to run.

    key: 32 hex digits that stand for its layers, weights and input. size: side of the pictures, pixels. shape:
    (C, h, w) of one picture's maps. run: pixels (N, size, size, 3) uint8 → maps (N, C, h, w) float32; one picture a
    call, and a thread a core, is fastest.
    """

    key: str
    size: int
    shape: tuple[int, int, int]
    run: OnnxRunner


@dataclass(frozen=True)
class StageOutput:
    """Where the graph of a trunk holds a network's stages. graph: the ONNX file. number: of the topmost stage wanted,
    from 0."""

    graph: Path
    number: int


def open_module(
    module: nn.Module,
    cache: Path,
    *,
    size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    output: StageOutput | None = None,
    progress: Progress = silent,
) -> Lower:
    """`module` behind its normalisation, from `cache` or exported into it; atomic, so that several runs may do it.

    module: normalised pictures (N, C, H, W) → maps (N, C', h, w); left in evaluation mode. output: where the same may
    be found in a trunk's graph. Raises UsageError for a module that gives no maps, BadModel when PyTorch and ONNX
    Runtime differ, and GraftError when the cache cannot be written.
    """
    key = module_key(module, size=size, mean=mean, std=std)
    folder = cache / "lowers"
    for path in folder.glob(f"{key}-*.onnx"):
        graph = path.read_bytes()
        if path.stem == _name(key, graph):
            return _opened(key, size, graph)
        path.unlink(missing_ok=True)  # damaged
    progress("preparing the frozen layers (once)", 0, 1)
    graph = _graph(pixels_first(module, mean, std), size, output)
    lower = _opened(key, size, graph)
    try:
        with whole_file(folder / f"{_name(key, graph)}.onnx") as partial:
            partial.write_bytes(graph)
    except OSError as error:
        raise unwritable(folder, error) from error
    progress("preparing the frozen layers (once)", 1, 1)
    return lower


def module_key(module: nn.Module, *, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    """32 hex digits that change with a module's layers, its weights and statistics, and what it takes."""
    digest = hashlib.sha256(repr((LOWER_VERSION, size, mean, std, str(module))).encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def lower_in_trunk(output: StageOutput, size: int) -> bytes | None:
    """The graph of the stages up to an output, pixels (N, size, size, 3) → maps, cut out of their trunk's.

    None where the trunk takes pictures of another size, or does not average this stage's maps.
    """
    import onnx
    from onnx.utils import Extractor

    model = onnx.load(output.graph)
    (pixels,) = model.graph.input
    if pixels.type.tensor_type.shape.dim[1].dim_value != size:
        return None
    maps = _maps_of(model, output.number)
    return None if maps is None else bytes(Extractor(model).extract_model([pixels.name], [maps]).SerializeToString())


def upper_in_trunk(output: StageOutput, size: int) -> bytes | None:
    """The graph of what stands above an output, its maps (N, C, h, w) → the higher outputs side by side (N, Σ widths).

    None where the stages up to it are not to be had from `lower_in_trunk`, or where the two parts together do not give
    what the trunk does, such as where the upper one asks for the pictures as well.
    """
    import onnx
    from onnx import helper
    from onnx.utils import Extractor

    lower = lower_in_trunk(output, size)
    model = onnx.load(output.graph)
    maps = _maps_of(model, output.number)
    if lower is None or maps is None:
        return None
    higher = _joined(model).input[output.number + 1 :]
    model.graph.node.append(helper.make_node("Concat", higher, [_ABOVE], axis=1))
    model.graph.value_info.append(helper.make_tensor_value_info(_ABOVE, onnx.TensorProto.FLOAT, ["n", None]))
    upper = bytes(Extractor(model).extract_model([maps], [_ABOVE]).SerializeToString())
    pixels = _noise(size)
    try:
        above = OnnxRunner(upper)(OnnxRunner(lower)(pixels))
    except BadModel:
        return None
    expected = OnnxRunner(output.graph)(pixels)[:, -above.shape[1] :]
    return upper if np.abs(above - expected).max() <= PARITY * np.abs(expected).max() else None


def _joined(model: onnx.ModelProto) -> onnx.NodeProto:
    """The node that joins a trunk's outputs."""
    joined: onnx.NodeProto = next(node for node in model.graph.node if model.graph.output[0].name in node.output)
    return joined


def _maps_of(model: onnx.ModelProto, number: int) -> str | None:
    """The tensor whose average is a trunk's output of that number; None where there is none of a known shape."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    node = made_by.get(_joined(model).input[number])
    while node is not None and node.op_type not in _AVERAGES:
        node = made_by.get(node.input[0]) if node.input else None
    known = {value.name for value in model.graph.value_info}
    return None if node is None or node.input[0] not in known else node.input[0]


def _graph(pixels_to_maps: nn.Module, size: int, output: StageOutput | None) -> bytes:
    """A module that takes pixels as an ONNX graph: cut out of the trunk's where that has the same, else exported."""
    found = lower_in_trunk(output, size) if output is not None else None
    if found is not None and _difference(pixels_to_maps, found, size) <= PARITY:
        return found
    with tempfile.TemporaryDirectory(prefix="graft-") as folder:
        path = Path(folder) / "lower.onnx"
        export_onnx(pixels_to_maps, path, size=size, output=MAPS)
        return path.read_bytes()


def _difference(pixels_to_maps: nn.Module, graph: bytes, size: int) -> float:
    """Between PyTorch and ONNX Runtime, on two pictures of noise."""
    import torch

    pixels = _noise(size)
    with torch.inference_mode():
        expected = pixels_to_maps(torch.from_numpy(pixels)).numpy()  # (2, C, h, w)
    return difference_to(graph, pixels, expected)


def _noise(size: int) -> NDArray[np.uint8]:
    """Two pictures, (2, size, size, 3)."""
    return np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)


def _opened(key: str, size: int, graph: bytes) -> Lower:
    """A graph as something to run; UsageError where it gives no maps."""
    run = OnnxRunner(graph)
    _, *shape = run(np.zeros((1, size, size, 3), np.uint8)).shape
    if len(shape) != 3:
        given = ", ".join(map(str, ("N", *shape)))
        raise UsageError(f"below the cut a network must give maps (N, C, h, w), got ({given}); cut it lower")
    channels, height, width = shape
    return Lower(key, size, (channels, height, width), run)


def _name(key: str, graph: bytes) -> str:
    return f"{key}-{hashlib.sha256(graph).hexdigest()[:32]}"
