"""What fits that never saw a picture say of it, and how the test pictures score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graft.evaluate.metrics import Scores, score
from graft.run.prepare import Dataset


@dataclass(frozen=True)
class Judged:
    """What fits that never saw a picture say of it, beside its label.

    predicted: (n,) the class that is preferred, −1 where there is none. confidence, probability: (n,) what it gives
    that class and the picture's own label.
    """

    dataset: Dataset
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float32]
    probability: NDArray[np.float32]


@dataclass(frozen=True)
class Tested:
    """Scores on the test pictures, and without those that have a near-duplicate in training, where there are any."""

    scores: Scores
    unleaked: Scores | None


def test_scores(dataset: Dataset, probabilities: NDArray[np.float32]) -> Tested:
    """Scores of the test pictures. probabilities: (n, K), in their order."""
    in_test = dataset.indices("test")
    labels, groups = dataset.labels[in_test], dataset.groups[in_test]

    def scored(which: NDArray[np.bool_] | slice) -> Scores:
        return score(
            probabilities[which], labels[which], classes=dataset.classes, majority=dataset.majority,
            groups=groups[which],
        )  # fmt: skip

    clean = ~np.isin(groups, dataset.groups[dataset.split.parts != "test"])
    return Tested(scored(slice(None)), None if clean.all() or not clean.any() else scored(clean))


def judged_by(dataset: Dataset, answers: dict[str, NDArray[np.float32]]) -> Judged:
    """Put what classifiers say of a part's pictures beside them.

    answers: by part, (n, K) probabilities from fits that never saw the pictures, NaN where there is none.
    """
    labels = dataset.labels
    probability, confidence = (np.full(len(labels), np.nan, np.float32) for _ in range(2))
    predicted = np.full(len(labels), -1, np.int64)
    for part, rows in answers.items():
        which = dataset.indices(part)
        confidence[which] = rows.max(axis=1)
        probability[which] = rows[np.arange(len(which)), labels[which]]
        predicted[which] = np.where(np.isnan(rows[:, 0]), -1, rows.argmax(axis=1))
    return Judged(dataset, predicted, confidence, probability)
