"""Samples that grow: which size an epoch takes, and that nothing else tells the two apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graft.errors import UsageError
from graft.finetune.growing import Growing
from graft.training.loop.pictures import Pictures, from_array
from graft.training.loop.source import Batching, Source

COUNT = 12
RECIPE = Batching(None, 3, seed=1)


def pictures(side: int, *, labels: int = 3) -> Pictures:
    pixels = np.random.default_rng(side).integers(0, 256, (COUNT, side, side, 3), np.uint8)
    return from_array(pixels, np.arange(COUNT) % labels)


SMALL, FULL = pictures(8), pictures(16)


def test_the_first_epochs_are_small_and_the_others_full() -> None:
    growing: Source = Growing(SMALL, FULL, until=2)
    positions = np.array([3, 0, 11])
    for epoch, expected in ((0, SMALL), (1, SMALL), (2, FULL), (7, FULL)):
        found = growing.batch(positions, batching=RECIPE, epoch=epoch)
        alone = expected.batch(positions, batching=RECIPE, epoch=epoch)
        assert torch.equal(found.x, alone.x)
        assert torch.equal(found.target, alone.target)


def test_a_part_is_a_part_of_both_sizes() -> None:
    part = Growing(SMALL, FULL, until=1).take(np.array([4, 2, 9]))
    assert (len(part), part.shape, part.ids.tolist(), part.labels.tolist()) == (3, (16, 16, 3), [4, 2, 9], [1, 2, 0])
    for epoch, expected in ((0, SMALL), (1, FULL)):
        x = part.batch(np.array([2, 0]), batching=RECIPE, epoch=epoch).x
        assert torch.equal(x, expected.batch(np.array([9, 4]), batching=RECIPE, epoch=epoch).x)


def test_the_identity_changes_with_either_size_and_with_the_epoch_between() -> None:
    growing = Growing(SMALL, FULL, until=1)
    others = (
        Growing(SMALL, FULL, until=2),
        Growing(pictures(12), FULL, until=1),
        Growing(SMALL, pictures(20), until=1),
    )
    assert len({each.identity() for each in (growing, *others)}) == 4
    assert growing.identity() == Growing(pictures(8), pictures(16), until=1).identity()


def test_other_samples_are_refused() -> None:
    with pytest.raises(UsageError, match="must be the same, and their labels differ"):
        Growing(pictures(8, labels=2), FULL, until=1)
    with pytest.raises(UsageError, match="must be the same, and their ids differ"):
        Growing(SMALL.take((np.arange(COUNT) + 3) % COUNT), FULL, until=1)
