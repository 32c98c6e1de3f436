"""Features drawn like real ones, as many as are wanted, for benchmarks of scale.

The noise has the covariance, within their classes, of EfficientNet-Lite0's features of trashnet's photos; the classes'
means are those for which the published ImageNet layer of that network is the best linear classifier [1], times SPREAD,
with which it would be right for about three samples in four.

[1] Hastie, Tibshirani, Friedman, The Elements of Statistical Learning, 2nd ed., 2009, eq. 4.10.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from benchmarks.machine import DATA
from graft.data.sources.scan import scan
from graft.disk.table import Store
from graft.features.extract import extract
from graft.features.rows import Rows
from graft.features.trunk import FEATURES, open_trunk, runner
from graft.models.weights import find_source

SPREAD = 4.3
Floats = NDArray[np.float32]


class Draw:
    """Features of new samples with the labels asked for."""

    def __init__(self, means: Floats, mixing: Floats) -> None:
        self._means, self._mixing = means, mixing
        self._random = np.random.default_rng(0)

    def __call__(self, labels: NDArray[np.int64]) -> Floats:
        noise = self._random.standard_normal((len(labels), len(self._mixing)), dtype=np.float32)
        return self._means[labels] + noise @ self._mixing


def cloud(folder: Path) -> tuple[Floats, Floats]:
    """Means (1000, D) of the classes, and the matrix (D, D) that turns white noise into that of real features."""
    source = find_source("efficientnet-lite0")
    trunk = open_trunk(source, folder)
    photos = scan(DATA / "trashnet")
    features = extract(
        photos.samples, runner(trunk, source, "cpu"), trunk.preprocess("squash"), Store(folder),
        trunk_key=trunk.key, width=trunk.row_width,
    )  # fmt: skip
    rows = features.rows(np.arange(len(features.samples)), trunk.columns(FEATURES))
    x = rows.read(slice(None)).astype(np.float64)
    labels = np.array([sample.label for sample in features.samples])
    centre = x.mean(axis=0)
    for label in np.unique(labels):
        x[labels == label] -= x[labels == label].mean(axis=0)
    covariance = x.T @ x / len(x) + 1e-6 * np.eye(x.shape[1])
    means = load_file(trunk.weights)[f"{trunk.head}.weight"].astype(np.float64) @ covariance
    means = centre + SPREAD * (means - means.mean(axis=0))
    return means.astype(np.float32), np.linalg.cholesky(covariance).T.astype(np.float32)


def stored(folder: Path, samples: int, classes: int) -> tuple[Rows, NDArray[np.int64], Draw]:
    """So many samples of the first `classes` classes, read from a store in `folder`; their labels; and who draws."""
    means, mixing = cloud(folder)
    width, labels = mixing.shape[1], np.arange(samples) % classes
    draw = Draw(means[:classes], mixing)
    table = Store(folder).table("features", np.dtype(("<f2", (width,))))
    keys = [int(i).to_bytes(16, "little") for i in range(samples)]
    for start in range(0, samples, 1024):
        part = slice(start, start + 1024)
        table.append(keys[part], draw(labels[part]).astype(np.float16))
    places = table.locate(keys)
    return Rows(samples, width, lambda part: table.gather(places[part]).astype(np.float32)), labels, draw
