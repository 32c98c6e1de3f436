"""A feature matrix that is read in slices, from memory or streamed from the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from graft.runtime.stream import ordered_map

Result = TypeVar("Result")
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Read = Callable[[slice | NDArray[np.int64]], Floats]  # rows of the feature matrix → (k, D) float32

_CHUNK_ROWS: Final = 512  # rows that one thread takes at a time
_CHUNK_BYTES: Final = 8 * 1024**2  # of features or of scores in such a chunk, at the most


@dataclass(frozen=True)
class Rows:
    """A feature matrix (count, width) that is read in slices; `read` may keep it in memory or stream it from disk."""

    count: int
    width: int
    read: Read

    def each(
        self, work: Callable[[slice, Floats], Result], columns: int, *, pool: ThreadPoolExecutor | None = None
    ) -> Iterator[Result]:
        """`work` on every slice and its rows, in threads, the results in order.

        columns: of what `work` makes of a row, so that slices stay small. How the rows are cut depends on their number
        and width alone: sums over the results have the same bits on any number of cores.
        """
        step = min(_CHUNK_ROWS, max(64, _CHUNK_BYTES // (4 * max(self.width, columns))))
        parts = [slice(start, min(start + step, self.count)) for start in range(0, self.count, step)]
        return ordered_map(lambda part: work(part, self.read(part)), parts, ahead=1, pool=pool)
