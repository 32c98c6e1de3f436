"""What a probe ends with: one linear layer, on the features themselves or on their likeness to a set of landmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from graft.classifier.artefact import GAMMA, LANDMARKS
from graft.evaluate.calibration import softmax
from graft.features.rows import Floats, Rows

Kind = Literal["logistic", "lda", "rbf"]
Labels = NDArray[np.int64]

NAMES: Final[dict[Kind, str]] = {
    "logistic": "logistic regression", "lda": "linear discriminant analysis", "rbf": "the RBF machine"
}  # fmt: skip


@dataclass(frozen=True)
class Kernel:
    """Likeness to landmarks, the features of a kernel machine: exp(−γ‖x/‖x‖ − landmark‖²), above 0 and at most 1.

    landmarks: (M, D), each of length 1. gamma: above 0, exact in float32. Source: Williams and Seeger, Using the
    Nyström method to speed up kernel machines, NIPS 2000.
    """

    landmarks: Floats
    gamma: float

    def features(self, x: Floats) -> Floats:
        """(N, D) features → (N, M) likenesses. A row of zeros stays one: it is equally like every landmark."""
        return likeness(unit(x) @ self.landmarks.T, self.gamma)


@dataclass(frozen=True)
class Head:
    """From features to scores: logits = z @ weight.T + bias, z the features or what `kernel` makes of them.

    kind: how it was fitted. weight: (K, D), or (K, M) behind a kernel of M landmarks. bias: (K,). The temperature at
    which the logits' softmax is calibrated is already in both.
    """

    kind: Kind
    weight: Floats
    bias: Floats
    kernel: Kernel | None = None

    def logits(self, x: Floats) -> Floats:
        """(N, D) features → (N, K) logits."""
        z = x if self.kernel is None else self.kernel.features(x)
        return np.asarray(z @ self.weight.T + self.bias)

    def tensors(self, layer: str) -> dict[str, NDArray[np.float32]]:
        """Its arrays by their names in a file of weights; layer: the published name of the network's last layer."""
        tensors = {f"{layer}.weight": self.weight, f"{layer}.bias": self.bias}
        if self.kernel is not None:
            tensors |= {LANDMARKS: self.kernel.landmarks, GAMMA: np.array(self.kernel.gamma, np.float32)}
        return tensors


@dataclass(frozen=True)
class Fitted:
    """A head with what it was chosen by. held_out: (N, K) calibrated logits from fits that never saw the row, NaN for
    rows of no fold. settings: what cross-validation chose, in words."""

    head: Head
    held_out: Floats
    settings: str


def logits(rows: Rows, head: Head) -> Floats:
    """The head's logits (N, K) of every row (N, D); the same bits on any number of cores."""
    with threadpool_limits(limits=1, user_api="blas"):  # our threads share the work
        return np.concatenate(list(rows.each(lambda _, x: head.logits(x), head.weight.shape[1])))


def probabilities(rows: Rows, head: Head) -> Floats:
    """The head's probabilities (N, K) of every row (N, D)."""
    return softmax(logits(rows, head))


def unit(x: Floats) -> Floats:
    """Rows (N, D) scaled to length 1; a row of zeros stays as it is."""
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12), np.float32)


def likeness(cosines: Floats, gamma: float) -> Floats:
    """exp(−γ‖a − b‖²) of vectors of length 1, whose ‖a − b‖² is 2 − 2·cosine."""
    return np.asarray(np.exp(np.float32(2 * gamma) * (cosines - np.float32(1))))
