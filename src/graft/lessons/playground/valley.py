"""The path that each optimiser takes through a long valley, f(x, y) = ½(x² / 20 + 2y²), from one point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from graft.training.recipe.optimizers import optimizer

START: Final = (-8.0, 1.8)
STEPS: Final = 60


@dataclass(frozen=True)
class Walk:
    """An optimiser by its name and the rate it walks at here."""

    name: str
    rate: float


WALKS: Final = (
    Walk("sgd", 0.9),
    Walk("momentum", 0.1),
    Walk("nesterov", 0.1),
    Walk("adagrad", 1.0),
    Walk("rmsprop", 0.2),
    Walk("adam", 0.4),
)


@dataclass(frozen=True, eq=False)
class Path:
    """Where a walk went. points: (steps + 1, 2), from START on. heights: (steps + 1,), f there."""

    walk: Walk
    points: NDArray[np.float64]
    heights: NDArray[np.float64]


def height(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 2) points → (...,) heights above the lowest point, which is the origin."""
    return np.asarray(0.5 * (points[..., 0] ** 2 / 20 + 2 * points[..., 1] ** 2))


def walk_down(walk: Walk, *, steps: int = STEPS) -> Path:
    """Follow the gradient from START by one of torch's optimisers."""
    here = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    curvature = torch.tensor([1 / 20, 2.0], dtype=torch.float64)
    descent = optimizer(walk.name, [here], rate=walk.rate)
    points = [np.array(START)]
    for _ in range(steps):
        descent.zero_grad()
        torch.autograd.backward(0.5 * (curvature * here.square()).sum())
        descent.step()
        points.append(here.detach().numpy().copy())
    path = np.stack(points)
    return Path(walk, path, height(path))
