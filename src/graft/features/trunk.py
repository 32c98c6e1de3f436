"""The trunk: exported to ONNX once for each set of weights, then opened from the cache without torch.

A network that was fine-tuned becomes a trunk likewise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from graft.data.preprocess import Fit, Preprocess
from graft.disk.cache import unwritable
from graft.disk.files import flush, whole_folder, write_flushed
from graft.errors import BadModel, GraftError, UsageError, nearest, shown
from graft.models.weights import Builder, Source
from graft.progress import Progress, silent
from graft.runtime.device import Device
from graft.runtime.onnx import OnnxRunner

if TYPE_CHECKING:
    from graft.models.network import Built

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

TRUNK_VERSION: Final = 4  # raise it when the exported graph changes
FEATURES: Final = "features"
"""The uppermost output of a trunk: what the network's own last layer takes."""
TOP: Final = (FEATURES,)
"""What a head reads that stands where the network's own last layer stood."""
_OUTPUT: Final = "ladder"  # of the graph; the name is part of graphs that lie in caches
_GRAPH, _WEIGHTS, _RECORD = "trunk.onnx", "weights.safetensors", "trunk.json"


@dataclass(frozen=True)
class Trunk:
    """A pretrained network without its last linear layer, ready to run.

    folder: where its files lie. network, builder, architecture: as its `Source` has them. key: 32 hex digits that stand
    for its weights. head: the published name of the linear layer that was left off. stages: their names. widths: of
    its outputs, which are each stage's maps averaged over the picture, and then the features. size, mean, std,
    interpolation: the input it was trained on.
    """

    folder: Path
    network: str
    builder: Builder
    architecture: str
    key: str
    head: str
    stages: tuple[str, ...]
    widths: tuple[int, ...]
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str

    @property
    def graph(self) -> Path:
        """The ONNX file: pixels (N, size, size, 3) uint8 → outputs (N, Σ widths); inside it the tensor `features`."""
        return self.folder / _GRAPH

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what stands side by side in a picture's row: the stages, then `features`."""
        return (*self.stages, FEATURES)

    @property
    def width(self) -> int:
        """How many features a new head grows on."""
        return self.widths[-1]

    @property
    def row_width(self) -> int:
        """How many numbers a picture's row holds."""
        return sum(self.widths)

    def columns(self, output: str) -> slice:
        """Where one of `outputs` stands in a picture's row. Raises UsageError for another name."""
        if output not in self.outputs:
            raise UsageError(
                f"no stage {shown(output)!r} in {self.network}, which has {', '.join(self.outputs)}"
                f"{nearest(output, self.outputs)}"
            )
        at = self.outputs.index(output)
        start = sum(self.widths[:at])
        return slice(start, start + self.widths[at])

    @property
    def weights(self) -> Path:
        """The whole pretrained network's tensors by their published names, the left-off layer's among them."""
        return self.folder / _WEIGHTS

    def preprocess(self, fit: Fit) -> Preprocess:
        """How a picture becomes this trunk's input."""
        interpolation = self.interpolation if self.interpolation in ("bilinear", "lanczos") else "bicubic"
        return Preprocess(self.size, fit, interpolation, self.mean, self.std)  # type: ignore[arg-type]


def open_trunk(source: Source, cache: Path, *, progress: Progress = silent) -> Trunk:
    """The trunk of `source`, from `cache` or exported into it; atomic, so that any number of runs may do it at once.

    Raises what `graft.models.build.build` raises, and GraftError when the cache cannot be written.
    """
    parts = (TRUNK_VERSION, source.builder, source.architecture, source.digest)
    key = hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()[:32]
    folder = cache / "trunks" / key
    if (trunk := _read(folder)) is not None:
        return trunk
    progress(f"preparing {source.network} (once)", 0, 1)
    try:
        with whole_folder(folder) as partial:
            _export(source, key, partial)
    except OSError as error:
        if (trunk := _read(folder)) is not None:  # another run was first
            return trunk
        raise unwritable(cache, error) from error
    progress(f"preparing {source.network} (once)", 1, 1)
    trunk = _read(folder)
    if trunk is None:
        raise BadModel(f"{shown(folder)} changed while it was being written; delete it and try again")
    return trunk


def tuned_trunk(built: Built, before: Trunk, folder: Path) -> Trunk:
    """The trunk of a network that began as `before` and was fine-tuned, written into `folder`.

    The layer that is left off is the network's last one as it is now. Raises GraftError when it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(built, folder, size=before.size)
        return replace(before, folder=folder, key=_digest(folder / _WEIGHTS)[:32])
    except OSError as error:
        raise GraftError(f"{shown(folder)} cannot be written: {error.strerror}; free some space") from error


def runner(trunk: Trunk, whole: Source | Built, device: Device) -> Run:
    """What runs the trunk: ONNX Runtime on a CPU, PyTorch on a GPU, which needs the `whole` network."""
    if device == "cpu":
        return OnnxRunner(trunk.graph)
    from graft.models.build import build
    from graft.models.network import StageFeatures
    from graft.runtime.device import TorchRunner
    from graft.runtime.export import pixels_first

    built = build(whole) if isinstance(whole, Source) else whole
    return TorchRunner(pixels_first(StageFeatures(built.network), trunk.mean, trunk.std), device)


def _export(source: Source, key: str, folder: Path) -> None:
    """Build the network of `source` and write graph, weights and record into `folder`."""
    import torch

    from graft.models.build import build
    from graft.models.network import StageFeatures, head, stage_names

    built = build(source)
    size = built.size
    linear = head(built.network)
    ours = next(name for name, tensor in built.network.state_dict(keep_vars=True).items() if tensor is linear.weight)
    record = Trunk(
        folder, source.network, source.builder, source.architecture, key,
        built.published[ours].removesuffix(".weight"), stage_names(built.network),
        StageFeatures(built.network).eval().widths(torch.zeros(1, 3, size, size)), size, built.mean, built.std,
        built.interpolation,
    )  # fmt: skip
    _write(built, folder, size=size)
    digests = {name: _digest(folder / name) for name in (_GRAPH, _WEIGHTS)}
    for name in digests:
        flush(folder / name)
    text = json.dumps({**asdict(record), "folder": "", "files": digests}, indent=1)
    write_flushed(folder / _RECORD, text.encode())


def _write(built: Built, folder: Path, *, size: int) -> None:
    """Write what gives a network's outputs as a graph, and all of its tensors."""
    from safetensors.torch import save_file

    from graft.models.network import StageFeatures
    from graft.runtime.export import export_onnx, pixels_first
    from graft.runtime.graph import finish_trunk

    module = pixels_first(StageFeatures(built.network).eval(), built.mean, built.std)
    export_onnx(module, folder / _GRAPH, size=size, output=_OUTPUT)
    finish_trunk(folder / _GRAPH, output=_OUTPUT)
    state = built.network.state_dict()
    save_file({theirs: state[ours].contiguous() for ours, theirs in built.published.items()}, folder / _WEIGHTS)


def _read(folder: Path) -> Trunk | None:
    """The trunk that lies in `folder`, or None where there is none or a file of it was altered."""
    try:
        record = json.loads((folder / _RECORD).read_text())
        if any(_digest(folder / name) != digest for name, digest in record.pop("files").items()):
            return None
        tuples = {name: tuple(record[name]) for name in ("mean", "std", "stages", "widths")}
        return Trunk(**{**record, **tuples, "folder": folder})
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
