"""Pictures to train on: labels at hand, pixels read when they are asked for, each under the number it has in its set.

The number is what randomness is drawn from, so that a picture is augmented alike in a part of a set and in the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graft.errors import UsageError
from graft.training.loop.source import Batch, Batching, Positions

Read = Callable[[NDArray[np.int64]], NDArray[np.uint8]]
"""Positions (n,) → pixels (n, H, W, C), 0–255. It may be called by several threads at once."""

CHANNELS: Final = (1, 3)


@dataclass(frozen=True, eq=False)
class Pictures:
    """N pictures of one shape with their classes, a `Source`.

    labels: (N,) int64, 0 … K − 1. ids: (N,) int64, the number of each picture in the whole set. shape: (H, W, C) of one
    picture, C being 1 (grey) or 3. read: gives the pixels at positions 0 … N − 1.
    """

    labels: NDArray[np.int64]
    ids: NDArray[np.int64]
    shape: tuple[int, int, int]
    read: Read

    def __post_init__(self) -> None:
        if self.labels.ndim != 1 or self.labels.shape != self.ids.shape:
            raise UsageError(
                f"a set of pictures needs one label and one number for each, got arrays of shape {self.labels.shape} "
                f"and {self.ids.shape}; give both as (N,)"
            )
        if len(self.labels) and self.labels.min() < 0:
            raise UsageError(f"labels count from 0, got {self.labels.min()}; number the classes 0 to K − 1")
        if self.shape[2] not in CHANNELS:
            raise UsageError(f"a picture has 1 or 3 channels, got {self.shape[2]}; give grey or RGB pictures")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, positions: Positions) -> Pictures:
        """The pictures at `positions` (n,), in that order; they keep their numbers."""
        read = self.read
        return replace(
            self, labels=self.labels[positions], ids=self.ids[positions], read=lambda wanted: read(positions[wanted])
        )

    def batch(self, positions: Positions, *, batching: Batching, epoch: int) -> Batch:
        """Read, scale to 0–1, augment, mix, normalise: the pictures at `positions` (n,) as a batch."""
        import torch

        from graft.data.augmentation.augment import augment
        from graft.data.augmentation.mixing import mix

        memory = torch.channels_last if batching.channels_last else torch.contiguous_format
        pixels = torch.from_numpy(np.ascontiguousarray(self.read(positions)))  # (n, H, W, C) uint8
        x = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=memory).mul_(1 / 255)  # (n, C, H, W), 0–1
        target = torch.from_numpy(self.labels[positions])
        samples = self.ids[positions]
        if batching.policy:
            x = augment(x, batching.policy, seed=batching.seed, epoch=epoch, samples=samples)
        if batching.mixing:
            kind, alpha = batching.mixing
            shares = torch.nn.functional.one_hot(target, batching.classes).to(torch.float32)  # (n, K)
            x, target = mix(x, shares, kind=kind, alpha=alpha, seed=batching.seed, epoch=epoch, samples=samples)
        if batching.normalization is not None:
            x = batching.normalization.normalize(x)
        return Batch(x.contiguous(memory_format=memory), target)

    def identity(self) -> bytes:
        """The shape, labels and numbers of the pictures; not their pixels."""
        return repr((self.shape, len(self))).encode() + self.labels.tobytes() + self.ids.tobytes()

    def in_colour(self) -> Pictures:
        """The same pictures with 3 channels, for a network that takes RGB: grey is repeated."""
        if self.shape[2] == 3:
            return self
        read = self.read
        return replace(self, shape=(*self.shape[:2], 3), read=lambda wanted: np.repeat(read(wanted), 3, axis=3))

    def padded(self, side: int) -> Pictures:
        """The same pictures in the middle of a black square of `side` pixels, as LeNet-5 sees 28² digits in 32².

        Raises UsageError for a square that is smaller than the pictures.
        """
        height, width, _ = self.shape
        if side < max(height, width):
            raise UsageError(f"pictures of {height}×{width} pixels need a square of at least that, got side {side}")
        top, left = (side - height) // 2, (side - width) // 2
        margins = ((0, 0), (top, side - height - top), (left, side - width - left), (0, 0))
        read = self.read
        return replace(self, shape=(side, side, self.shape[2]), read=lambda wanted: np.pad(read(wanted), margins))


def from_array(pixels: NDArray[np.uint8], labels: NDArray[np.integer]) -> Pictures:
    """Pictures that lie in memory: pixels (N, H, W) or (N, H, W, C) uint8, labels (N,).

    The array is used as it is, not copied; it may be memory-mapped.
    Raises UsageError for other shapes, other pixels than uint8, or another number of labels.
    """
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4):
        raise UsageError(
            f"pixels must be uint8 of shape (N, H, W) or (N, H, W, C), got {pixels.dtype} {pixels.shape}; "
            "scale other pictures to 0–255 first"
        )
    if len(pixels) != len(labels):
        raise UsageError(f"each picture needs one label, got {len(pixels)} pictures and {len(labels)} labels")
    array = pixels if pixels.ndim == 4 else pixels[..., np.newaxis]  # (N, H, W, C)
    _, height, width, channels = array.shape
    return Pictures(
        labels=np.asarray(labels, dtype=np.int64),
        ids=np.arange(len(array), dtype=np.int64),
        shape=(height, width, channels),
        read=lambda wanted: array[wanted],
    )
