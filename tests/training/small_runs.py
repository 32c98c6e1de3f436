"""Small runs that the tests of the loop share: drawn pictures, a small network, and a run that can be killed.

As a program it trains slowly, for it is to be killed: `python small_runs.py FOLDER EPOCHS [resume]`.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from graft.training.loop.fit import Outcome, fit
from graft.training.loop.pictures import Pictures, from_array
from graft.training.recipe.normalize import channel_statistics
from graft.training.recipe.settings import Recipe


def bars(count: int, *, seed: int = 0, side: int = 12) -> Pictures:
    """Noisy grey pictures of a bright bar, of three classes: lying above, lying below, standing."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    pixels = random.integers(0, 120, (count, side, side))
    for picture, label in zip(pixels, labels, strict=True):
        if label == 2:
            picture[:, side // 3 : side // 2] += 130
        else:
            picture[1 + label * side // 2 : 4 + label * side // 2] += 130
    return from_array(pixels.astype(np.uint8), labels)


def small_network(seed: int = 0, *, batch_norm: bool = True, dropout: float = 0.2) -> nn.Module:
    """(N, 1, H, W) → (N, 3): two convolutions, batch norm and dropout, as every kind of state is in it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1),
            nn.BatchNorm2d(6) if batch_norm else nn.Identity(),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(32, 3),
        )


SETTINGS = Recipe(
    strategy="scratch",
    epochs=3,
    batch=16,
    optimizer="nesterov",
    rate=0.05,
    schedule="one-cycle",
    augment="light",
    precision="float32",
)


def train(folder: Path, settings: Recipe = SETTINGS, **given: Any) -> Outcome:
    """One small run. given: what `fit` is given besides."""
    training, validation = given.pop("pictures", (bars(200), bars(60, seed=1)))
    network = given.pop("network", None) or small_network()
    return fit(
        network, training, validation, settings, normalization=channel_statistics(training), folder=folder, **given
    )


KILLED = replace(SETTINGS, ema=0.9, mixup=0.2, clip=5.0, accumulate=2)


def same_bits(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether two states hold the same tensors, bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


if __name__ == "__main__":
    torch.set_num_threads(1)

    def slowly(_event: object) -> None:
        time.sleep(0.02)

    place, epochs, *resume = sys.argv[1:]
    train(Path(place), replace(KILLED, epochs=int(epochs)), resume=bool(resume), watch=slowly, checkpoint_seconds=0.0)
