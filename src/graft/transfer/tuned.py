"""The features of a network that was tuned above a cut, for pictures whose maps below it are kept.

What is below the cut has not changed: its rungs of the ladder are known, and its maps lie in the store. So only the
upper part runs, on the maps, and the other pictures go through the whole network.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from graft.data.preprocess import Preprocess
from graft.models.network import Built, Ladder
from graft.progress import Progress, silent
from graft.store.table import Store
from graft.transfer.features import Features, remember
from graft.transfer.maps import Maps
from graft.transfer.trunk import Trunk

_AT_ONCE: Final = 32  # pictures in a pass through the upper part
_KEPT_AT_ONCE: Final = 16  # passes, before what they gave is written


def remember_from_maps(
    built: Built,
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
    """Keep what the tuned network's ladder makes of the pictures `which`, so that `extract` finds it.

    built: the tuned network. cut: the lowest stage that was tuned. before: features of the network as it was. maps: of
    the training pictures, view 0 the plain one. which: (n,) places in `before` of those to be kept, −1 for the others,
    in the order of the maps. trunk: the tuned one. Rows are those of the whole network but for the rounding of maps to
    float16. Raises GraftError when the store cannot be written.
    """
    ladder = Ladder(built.network, cut).eval()
    below = slice(0, sum(trunk.widths[: trunk.stages.index(cut)]))
    positions = np.flatnonzero(which >= 0)

    def parts() -> Iterator[tuple[list[bytes], NDArray[np.float32], NDArray[np.void]]]:
        for start in range(0, len(positions), _AT_ONCE * _KEPT_AT_ONCE):
            some = positions[start : start + _AT_ONCE * _KEPT_AT_ONCE]
            above = []
            for at in range(0, len(some), _AT_ONCE):
                with torch.inference_mode():
                    above.append(ladder(maps.plain(some[at : at + _AT_ONCE])).numpy())  # (n, Σ widths above)
                progress("running the tuned layers", start + at + len(above[-1]), len(positions))
            known = before.rows(which[some], below).read(slice(None))  # (n, Σ widths below)
            rows = np.concatenate([known, np.concatenate(above)], axis=1)
            yield [before.keys[i] for i in which[some]], rows, before.facts[which[some]]

    remember(store, preprocess, trunk_key=trunk.key, width=trunk.row_width, parts=parts())
