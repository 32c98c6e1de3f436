"""Small samples in the first epochs of a run, full-sized ones in the last.

A network whose last pooling is global takes pictures of any size. At 160² an epoch costs half of what it does at 224²,
and what it teaches is mostly the same [1]; the last epochs then see what the network will see.

[1] Touvron et al., NeurIPS 2019, §5, arXiv 1906.06423: trained on small pictures, tuned for a moment on large ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from graft.errors import UsageError
from graft.training.loop.source import Batch, Batching, Positions, Source


@dataclass(frozen=True, eq=False)
class Growing:
    """The same N samples in two sizes: a `Source`.

    small, full: alike in labels and numbers. until: epochs on the small ones. Raises UsageError where they differ.
    """

    small: Source
    full: Source
    until: int

    def __post_init__(self) -> None:
        for name in ("labels", "ids"):
            if not np.array_equal(getattr(self.small, name), getattr(self.full, name)):
                raise UsageError(f"small and full samples must be the same, and their {name} differ; give one order")

    def __len__(self) -> int:
        return len(self.full)

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,)."""
        return self.full.labels

    @property
    def ids(self) -> NDArray[np.int64]:
        """(N,)."""
        return self.full.ids

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a full one."""
        return self.full.shape

    def take(self, positions: Positions) -> Growing:
        """The samples at `positions` (n,), in that order; they keep their numbers."""
        return replace(self, small=self.small.take(positions), full=self.full.take(positions))

    def batch(self, positions: Positions, *, batching: Batching, epoch: int) -> Batch:
        """Of the small ones in the epochs before `until`, of the full ones from then on."""
        source = self.small if epoch < self.until else self.full
        return source.batch(positions, batching=batching, epoch=epoch)

    def identity(self) -> bytes:
        """Of both, and when one follows the other."""
        return b"%d" % self.until + self.small.identity() + self.full.identity()
