"""A loaded model, as `graft.load` gives it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from graft.classifier import predict as prediction
from graft.classifier.artefact import Classifier
from graft.classifier.artefact import load as load_classifier
from graft.classifier.evaluation import evaluate_model
from graft.classifier.predict import Input, Prediction
from graft.errors import BadModel
from graft.evaluate.calibration import softmax
from graft.evaluate.metrics import Scores
from graft.progress import Progress, silent
from graft.runtime.device import choose_device

_GOLDEN_TOLERANCE = 1e-3  # of a probability: other processors round differently


class Model:
    """A trained classifier: `model.predict("photo.jpg").label`.

    classes: their names, in the order of the probabilities. folder: where it lies.
    """

    def __init__(self, classifier: Classifier, *, device: str = "auto") -> None:
        self.classifier = classifier
        self.device = choose_device(device)
        self._run = prediction.runner(classifier, self.device)

    def __repr__(self) -> str:
        return f"<graft.Model {self.classifier.folder.name!r}: {len(self.classes)} classes, {self.info['network']}>"

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the probabilities."""
        return self.classifier.classes

    @property
    def folder(self) -> Path:
        """The model folder."""
        return self.classifier.folder

    @property
    def info(self) -> dict[str, Any]:
        """What `model.json` says: classes, network, strategy, test scores, seconds and the record of the run."""
        return self.classifier.manifest.to_json()

    @overload
    def predict(self, pictures: Input) -> Prediction: ...  # type: ignore[overload-overlap]  # a str is iterable too
    @overload
    def predict(self, pictures: Iterable[Input]) -> list[Prediction]: ...
    def predict(self, pictures: Input | Iterable[Input]) -> Prediction | list[Prediction]:
        """Classify one picture, or a list of them.

        pictures: a path, a PIL picture or a uint8 array (H, W, 3), or an iterable of these. A single picture that
        cannot be read raises BadPicture; in a list it gives a Prediction whose `problem` says why.
        """
        if isinstance(pictures, str | Path | Image.Image | np.ndarray):
            (one,) = self.stream([pictures])
            if one.problem is not None:
                one.top(1)  # raises BadPicture with the reason
            return one
        return list(self.stream(pictures))

    def stream(self, pictures: Iterable[Input]) -> Iterable[Prediction]:
        """Classify any number of pictures lazily, in order and in constant memory."""
        return prediction.predict(self.classifier, self._run, pictures, on_gpu=self.device != "cpu")

    def evaluate(self, folder: str | Path, *, progress: Progress = silent) -> Scores:
        """Score the model on a folder of labelled pictures; see `graft.evaluate`."""
        return evaluate_model(self, Path(folder), progress=progress).scores

    def verify(self) -> float:
        """Replay the golden pictures: the largest difference from the probabilities they must give.

        Raises BadModel when it is above 0.001: this machine or this version does not reproduce the model.
        """
        worst = 0.0
        for golden in self.classifier.golden():
            given: NDArray[np.float32] = softmax(self._run(golden.pixels[None]))[0]
            worst = max(worst, float(np.abs(given - golden.probabilities).max()))
        if not worst <= _GOLDEN_TOLERANCE:
            raise BadModel(f"{self.folder} gives other scores here than where it was made (off by {worst:.4f}); "
                           "install the versions that its record names")  # fmt: skip
        return worst


def load(folder: str | Path, *, device: str = "auto") -> Model:
    """Open a model folder; everything in it is verified first.

    Raises BadModel for a folder that is not a whole, unaltered model.
    """
    return Model(load_classifier(Path(folder)), device=device)
