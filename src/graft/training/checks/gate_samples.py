"""What the gate's checks are run on: small samples, their labels dealt out anew, or their pictures painted over."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graft.training.loop.pictures import Pictures

MOST: Final = 512  # pictures of a brief training, and of its validation
FEWEST: Final = 20  # of either; below, an interval holds almost everything
VALUES: Final = 2**24  # numbers in a sample, 64 MB: large pictures make smaller samples


@dataclass(frozen=True)
class Edges:
    """The first and last row and column of pictures in which anything differs, padding being the same in all."""

    top: int
    bottom: int
    left: int
    right: int


def edges(pictures: Pictures) -> Edges:
    """Where the pictures' own edges lie, inside of what was put around all of them."""
    pixels = pictures.read(np.arange(len(pictures)))  # (N, H, W, C)
    varies = (pixels != pixels[0]).any(axis=(0, 3))  # (H, W)
    if not varies.any():
        return Edges(0, pictures.shape[0] - 1, 0, pictures.shape[1] - 1)
    rows, columns = np.flatnonzero(varies.any(axis=1)), np.flatnonzero(varies.any(axis=0))
    return Edges(int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1]))


def painted(pictures: Pictures, at: Edges) -> Pictures:
    """Each quarter of a picture in the colour of the picture's pixel at that corner of the edges."""
    read, (height, width, _) = pictures.read, pictures.shape
    rows = np.where(np.arange(height) < height / 2, at.top, at.bottom)
    columns = np.where(np.arange(width) < width / 2, at.left, at.right)
    return replace(pictures, read=lambda wanted: read(wanted)[:, rows][:, :, columns])


def dealt(learning: Pictures, holding: Pictures, seed: int) -> tuple[Pictures, Pictures]:
    """Both samples with their labels permuted over the distinct pictures of the two together."""
    keys = np.array([*digests(learning), *digests(holding)])
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    labels = np.concatenate([learning.labels, holding.labels])[first]
    dealt = np.random.default_rng(seed).permutation(labels)[which]
    return replace(learning, labels=dealt[: len(learning)]), replace(holding, labels=dealt[len(learning) :])


def digests(pictures: Pictures) -> list[str]:
    """The SHA-256 of each picture's pixels."""
    return [hashlib.sha256(p.tobytes()).hexdigest() for p in pictures.read(np.arange(len(pictures)))]


def equal_pictures_of_two_classes(pictures: Pictures) -> int:
    """How many classes share a picture with another, summed over such pictures; 0 where all is well."""
    classes: dict[str, set[int]] = {}
    for key, label in zip(digests(pictures), pictures.labels.tolist(), strict=True):
        classes.setdefault(key, set()).add(label)
    return sum(len(labels) for labels in classes.values() if len(labels) > 1)


def two_samples(train: Pictures, val: Pictures | None, seed: int) -> tuple[Pictures, Pictures]:
    """Pictures to train on briefly, and others to validate on: up to MOST of each, fewer where they are large."""
    most = int(np.clip(VALUES // math.prod(train.shape), 2 * FEWEST, MOST))
    order = drawn(len(train), len(train) if val is None else most, seed)
    if val is not None:
        return train.take(order), val.take(drawn(len(val), most, seed))
    half = min(most, len(order) // 2)
    return train.take(order[:half]), train.take(order[half : 2 * half])


def drawn(count: int, wanted: int, seed: int) -> NDArray[np.int64]:
    """Up to `wanted` of the positions 0 … count − 1, each once."""
    return np.random.default_rng(seed).permutation(count)[:wanted].astype(np.int64)


def spread(labels: NDArray[np.int64], wanted: int, seed: int) -> NDArray[np.int64]:
    """Positions of up to `wanted` pictures, the classes taking turns."""
    order = drawn(len(labels), len(labels), seed)
    turn = np.zeros(len(labels), np.int64)  # how many of the same class come before
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        turn[of_class] = np.arange(len(of_class))
    return order[np.argsort(turn[order], kind="stable")][:wanted]


def majority(pictures: Pictures) -> float:
    """The share of the most frequent class, 0–1: what a constant answer may reach."""
    return float(np.bincount(pictures.labels).max() / len(pictures))
