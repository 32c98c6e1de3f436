"""From logits to probabilities that are as sure as they are right: softmax, log loss, and the temperature."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

_STEPS: Final = 50  # of Newton's method; about six are needed
_RANGE: Final = 1e4  # how far the temperature may be from the scores' own spread, either way


def softmax(logits: Floats) -> Floats:
    """(N, K) logits → (N, K) probabilities."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def log_loss(logits: Floats, labels: Labels) -> float:
    """Mean cross-entropy in nats of logits (N, K) for labels (N,)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    own = shifted[np.arange(len(labels)), labels]
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - own, dtype=np.float64))


def inverse_temperature(scores: Floats, labels: Labels) -> float:
    """The factor for scores (N, K) that makes their softmax calibrated: where held-out log loss is least.

    One more row, which is of every class equally, is added to the loss: where all N are right, no more certainty is
    claimed than N right answers support. Newton's method between bounds that close; the loss is convex.
    Source: Guo et al., On calibration of modern neural networks, ICML 2017, §4.2; the added row is ours.
    """
    z = scores.astype(np.float64)
    z -= z.mean(axis=1, keepdims=True)
    spread = float(z.std())
    if not spread > 0:
        return 1.0
    count = len(z)
    target = float(z[np.arange(count), labels].mean()) * count / (count + 1)  # the added row's mean score is 0
    low, high, factor = 1 / (_RANGE * spread), _RANGE / spread, 1 / spread
    for _ in range(_STEPS):
        share = softmax(factor * z)  # type: ignore[arg-type]
        mean = (share * z).sum(axis=1)
        slope = float(mean.mean()) - target
        curvature = float(((share * z * z).sum(axis=1) - mean**2).mean())
        low, high = (low, factor) if slope > 0 else (factor, high)
        step = factor - slope / curvature if curvature > 0 else 0.0
        following = step if low < step < high else float(np.sqrt(low * high))
        if abs(following - factor) <= 1e-7 * factor:
            break
        factor = following
    return factor


def calibrated(scores: Floats, labels: Labels, fold: Labels) -> tuple[Floats, float]:
    """Held-out scores (N, K) times the factor that is best for rows with a fold, and that factor."""
    judged = fold >= 0
    factor = inverse_temperature(scores[judged], labels[judged])
    return np.asarray(scores * np.float32(factor)), factor
