"""Kept maps as something to train on: read in the order that training asks, mirrored and mixed as pictures would be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from graft.data.augmentation.draw import uniforms
from graft.data.augmentation.mixing import mix
from graft.errors import UsageError
from graft.finetune.maps import Maps
from graft.training.loop.source import Batch, Batching, Positions

# Streams of `graft.data.augmentation.draw`, apart from those that it and the places of a policy take.
VIEW_STREAM: Final = 2**32 - 16
FLIP_STREAM: Final = 2**32 - 17


@dataclass(frozen=True, eq=False)
class MapSource:
    """N pictures by their maps, with their classes: a `Source`.

    labels: (N,) int64, 0 … K − 1. ids: (N,) int64, the number of each picture in the whole set. maps: of these pictures
    and perhaps of others. rows: (N,) int64, which of them each is.
    """

    labels: NDArray[np.int64]
    ids: NDArray[np.int64]
    maps: Maps
    rows: NDArray[np.int64]

    def __post_init__(self) -> None:
        if not self.labels.shape == self.ids.shape == self.rows.shape or self.labels.ndim != 1:
            raise UsageError(
                "maps to train on need one label, one number and one row for each picture, got arrays of shape "
                f"{self.labels.shape}, {self.ids.shape} and {self.rows.shape}; give all as (N,)"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, h, w)."""
        return self.maps.shape

    def take(self, positions: Positions) -> MapSource:
        """The pictures at `positions` (n,), in that order; they keep their numbers."""
        return replace(self, labels=self.labels[positions], ids=self.ids[positions], rows=self.rows[positions])

    def batch(self, positions: Positions, *, batching: Batching, epoch: int) -> Batch:
        """The maps at `positions` (n,), x (n, C, h, w): of the epoch's views, or of the plain ones without a policy.

        With flips in the policy, a random half is mirrored: nearly what the mirrored pictures would give, exactly so
        only where no stride or padding of the layers below tells left from right.
        """
        ids = self.ids[positions]
        views = epoch_views(batching.seed, epoch, ids, self.maps.views if batching.policy else 1)
        stored = torch.from_numpy(self.maps.read(self.rows[positions], views))  # (n, h, w, C) float16
        x = stored.permute(0, 3, 1, 2).to(torch.float32)  # (n, C, h, w), channels-last as it lies
        if batching.flip:
            mirrored = torch.from_numpy(uniforms(batching.seed, epoch, ids, FLIP_STREAM, 1)[:, 0] < 0.5)
            x[mirrored] = x[mirrored].flip(3)
        target = torch.from_numpy(self.labels[positions])
        if batching.mixing:
            kind, alpha = batching.mixing
            shares = torch.nn.functional.one_hot(target, batching.classes).to(torch.float32)  # (n, K)
            x, target = mix(x, shares, kind=kind, alpha=alpha, seed=batching.seed, epoch=epoch, samples=ids)
        memory = torch.channels_last if batching.channels_last else torch.contiguous_format
        return Batch(x.contiguous(memory_format=memory), target)

    def identity(self) -> bytes:
        """Labels and numbers, and the pictures and views whose maps these are."""
        keys = b"".join(self.maps.keys[row] for row in self.rows)
        return self.maps.name.encode() + self.labels.tobytes() + self.ids.tobytes() + keys


def epoch_views(seed: int, epoch: int, ids: NDArray[np.int64], views: int) -> NDArray[np.int64]:
    """Which view of each picture an epoch takes: every one once, in an order of its own, before any comes again.

    epoch: from 0. ids: (n,). Returns (n,), 0 … views − 1.
    """
    if views == 1:
        return np.zeros(len(ids), np.int64)
    round_, place = divmod(epoch, views)
    order = np.argsort(uniforms(seed, round_, ids, VIEW_STREAM, views), axis=1)  # (n, views), a permutation each
    return order[:, place]
