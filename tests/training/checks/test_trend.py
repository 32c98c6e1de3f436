"""Moving average, noise and trend, against values worked by hand and noise that is known."""

from __future__ import annotations

import numpy as np
import pytest

from graft.training.checks.trend import moving_average, noise, trend


def test_moving_average_by_hand() -> None:
    values = np.array([1.0, 2.0, 6.0, 4.0, 7.0])
    np.testing.assert_allclose(moving_average(values, 3), [1.5, 3, 4, 17 / 3, 5.5])
    np.testing.assert_allclose(moving_average(values, 1), values)
    np.testing.assert_allclose(moving_average(values, 2), [1, 1.5, 4, 5, 5.5])  # each with the one before it


def test_moving_average_leaves_out_what_is_not_finite() -> None:
    values = np.array([1.0, np.nan, 3.0, np.inf, np.inf, np.inf])
    np.testing.assert_allclose(moving_average(values, 3), [1, 2, 3, 3, np.nan, np.nan])


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_found_under_a_falling_curve(seed: int) -> None:
    rng = np.random.default_rng(seed)
    curve = 2 * np.exp(-np.linspace(0, 4, 1000))
    assert noise(curve + 0.05 * rng.standard_normal(1000)) == pytest.approx(0.05, rel=0.1)
    assert noise(curve) < 0.001
    curve[::50] += 10  # single batches far off
    assert noise(curve + 0.05 * rng.standard_normal(1000)) == pytest.approx(0.05, rel=0.25)


def test_noise_of_two_values_is_unknown() -> None:
    assert noise(np.array([1.0, 5.0])) == 0


def test_trend_of_a_line_with_one_value_far_off() -> None:
    x = np.arange(10.0)
    y = 3 - 0.5 * x
    y[4] = 1000
    found = trend(x, y)
    assert found.slope == pytest.approx(-0.5)
    assert found.falls


def test_trend_of_noise_alone_seldom_falls() -> None:
    rng = np.random.default_rng(0)
    x = np.arange(40.0)
    falls = sum(trend(x, rng.standard_normal(40)).falls for _ in range(400))
    assert falls <= 20, "2.5 % of 400 are 10"


def test_trend_of_many_points_looks_at_some_of_them_from_first_to_last() -> None:
    x = np.linspace(0, 1, 5000)
    assert trend(x, 2 * x).slope == pytest.approx(2)
