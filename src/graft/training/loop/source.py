"""What the loop trains on: anything that has labels and gives batches. Pictures are one such source, kept maps another.

A batch is a function of (seed, epoch, the samples in it), whoever makes it and when.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from graft.data.augmentation.augment import Augmentation
    from graft.data.augmentation.mixing import Kind
    from graft.training.recipe.normalize import Normalization

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """x: (n, C, H, W) float32, as the network takes it. target: (n,) int64 classes, or (n, K) shares of them."""

    x: Tensor
    target: Tensor


@dataclass(frozen=True)
class Batching:
    """How samples become batches.

    normalization: of pictures, or None where the source gives what the network takes. classes: K. seed: what
    augmentation and mixing are drawn from. policy: () for evaluation; a source that is not pictures reads `flip` alone.
    mixing: mixup or cutmix with its alpha, or None.
    """

    normalization: Normalization | None
    classes: int
    seed: int
    policy: tuple[Augmentation, ...] = ()
    mixing: tuple[Kind, float] | None = None
    channels_last: bool = True

    @property
    def flip(self) -> bool:
        """Whether the policy flips samples at random."""
        return any(each.name == "flip" for each in self.policy)

    def plain(self) -> Batching:
        """The same without augmentation and mixing, for evaluation."""
        return replace(self, policy=(), mixing=None)


class Source(Protocol):
    """N samples of one shape with their classes."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,), the class of each sample, 0 … K − 1."""

    @property
    def ids(self) -> NDArray[np.int64]:
        """(N,), the number of each sample in the whole set, which randomness is drawn from."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample, in the source's own order of axes."""

    def __len__(self) -> int:
        """N."""

    def take(self, positions: Positions) -> Source:
        """The samples at `positions` (n,), in that order; they keep their numbers."""

    def batch(self, positions: Positions, *, batching: Batching, epoch: int) -> Batch:
        """The samples at `positions` (n,) as the network takes them; several threads may ask at once."""

    def identity(self) -> bytes:
        """What tells these samples from others, such as their shape, labels and numbers: a resumed run compares it."""
