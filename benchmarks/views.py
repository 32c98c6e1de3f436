"""What it takes to keep the maps of augmented views: one picture at a time, and several augmented at once.

python -m benchmarks.views        (five minutes on two cores, nothing beside)

Every fifth picture of TrashNet in two augmented views, through EfficientNet-Lite0 up to `blocks.5`, with pictures of
160² and of 224²; the ways in turns, an empty store each time. Seconds are the median of the turns.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.machine import keep
from benchmarks.transfer import NETWORK, TRASHNET
from graft.data.augmentation.augment import policy
from graft.data.preprocess import Preprocess
from graft.data.sources.scan import Sample, scan
from graft.disk.table import Store
from graft.finetune import maps
from graft.finetune.lower import Lower
from graft.models.build import build
from graft.models.weights import find_source

CUT: Final = "blocks.5"
SIDES: Final = (160, 224)
TOGETHER: Final = (1, 2, 4, 8, 16)
VIEWS: Final = 2
TURNS: Final = 3


def seconds(samples: list[Sample], lower: Lower, preprocess: Preprocess) -> float:
    """Of all views of all samples."""
    with tempfile.TemporaryDirectory() as store:
        began = time.perf_counter()
        maps.keep_maps(
            samples, lower, preprocess, Store(Path(store)), views=VIEWS, plain=False, policy=policy("standard")
        )
        return time.perf_counter() - began


def main() -> None:
    """Measure and keep."""
    samples = list(scan(TRASHNET).samples)[::5]
    built = build(find_source(NETWORK))
    found = {}
    with tempfile.TemporaryDirectory() as cache:
        for side in SIDES:
            lower = maps.open_lower(built, CUT, side, Path(cache))
            preprocess = Preprocess(side, "squash", "bicubic", built.mean, built.std)
            taken: dict[int, list[float]] = {together: [] for together in TOGETHER}
            for _ in range(TURNS):
                for together, measured in taken.items():
                    maps.TOGETHER = together  # type: ignore[misc]
                    measured.append(seconds(samples, lower, preprocess))
            for together, measured in taken.items():
                each = [1000 * one / (VIEWS * len(samples)) for one in measured]
                found[f"{side}, {together} at once"] = {
                    "ms_a_view": round(statistics.median(each), 2), "lowest": round(min(each), 2),
                    "highest": round(max(each), 2), "views": VIEWS * len(samples),
                }  # fmt: skip
    keep("views", found)


if __name__ == "__main__":
    main()
