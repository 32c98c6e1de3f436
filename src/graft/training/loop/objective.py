"""What a run minimises, and what it counts beside: the loop reads no more of its task than this."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

from graft.training.loop.history import Score
from graft.training.loop.source import Source


class Objective(Protocol):
    """A loss, and named values that a person reads beside it.

    Outputs are what the network gives for a batch of n samples, target what their source gives: of any form.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """Of the values, in the order of `counts`."""
        ...

    @property
    def classes(self) -> int | None:
        """How many classes are told apart; None where the task has none. Batches that mix samples need it."""
        ...

    def losses(self, outputs: Any, target: Tensor) -> Tensor:
        """(n,) float32: what training minimises the mean of."""
        ...

    def plain(self, outputs: Any, target: Tensor) -> Tensor:
        """(n,) float32: the loss by which validation is read, neither smoothed nor weighed."""
        ...

    def counts(self, outputs: Any, target: Tensor) -> Tensor:
        """(len(names),) float64: the sum of each value over the batch."""
        ...

    def rank(self, score: Score) -> tuple[float, ...]:
        """What an epoch is better by: of two scores of validation the greater is kept."""
        ...


MakeObjective = Callable[[Source, Source | None, Any], Objective]
"""From the samples of training and validation, and what the network gives for one sample, to the objective.

Raises UsageError where they do not fit each other."""
