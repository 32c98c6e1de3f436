"""The prediction loop: pictures in, probabilities out, in order, in constant memory."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from graft.classifier.artefact import MEAN_OFFSET, Classifier
from graft.classifier.rebuild import rebuild
from graft.data.decode import Picture, decode, read_picture
from graft.data.preprocess import fit_picture
from graft.errors import BadPicture
from graft.evaluate.calibration import softmax
from graft.runtime.device import Device
from graft.runtime.onnx import OnnxRunner
from graft.runtime.stream import batched, ordered_map

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
Input = str | Path | Image.Image | NDArray[np.uint8]
"""What can be classified: a file, a PIL picture, or an array (H, W, 3) or (H, W) of uint8, 0–255."""

LOGITS: Final = "logits"
"""The output of a classifier's graph that predictions are made from."""
_GPU_BATCH: Final = 64


@dataclass(frozen=True)
class Prediction:
    """What the classifier says of one picture. Exactly one of `logits` and `problem` is None.

    path: the file's, or "" for a picture given in memory. logits: (K,), in the order of the classes. problem: why the
    picture could not be read. key: SHA-256 of the file's bytes, 16 bytes; empty in memory.
    """

    path: str
    logits: NDArray[np.float32] | None
    problem: str | None
    classes: tuple[str, ...]
    key: bytes = b""

    @cached_property
    def probabilities(self) -> NDArray[np.float32] | None:
        """(K,), sum 1: the softmax of the logits; None where the picture could not be read."""
        return None if self.logits is None else softmax(self.logits[None])[0]

    @property
    def label(self) -> str:
        """The most probable class. Raises BadPicture when the picture could not be read."""
        return self.top(1)[0][0]

    @property
    def probability(self) -> float:
        """The probability (0–1) of `label`."""
        return self.top(1)[0][1]

    def top(self, k: int) -> tuple[tuple[str, float], ...]:
        """The k most probable classes, best first; equal probabilities in the order of the classes."""
        probabilities = self.probabilities
        if probabilities is None:
            raise BadPicture(self.problem or "no logits")
        order = np.argsort(-probabilities, kind="stable")[:k]
        return tuple((self.classes[i], float(probabilities[i])) for i in order)


def runner(classifier: Classifier, device: Device) -> Run:
    """What runs the classifier: pixels (N, S, S, 3) uint8 → logits (N, K)."""
    if device == "cpu":
        return OnnxRunner(classifier.graph, output=LOGITS)
    from graft.runtime.device import TorchRunner
    from graft.runtime.export import pixels_first

    offset = classifier.tensors().get(MEAN_OFFSET)
    return TorchRunner(
        pixels_first(rebuild(classifier), classifier.preprocess.mean, classifier.preprocess.std, offset), device
    )


def predict(
    classifier: Classifier, run: Run, pictures: Iterable[Input], *, on_gpu: bool = False
) -> Iterator[Prediction]:
    """Classify pictures one after another, lazily: 100,000 files take no more memory than ten.

    run: from `runner(classifier, …)`. A file that is no picture gives a Prediction with its problem; it stops nothing.
    """
    classes, preprocess = classifier.classes, classifier.preprocess

    def load(item: Input) -> tuple[str, bytes, NDArray[np.uint8] | str]:
        name = str(item) if isinstance(item, str | Path) else ""
        key = b""
        try:
            if isinstance(item, str | Path):
                data = read_picture(item)
                key = hashlib.sha256(data).digest()[:16]
                picture = decode(data, name=name, shortest=preprocess.size)
            else:
                picture = _in_memory(item)
        except BadPicture as error:
            return name, key, str(error)
        return name, key, fit_picture(picture.image, preprocess)

    def one(item: Input) -> Prediction:
        name, key, pixels = load(item)
        if isinstance(pixels, str):
            return Prediction(name, None, pixels, classes, key)
        return Prediction(name, run(pixels[None])[0], None, classes, key)

    if not on_gpu:
        yield from ordered_map(one, pictures)
        return
    for batch in batched(ordered_map(load, pictures, ahead=_GPU_BATCH), _GPU_BATCH):
        ready = [pixels for _, _, pixels in batch if not isinstance(pixels, str)]
        rows = iter(run(np.stack(ready)) if ready else ())
        for name, key, pixels in batch:
            if isinstance(pixels, str):
                yield Prediction(name, None, pixels, classes, key)
            else:
                yield Prediction(name, next(rows), None, classes, key)


def _in_memory(item: Image.Image | NDArray[np.uint8]) -> Picture:
    """A picture that is not a file, through the one decoder all the same."""
    if not isinstance(item, Image.Image):
        array = np.asarray(item)
        if (
            array.dtype != np.uint8
            or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4)))
            or not array.size
        ):
            raise BadPicture(
                f"an array must be uint8 of shape (H, W), (H, W, 3) or (H, W, 4), got {array.dtype} {array.shape}; "
                "convert it to 0–255 RGB first"
            )
        item = Image.fromarray(array)
    buffer = io.BytesIO()
    try:
        item.save(buffer, "TIFF" if item.mode in ("CMYK", "LAB") else "PNG")
    except (OSError, ValueError) as error:
        raise BadPicture(
            f"a PIL picture of mode {item.mode} cannot be used ({error}); convert it to RGB first"
        ) from error
    return decode(buffer.getvalue(), name="picture.tif" if item.mode in ("CMYK", "LAB") else "picture.png")
