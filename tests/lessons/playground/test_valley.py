"""The optimisers' first steps in the valley, by hand from their papers' formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graft.lessons.playground.valley import START, WALKS, height, walk_down

# From (−8, 1.8) the gradient is (−0.4, 3.6); Adagrad and Adam first step by the rate along each axis, RMSProp by the
# rate over √0.1, and Nesterov's look ahead makes 1 + 0.9 of the gradient.
FIRST = {
    "sgd": (-8 + 0.9 * 0.4, 1.8 - 0.9 * 3.6),
    "momentum": (-8 + 0.1 * 0.4, 1.8 - 0.1 * 3.6),
    "nesterov": (-8 + 0.1 * 1.9 * 0.4, 1.8 - 0.1 * 1.9 * 3.6),
    "adagrad": (-7, 0.8),
    "rmsprop": (-8 + 0.2 / math.sqrt(0.1), 1.8 - 0.2 / math.sqrt(0.1)),
    "adam": (-8 + 0.4, 1.8 - 0.4),
}


def test_height() -> None:
    assert height(np.array(START)) == pytest.approx(0.5 * (64 / 20 + 2 * 3.24))
    assert height(np.zeros((3, 2))).tolist() == [0, 0, 0]


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.name)
def test_first_steps(walk: object) -> None:
    path = walk_down(walk, steps=1)  # type: ignore[arg-type]
    assert path.points[0].tolist() == list(START)
    assert path.points[1].tolist() == pytest.approx(FIRST[path.walk.name], abs=1e-6)


def test_sgd_shrinks_each_axis_by_its_own_factor() -> None:
    points = walk_down(WALKS[0]).points
    steps = np.arange(len(points))
    np.testing.assert_allclose(points[:, 0], -8 * (1 - 0.9 / 20) ** steps, rtol=1e-9)
    np.testing.assert_allclose(points[:, 1], 1.8 * (1 - 0.9 * 2) ** steps, rtol=1e-9)


def test_momentum_keeps_nine_tenths_of_its_velocity() -> None:
    """v₂ = 0.9 (−0.4, 3.6) + (−0.398, 2.88) = (−0.758, 6.12)."""
    assert walk_down(WALKS[1], steps=2).points[2].tolist() == pytest.approx([-7.96 + 0.0758, 1.44 - 0.612])


def test_all_come_down() -> None:
    for walk in WALKS:
        path = walk_down(walk)
        assert path.heights[-1] < 0.01 < path.heights[0]
        np.testing.assert_array_equal(path.heights, height(path.points))
