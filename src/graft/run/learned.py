"""What learning gives: a classifier that is ready to be tested and published, with its validation score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graft.classifier.manifest import HeadRecord
from graft.classifier.record import PhaseRecord
from graft.data.preprocess import Preprocess
from graft.evaluate.intervals import Interval, grouped_proportion
from graft.heads.probe import Probe
from graft.run.prepare import Dataset
from graft.strategy.advice import Advice, Strategy
from graft.training.loop.history import History
from graft.training.recipe.settings import Recipe

if TYPE_CHECKING:
    from graft.training.loop.fit import Outcome

Answer = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Places in the data set (n,) → probabilities (n, K)."""


@dataclass(frozen=True)
class NetworkOf:
    """Which network a classifier has: as the manifest names it."""

    network: str
    builder: Any
    architecture: str
    arguments: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Learned:
    """A classifier of a data set, which has not been tested.

    recipe: as it was carried out. words: what was done, for people. graph: the ONNX file's bytes. tensors: by their
    published names. answer: what it says of any of the data set's pictures. held_out: (n, K) probabilities by part of
    the split, from fits that never saw the pictures (those of the validation part have chosen among fits), NaN where
    there are none. limit: seconds that one decode and one forward pass of every picture take here. probe: the search
    for the head's strength, where there was one. history: its file; curves: the same of a network that was trained.
    record: what the manifest says of it, beside what it says of every run.
    """

    dataset: Dataset
    recipe: Recipe
    strategy: Strategy
    words: str
    network: NetworkOf
    preprocess: Preprocess
    head: HeadRecord
    calibration: str
    graph: bytes
    tensors: dict[str, NDArray[Any]]
    answer: Answer
    held_out: dict[str, NDArray[np.float32]]
    limit: float
    history: bytes
    advice: Advice | None = None
    probe: Probe | None = None
    curves: History | None = None
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def validation(self) -> Interval:
        """How often it is right on pictures that its fits never saw, 0–1, with the 95 % interval."""
        part = "val" if "val" in self.held_out else "train"
        which, rows = self.dataset.indices(part), self.held_out[part]
        judged = ~np.isnan(rows).any(axis=1)
        right = rows[judged].argmax(axis=1) == self.dataset.labels[which][judged]
        return grouped_proportion(right, self.dataset.groups[which][judged])


def phase_of(outcome: Outcome) -> PhaseRecord:
    """What the manifest says of one run of the training loop."""
    return PhaseRecord(
        epochs=outcome.epochs, best_epoch=outcome.best_epoch, ended=outcome.why, precision=outcome.precision,
        batch=outcome.batch, seconds=round(outcome.seconds, 1),
        pictures_per_second=round(outcome.pictures_per_second, 1),
    )  # fmt: skip
