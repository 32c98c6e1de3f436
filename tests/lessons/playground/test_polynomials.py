"""Fits of polynomials against numpy's own, and the lectures' point about them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.polynomial import Polynomial

from graft.lessons.playground.points import noisy_parabola
from graft.lessons.playground.polynomials import fit_polynomial

TRAIN, TEST = noisy_parabola(20, noise=0.6, seed=0), noisy_parabola(200, noise=0.6, seed=1)


@pytest.mark.parametrize("degree", [0, 1, 2, 7, 15])
def test_fits_are_those_of_numpy(degree: int) -> None:
    ours, theirs = fit_polynomial(TRAIN, TEST, degree=degree), Polynomial.fit(*TRAIN, degree)
    np.testing.assert_allclose(ours(TEST[0]), theirs(TEST[0]), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(ours.coefficients, theirs.coef, rtol=1e-5, atol=1e-6)
    assert ours.train_error == pytest.approx(np.mean((theirs(TRAIN[0]) - TRAIN[1]) ** 2))
    assert ours.test_error == pytest.approx(np.mean((theirs(TEST[0]) - TEST[1]) ** 2))


def test_without_noise_degree_two_finds_the_parabola() -> None:
    exact = noisy_parabola(9, noise=0, seed=0)
    fitted = fit_polynomial(exact, exact, degree=2)
    assert (fitted.centre, fitted.radius) == (0, 2)
    np.testing.assert_allclose(fitted.coefficients, [0, 2, 4], atol=1e-12)  # x = 2u: x² + x = 4u² + 2u
    assert fitted.test_error == pytest.approx(0, abs=1e-24)


def test_degree_fifteen_is_better_in_training_and_worse_in_test() -> None:
    low, high = (fit_polynomial(TRAIN, TEST, degree=degree) for degree in (2, 15))
    assert high.train_error < 0.5 * low.train_error
    assert high.test_error > 2 * low.test_error
    assert 0.6**2 * 0.7 < low.test_error < 0.6**2 * 1.3  # about the noise's own variance


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="degree 15 needs more than 15 samples, got 15"):
        fit_polynomial(noisy_parabola(15, noise=0.1, seed=0), TEST, degree=15)
