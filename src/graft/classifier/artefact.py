"""The artefact: a folder that holds all of a trained classifier, sealed by the hash of every file in it.

model.safetensors   every tensor of the network, by its published names
model.onnx          the network with its normalisation, uint8 RGB pixels in, probabilities and logits out
model.json          what it is and how it was made (`Manifest`)
golden/             a few pictures, as the network gets them, with the probabilities they must give
report.html, samples.csv, history.jsonl   what a person reads; every picture's part and score; the search for the head

Nothing is ever unpickled, and nothing is used before its hash, its header and its values have been checked.
"""

from __future__ import annotations

import hashlib
import io
import json
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from graft.classifier.manifest import MANIFEST, Manifest, read_manifest
from graft.data.preprocess import Preprocess
from graft.disk.files import whole_file, write_flushed
from graft.errors import BadModel, shown

WEIGHTS: Final = "model.safetensors"
GRAPH: Final = "model.onnx"
GOLDEN: Final = "golden/expected.json"
MEAN_OFFSET: Final = "preprocessing.mean_offset"
"""The tensor (C, S, S), where there is one, that is subtracted from a normalised picture: its share of a mean image."""
_MAX_HEADER: Final = 16 * 1024**2  # bytes of a safetensors header
_MAX_TENSORS: Final = 20_000


@dataclass(frozen=True)
class Golden:
    """A picture as the network gets it, (S, S, 3) uint8, and the probabilities (K,) it must give."""

    pixels: NDArray[np.uint8]
    probabilities: NDArray[np.float32]


@dataclass(frozen=True)
class Classifier:
    """A verified model folder. graph: the bytes of its ONNX file, the ones that were checked."""

    folder: Path
    manifest: Manifest
    graph: bytes

    @property
    def preprocess(self) -> Preprocess:
        """How a picture becomes the network's input."""
        return self.manifest.preprocess

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the outputs."""
        return self.manifest.classes

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The network's weights by their published names. Raises BadModel when the file has changed since loading."""
        data = _verified(self.folder, WEIGHTS, self.manifest.files[WEIGHTS])
        return _checked_tensors(data, self.folder / WEIGHTS)

    def golden(self) -> tuple[Golden, ...]:
        """The golden pictures with their expected probabilities."""
        files = self.manifest.files
        expected = json.loads(_verified(self.folder, GOLDEN, files[GOLDEN]))
        found = []
        for name, probabilities in expected.items():
            data = _verified(self.folder, f"golden/{name}", files[f"golden/{name}"])
            with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
                found.append(Golden(np.asarray(picture.convert("RGB")), np.array(probabilities, np.float32)))
        return tuple(found)


def save(
    folder: Path,
    *,
    tensors: Mapping[str, NDArray[Any]],
    graph: bytes,
    golden: Sequence[Golden],
    others: Mapping[str, bytes],
) -> dict[str, str]:
    """Write all of a model folder but its manifest, every file flushed to the disk: SHA-256 by file name.

    folder: exists and is empty. others: further files by name, such as report.html. `seal` then makes it a model.
    """
    contents: dict[str, bytes] = {WEIGHTS: save_tensors(dict(tensors)), GRAPH: graph, **others}
    expected = {}
    for number, one in enumerate(golden):
        buffer = io.BytesIO()
        Image.fromarray(one.pixels).save(buffer, "PNG")
        contents[f"golden/{number}.png"] = buffer.getvalue()
        expected[f"{number}.png"] = [float(p) for p in one.probabilities]
    contents[GOLDEN] = json.dumps(expected).encode()
    (folder / "golden").mkdir()
    for name, data in contents.items():
        write_flushed(folder / name, data)
    return {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}


def seal(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, whose `files` are what `save` returned; without it the folder is no model."""
    write_flushed(folder / MANIFEST, manifest.to_bytes())


def load(folder: Path) -> Classifier:
    """Open a model folder and verify it: manifest, hashes, headers, finite weights, no data outside the graph.

    Raises BadModel, in one line, for anything that is missing, altered, newer than this version or not a model.
    """
    if not (folder / MANIFEST).is_file():
        what = "is not a folder" if not folder.is_dir() else f"holds no {MANIFEST}"
        raise BadModel(f"a model is a folder that graft wrote; {shown(folder)} {what}; check the path")
    manifest = read_manifest(folder)
    for name in (WEIGHTS, GRAPH, GOLDEN):
        if name not in manifest.files:
            raise BadModel(f"{shown(folder)} lists no {name}; it was not written whole, train again")
    graph = b""
    for name, digest in manifest.files.items():
        data = _verified(folder, name, digest)
        if name == WEIGHTS:
            _checked_tensors(data, folder / name)
        elif name == GRAPH:
            graph = data
    _check_graph(graph, folder / GRAPH)
    return Classifier(folder, manifest, graph)


def count_look(classifier: Classifier) -> int:
    """Record one more use of the test split in `model.json`, atomically; how many there have been.

    Raises BadModel when the folder cannot be written.
    """
    looks = read_manifest(classifier.folder).looks + 1
    counted = read_manifest(classifier.folder).model_copy(update={"looks": looks})
    try:
        with whole_file(classifier.folder / MANIFEST) as partial:
            partial.write_bytes(counted.to_bytes())
    except OSError as error:
        raise BadModel(
            f"{shown(classifier.folder)} cannot be written ({error.strerror}), so this look at its test pictures "
            "cannot be counted; make the folder writable"
        ) from error
    return looks


def _verified(folder: Path, name: str, digest: str) -> bytes:
    """The bytes of one file of the folder, if it is a plain file inside it and its hash is right."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "\\" in name:
        raise BadModel(
            f"{shown(folder / MANIFEST)} names {shown(name)!r}, which leaves the folder; do not use this model"
        )
    path = folder / relative
    try:
        if not stat.S_ISREG(path.lstat().st_mode) or (len(relative.parts) > 1 and path.parent.is_symlink()):
            raise BadModel(f"{shown(path)} must be a plain file, it is a link or something else; get a sound copy")
        data = path.read_bytes()
    except OSError as error:
        raise BadModel(f"{shown(path)} cannot be read ({error.strerror}); get a sound copy of the model") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise BadModel(f"{shown(path)} has changed since it was written (its SHA-256 differs); get a sound copy")
    return data


def _checked_tensors(data: bytes, path: Path) -> dict[str, NDArray[Any]]:
    """The tensors of a safetensors file whose header and values are sound."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(_MAX_HEADER, len(data) - 8):
        raise BadModel(f"{shown(path)} is not a whole safetensors file; get a sound copy of the model")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) < len(pairs):
            raise ValueError("a name stands twice in its header")
        return dict(pairs)

    try:
        header = json.loads(data[8 : 8 + length], object_pairs_hook=unique)
        if len(header) > _MAX_TENSORS:
            raise ValueError(f"it lists {len(header)} tensors")
        tensors = load_tensors(data)
    except (ValueError, SafetensorError, RecursionError) as error:
        raise BadModel(
            f"{shown(path)} is not a sound safetensors file ({error}); get a sound copy of the model"
        ) from error
    for name, array in tensors.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BadModel(f"{shown(path)} holds values that are not finite, in {shown(name)}; get a sound copy")
    return tensors


def _check_graph(data: bytes, path: Path) -> None:
    """Refuse a graph that reads any other file, or holds weights that are not finite."""
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper

    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise BadModel(f"{shown(path)} is not an ONNX file; get a sound copy of the model") from error
    waiting, tensors = [model.graph, *model.functions], []
    while waiting:
        graph = waiting.pop()
        if isinstance(graph, onnx.GraphProto):
            tensors += [*graph.initializer, *(part for s in graph.sparse_initializer for part in (s.values, s.indices))]
        for attribute in (a for node in graph.node for a in node.attribute):
            waiting += [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
            tensors += [*attribute.tensors, *([attribute.t] if attribute.HasField("t") else [])]
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise BadModel(f"{shown(path)} keeps weights in another file, which is refused; export it in one file")
        if tensor.data_type == onnx.TensorProto.FLOAT and not np.isfinite(numpy_helper.to_array(tensor)).all():
            raise BadModel(f"{shown(path)} holds values that are not finite, in {shown(tensor.name)}; get a sound copy")
