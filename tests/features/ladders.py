"""A trunk without a network, and features of it that lie in a store, from arrays given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graft.data.facts import FACTS
from graft.data.sources.scan import Sample
from graft.disk.table import KEY_BYTES, Store
from graft.features.extract import Features
from graft.features.trunk import Trunk


def trunk_of(folder: Path, widths: dict[str, int]) -> Trunk:
    """A trunk whose outputs are named and as wide as `widths` says, `features` the last."""
    *stages, top = widths
    assert top == "features"
    return Trunk(
        folder, "drawn", "timm", "drawn", "0" * 32, "classifier", tuple(stages), tuple(widths.values()), 224,
        (0.5,) * 3, (0.5,) * 3, "bicubic",
    )  # fmt: skip


def features_of(folder: Path, outputs: list[NDArray[np.floating]]) -> Features:
    """Features of as many pictures as the outputs, (N, width) each, have rows."""
    ladder = np.concatenate(outputs, axis=1).astype(np.float16)
    keys = [number.to_bytes(KEY_BYTES, "big") for number in range(len(ladder))]
    table = Store(folder).table("drawn", np.dtype(("<f2", (ladder.shape[1],))))
    table.append(keys, ladder)
    samples = tuple(Sample(f"{number}.png", 0) for number in range(len(ladder)))
    return Features(samples, tuple(keys), np.zeros(len(ladder), FACTS), (), 0, 0.0, ladder.shape[1:], table)
