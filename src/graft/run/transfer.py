"""What learning on a pretrained network goes by: its data set, its features, and parts for cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graft.features.rows import Rows
from graft.features.trunk import Trunk
from graft.heads.head import Head, probabilities
from graft.run.prepare import Dataset, Pretrained, too_small
from graft.run.workplace import Workplace
from graft.training.recipe.settings import Recipe

FOLDS: Final = 5
VALIDATION_PARTS: Final = 10  # one in so many training pictures is kept back, where no split came with them


@dataclass(frozen=True, eq=False)
class Transfer:
    """Pictures that went through a network, frozen or tuned, and what is to be learnt from its features.

    trunk: the network as it is now. read: what it was when the pictures were read. fold: (n,) for the training
    pictures, which part of the cross-validation holds each out, −1 where none does.
    """

    dataset: Dataset
    read: Pretrained
    trunk: Trunk
    fold: NDArray[np.int64]
    recipe: Recipe
    workplace: Workplace

    def rows(self, which: NDArray[np.int64], reads: Sequence[str]) -> Rows:
        """The features of some pictures that a head reads."""
        return self.dataset.features.rows(which, tuple(self.trunk.columns(name) for name in reads))

    def probabilities(self, which: NDArray[np.int64], head: Head) -> NDArray[np.float32]:
        """(n, K): what a head says of some pictures."""
        return probabilities(self.rows(which, head.reads), head)


def transfer_of(dataset: Dataset, read: Pretrained, recipe: Recipe, workplace: Workplace) -> Transfer:
    """The same with parts for cross-validation, and pictures for validation where fine-tuning was asked for.

    Raises BadFolder where too few pictures are left to hold some back.
    """
    with workplace.clock.step("audit and split"):
        if recipe.strategy == "finetune":
            dataset = with_validation(dataset, recipe.seed)
        fold = dataset.folds(FOLDS, recipe.seed)
    if fold.max(initial=-1) < 1:
        raise too_small(dataset)
    return Transfer(dataset, read, read.trunk, fold, recipe, workplace)


def with_validation(dataset: Dataset, seed: int) -> Dataset:
    """The same with a validation part: the one that came with the pictures, else some of the training pictures."""
    if len(dataset.indices("val")):
        return dataset
    return dataset.with_validation(dataset.folds(VALIDATION_PARTS, seed))
