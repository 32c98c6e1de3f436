"""The features of a network that was tuned above a cut, for pictures whose maps below it are kept.

What is below the cut has not changed: its outputs are known, and its maps lie in the store. So only the
upper part runs, on the maps, and the other pictures go through the whole network.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graft.data.preprocess import Preprocess
from graft.disk.table import Store
from graft.features.extract import Features, remember
from graft.features.trunk import Trunk
from graft.finetune.lower import StageOutput, upper_in_trunk
from graft.finetune.maps import Maps
from graft.progress import Progress, silent
from graft.runtime.onnx import OnnxRunner
from graft.runtime.stream import ordered_map

_KEPT_AT_ONCE: Final = 512  # pictures, before what they gave is written


def remember_from_maps(
    cut: str,
    maps: Maps,
    before: Features,
    which: NDArray[np.int64],
    trunk: Trunk,
    preprocess: Preprocess,
    store: Store,
    *,
    progress: Progress = silent,
) -> None:
    """Keep what the tuned network makes of the pictures `which`, so that `extract` finds it.

    cut: the lowest stage that was tuned. before: features of the network as it was. maps: of the training pictures,
    view 0 the plain one. which: (n,) places in `before` of those to be kept, −1 for the others, in the order of the
    maps. trunk: the tuned one; where its graph cannot be cut there, nothing is kept. Rows are those of the whole
    network but for the rounding of maps to float16. Raises GraftError when the store cannot be written.
    """
    stages = trunk.stages.index(cut)  # below the cut
    graph = upper_in_trunk(StageOutput(trunk.graph, stages - 1), trunk.size)
    if graph is None:
        return
    upper = OnnxRunner(graph)
    del graph
    below = slice(0, sum(trunk.widths[:stages]))
    positions = np.flatnonzero(which >= 0)

    def above(picture: int) -> NDArray[np.float32]:
        stored = maps.read(np.array([picture]), np.array([0]))  # (1, h, w, C) float16
        (row,) = upper(np.ascontiguousarray(stored.transpose(0, 3, 1, 2), np.float32))
        return np.asarray(row)

    def parts() -> Iterator[tuple[list[bytes], NDArray[np.float32], NDArray[np.void]]]:
        rows = ordered_map(above, positions.tolist())
        for start in range(0, len(positions), _KEPT_AT_ONCE):
            some = positions[start : start + _KEPT_AT_ONCE]
            higher = np.stack(list(islice(rows, len(some))))  # (n, Σ widths above)
            progress("running the tuned layers", start + len(some), len(positions))
            known = before.rows(which[some], below).read(slice(None))  # (n, Σ widths below)
            keys = [before.keys[i] for i in which[some]]
            yield keys, np.concatenate([known, higher], axis=1), before.facts[which[some]]

    remember(store, preprocess, trunk_key=trunk.key, width=trunk.row_width, parts=parts())
