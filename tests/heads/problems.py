"""Drawn problems that the tests of several heads share."""

from __future__ import annotations

import numpy as np

from graft.features.rows import Floats, Rows


def in_memory(x: Floats) -> Rows:
    """The rows of an array (N, D)."""
    return Rows(len(x), x.shape[1], lambda part: x[part])


def clouds(count: int, width: int, classes: int, *, signal: float = 0.5) -> tuple[Floats, np.ndarray, np.ndarray]:
    """Overlapping classes in features of unequal scale that hang together; labels; folds 0–4 that take turns."""
    draw = np.random.default_rng(0)
    labels = draw.permutation(np.arange(count) % classes)
    noise = draw.normal(size=(count, width)) @ (np.eye(width) + 0.3 * draw.normal(size=(width, width)))
    x = signal * draw.normal(size=(classes, width))[labels] + noise
    return (
        (x * draw.uniform(0.5, 3, width) + draw.uniform(-9, 9, width)).astype(np.float32),
        labels,
        (np.arange(count) % 5),
    )
