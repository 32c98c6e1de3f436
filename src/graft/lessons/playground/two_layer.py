"""A network of two layers on 2-D points: what its hidden units make of the plane.

scores = W₂ h + b₂ with h = max(0, W₁x + b₁), or h = W₁x + b₁, which is no more than one layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from graft.lessons.playground.points import Points
from graft.training.recipe.optimizers import optimizer

STEPS: Final = 1500
RATE: Final = 0.02


class TwoLayer(nn.Module):
    """(N, 2) points → (N, classes) scores."""

    def __init__(self, hidden: int, *, classes: int, rectified: bool, seed: int) -> None:
        super().__init__()
        self.first = nn.Linear(2, hidden, dtype=torch.float64)
        self.second = nn.Linear(hidden, classes, dtype=torch.float64)
        self.rectified = rectified
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for layer in (self.first, self.second):
                layer.weight.normal_(0, math.sqrt(2 / layer.in_features), generator=generator)
                layer.bias.zero_()

    def features(self, x: Tensor) -> Tensor:
        """(N, 2) → (N, hidden), the space that the second layer parts by straight lines."""
        h: Tensor = self.first(x)
        return h.relu() if self.rectified else h

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.second(self.features(x))
        return scores


@dataclass(frozen=True, eq=False)
class Trained:
    """A network after training. accuracy: 0–1, on the points it learnt from. weight_norm: ‖W₁‖² + ‖W₂‖²."""

    network: TwoLayer
    accuracy: float
    weight_norm: float

    def classes_at(self, x: NDArray[np.float64]) -> NDArray[np.int64]:
        """(N, 2) points → (N,) classes."""
        with torch.no_grad():
            scores: Tensor = self.network(torch.from_numpy(x))
            return scores.argmax(dim=1).numpy()

    def features_at(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 2) points → (N, hidden) features."""
        with torch.no_grad():
            return self.network.features(torch.from_numpy(x)).numpy()

    def classes_of(self, features: NDArray[np.float64]) -> NDArray[np.int64]:
        """(N, hidden) features → (N,) classes: what the second layer alone says."""
        with torch.no_grad():
            scores: Tensor = self.network.second(torch.from_numpy(features))
            return scores.argmax(dim=1).numpy()


def train_two_layer(
    points: Points, *, hidden: int, strength: float = 0.0, rectified: bool = True, seed: int = 0, steps: int = STEPS
) -> Trained:
    """Minimise mean cross-entropy + λ(‖W₁‖² + ‖W₂‖²) by Adam on all points at once. strength: λ."""
    x, y = torch.from_numpy(points.x), torch.from_numpy(points.y)
    network = TwoLayer(hidden, classes=int(points.y.max()) + 1, rectified=rectified, seed=seed)
    adam = optimizer("adam", network.parameters(), rate=RATE)
    for _ in range(steps):
        adam.zero_grad()
        loss = functional.cross_entropy(network(x), y) + strength * weight_norm(network)
        torch.autograd.backward(loss)
        adam.step()
    with torch.no_grad():
        accuracy = (network(x).argmax(dim=1) == y).double().mean()
        return Trained(network, float(accuracy), float(weight_norm(network)))


def weight_norm(network: TwoLayer) -> Tensor:
    """‖W₁‖² + ‖W₂‖², without the biases."""
    return network.first.weight.square().sum() + network.second.weight.square().sum()
