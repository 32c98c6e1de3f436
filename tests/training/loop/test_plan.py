"""What is decided before the first step, by numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from graft.training.loop.plan import batch_of, fingerprint, pictures_per_step, steps_within
from graft.training.recipe.normalize import Normalization, channel_statistics
from graft.training.recipe.settings import Recipe
from training.small_runs import bars


def test_steps_that_fit_in_a_budget() -> None:
    def steps(seconds: float) -> int:
        return steps_within(seconds / 0.95, seconds_per_step=1.0, seconds_per_epoch_end=2.0, steps_per_epoch=8)

    assert steps(20.001) == 16  # two epochs of 8 + 2 seconds
    assert steps(19.9) == 8 + 7  # one epoch, and 7.9 seconds of another with its own end
    assert steps(25.5) == 16 + 3
    assert steps(11.5) == 8  # 1.5 seconds are too short for an end
    assert steps(0.0) == steps(-5.0) == steps(2.5) == 1


def test_pictures_of_a_step() -> None:
    assert pictures_per_step(Recipe(strategy="scratch", batch=10, accumulate=3), 100) == 30
    assert pictures_per_step(Recipe(strategy="scratch", batch=10, optimizer="gd"), 100) == 100
    assert pictures_per_step(Recipe(strategy="scratch", batch=128, optimizer="gd"), 100) == 100


@pytest.mark.parametrize(
    ("pictures", "batch"), [(3, 3), (43, 8), (255, 8), (256, 16), (720, 32), (2048, 128), (10**6, 128)]
)
def test_a_batch_that_is_left_out_fits_the_pictures(pictures: int, batch: int) -> None:
    assert batch_of(Recipe(strategy="scratch"), pictures) == batch
    assert batch_of(Recipe(strategy="scratch", batch=5), pictures) == 5


def test_fingerprint_changes_with_labels_numbers_split_and_normalisation() -> None:
    train, val = bars(20), bars(10, seed=1)
    norm = channel_statistics(train)
    found = {
        fingerprint(train, val, norm),
        fingerprint(train, None, norm),
        fingerprint(train.take(np.arange(20)[::-1]), val, norm),
        fingerprint(bars(20, seed=2), val, norm),
        fingerprint(train, val, Normalization(norm.mean + 1, norm.std)),
    }
    assert len(found) == 5
    assert fingerprint(bars(20), bars(10, seed=1), channel_statistics(train)) in found


@pytest.mark.parametrize("seconds", [10.0, 100.0])
def test_planned_steps_take_no_longer_than_the_budget(seconds: float) -> None:
    steps = steps_within(seconds, seconds_per_step=0.03, seconds_per_epoch_end=0.7, steps_per_epoch=40)
    ends = -(-steps // 40)
    assert 0.85 * seconds < steps * 0.03 + ends * 0.7 < seconds
