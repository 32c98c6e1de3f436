"""What is subtracted from pictures and what they are divided by, measured on the training split alone.

The lectures' three ways: subtract each channel's mean, or the mean image, and divide by each channel's deviation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from graft.errors import UsageError, nearest, shown

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["channels", "mean-image", "none"]
KINDS: Final[tuple[Kind, ...]] = ("channels", "mean-image", "none")

_CHUNK: Final = 1024  # pictures read at a time


class Measured(Protocol):
    """N pictures of one shape, whose pixels can be read: what a normalisation is measured on."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of one picture."""
        ...

    @property
    def read(self) -> Callable[[NDArray[np.int64]], NDArray[np.uint8]]:
        """Positions (n,) → pixels (n, H, W, C), 0–255."""
        ...

    def __len__(self) -> int:
        """N."""
        ...


@dataclass(frozen=True, eq=False)
class Normalization:
    """(x − mean) / std, on pictures of the range 0–1.

    mean: (C,) float32, or a mean image (C, H, W). std: (C,) float32, above 0.
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.mean.ndim not in (1, 3) or self.std.shape != self.mean.shape[:1] or not (self.std > 0).all():
            raise UsageError(
                "a normalisation needs a mean (C,) or (C, H, W) and a deviation (C,) above 0, got shapes "
                f"{self.mean.shape} and {self.std.shape}; measure them with channel_statistics or mean_image"
            )

    def normalize(self, x: Tensor) -> Tensor:
        """(N, C, H, W) float32, 0–1 → the same shape, mean 0 and deviation 1 over the set it was measured on."""
        mean = x.new_tensor(self.mean if self.mean.ndim == 3 else self.mean[:, None, None])  # (C, 1, 1) or (C, H, W)
        scale = x.new_tensor(1 / self.std[:, None, None])  # (C, 1, 1)
        return (x - mean).mul_(scale)


def normalization_of(pictures: Measured, kind: str) -> Normalization:
    """Measure the normalisation `kind`, one of KINDS, on a training split.

    Raises UsageError for another name or an empty split.
    """
    if kind == "channels":
        return channel_statistics(pictures)
    if kind == "mean-image":
        return mean_image(pictures)
    if kind == "none":
        channels = pictures.shape[2]
        return Normalization(np.zeros(channels, np.float32), np.ones(channels, np.float32))
    raise UsageError(f"--normalization must be one of {', '.join(KINDS)}, got {shown(kind)!r}{nearest(kind, KINDS)}")


def channel_statistics(pictures: Measured) -> Normalization:
    """Mean and standard deviation of each channel over all pixels of all pictures.

    Exact: how often each of the 256 values occurs is counted, so the order of the pictures does not matter. A channel
    of one value gets the deviation 1.
    """
    channels = pictures.shape[2]
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, _needed(pictures), _CHUNK):
        pixels = pictures.read(np.arange(start, min(start + _CHUNK, len(pictures))))  # (n, H, W, C)
        for channel in range(channels):
            counts[channel] += np.bincount(pixels[..., channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    share = counts / counts.sum(axis=1, keepdims=True)  # (C, 256)
    mean = share @ values
    variance = (share * (values - mean[:, None]) ** 2).sum(axis=1)
    return Normalization(mean.astype(np.float32), _deviation(variance))


def mean_image(pictures: Measured) -> Normalization:
    """The mean of each pixel over all pictures, and each channel's deviation from it.

    Source: Krizhevsky et al., NeurIPS 2012, §2, who subtract "the mean activity over the training set from each pixel".
    """
    total = np.zeros(pictures.shape, np.int64)  # (H, W, C)
    squares = np.zeros(pictures.shape, np.int64)
    for start in range(0, _needed(pictures), _CHUNK):
        pixels = pictures.read(np.arange(start, min(start + _CHUNK, len(pictures)))).astype(np.int64)
        total += pixels.sum(axis=0)
        squares += (pixels**2).sum(axis=0)
    mean = total / len(pictures) / 255
    variance = (squares / len(pictures) / 255**2 - mean**2).mean(axis=(0, 1))  # (C,)
    return Normalization(np.ascontiguousarray(mean.transpose(2, 0, 1), np.float32), _deviation(variance))


def _needed(pictures: Measured) -> int:
    if not len(pictures):
        raise UsageError("a normalisation is measured on pictures, got none; give a training split that is not empty")
    return len(pictures)


def _deviation(variance: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.sqrt(np.where(variance > 1e-12, variance, 1.0)).astype(np.float32)
