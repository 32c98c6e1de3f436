"""The frozen trunk: exported to ONNX once for each set of weights, then opened from the cache without torch."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graft.data.preprocess import Fit, Preprocess
from graft.errors import BadModel, GraftError, shown
from graft.models.weights import Builder, Source
from graft.progress import Progress, silent
from graft.runtime.device import Device
from graft.runtime.onnx import OnnxRunner

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

TRUNK_VERSION: Final = 2  # raise it when the exported graph changes
_GRAPH, _WEIGHTS, _RECORD = "trunk.onnx", "weights.safetensors", "trunk.json"


@dataclass(frozen=True)
class Trunk:
    """A pretrained network without its last linear layer, ready to run.

    folder: where its files lie. network, builder, architecture: as its `Source` has them. key: 32 hex digits that stand
    for its weights. width: features it gives. head: the published name of the linear layer that was left off. stages:
    their names. size, mean, std, interpolation: the input it was trained on.
    """

    folder: Path
    network: str
    builder: Builder
    architecture: str
    key: str
    width: int
    head: str
    stages: tuple[str, ...]
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str

    @property
    def graph(self) -> Path:
        """The ONNX file: pixels (N, size, size, 3) uint8 → features (N, width)."""
        return self.folder / _GRAPH

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
    parts = (TRUNK_VERSION, source.builder, source.architecture, source.size, source.digest)
    key = hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()[:32]
    folder = cache / "trunks" / key
    if (trunk := _read(folder)) is not None:
        return trunk
    progress(f"preparing {source.network} (once)", 0, 1)
    partial = cache / "trunks" / f"{key}.{uuid.uuid4().hex}.tmp"
    try:
        partial.mkdir(parents=True)
        _export(source, key, partial)
        shutil.rmtree(folder, ignore_errors=True)  # only ever a damaged copy: a sound one was returned above
        partial.rename(folder)
    except OSError as error:
        if (trunk := _read(folder)) is not None:  # another run was first
            return trunk
        raise GraftError(
            f"the cache cannot be written: {shown(cache)}: {error.strerror}; free some space or give another --cache"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    progress(f"preparing {source.network} (once)", 1, 1)
    trunk = _read(folder)
    if trunk is None:
        raise BadModel(f"{shown(folder)} changed while it was being written; delete it and try again")
    return trunk


def runner(trunk: Trunk, source: Source, device: Device) -> Run:
    """What runs the trunk: ONNX Runtime on a CPU, PyTorch on a GPU."""
    if device == "cpu":
        return OnnxRunner(trunk.graph)
    from graft.models.build import build
    from graft.models.network import trunk as lower
    from graft.runtime.device import TorchRunner
    from graft.runtime.export import pixels_first

    return TorchRunner(pixels_first(lower(build(source).network), trunk.mean, trunk.std), device)


def _export(source: Source, key: str, folder: Path) -> None:
    """Write graph, weights and record into `folder`."""
    from safetensors.torch import save_file

    from graft.models.build import build
    from graft.models.network import head, stage_names
    from graft.models.network import trunk as lower
    from graft.runtime.export import export_onnx, pixels_first

    built = build(source)
    size = source.size or built.size
    export_onnx(
        pixels_first(lower(built.network), built.mean, built.std), folder / _GRAPH, size=size, output="features"
    )
    state = built.network.state_dict()
    save_file({theirs: state[ours].contiguous() for ours, theirs in built.published.items()}, folder / _WEIGHTS)
    linear = head(built.network)
    ours = next(name for name, tensor in built.network.state_dict(keep_vars=True).items() if tensor is linear.weight)
    record = Trunk(
        folder, source.network, source.builder, source.architecture, key, linear.in_features,
        built.published[ours].removesuffix(".weight"),
        stage_names(built.network), size, built.mean, built.std, built.interpolation,
    )  # fmt: skip
    digests = {name: _digest(folder / name) for name in (_GRAPH, _WEIGHTS)}
    for name in digests:
        _flush(folder / name)
    text = json.dumps({**asdict(record), "folder": "", "files": digests}, indent=1)
    (folder / _RECORD).write_text(text)
    _flush(folder / _RECORD)


def _read(folder: Path) -> Trunk | None:
    """The trunk that lies in `folder`, or None where there is none or a file of it was altered."""
    try:
        record = json.loads((folder / _RECORD).read_text())
        if any(_digest(folder / name) != digest for name, digest in record.pop("files").items()):
            return None
        tuples = {name: tuple(record[name]) for name in ("mean", "std", "stages")}
        return Trunk(**{**record, **tuples, "folder": folder})
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _flush(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
