"""Overfitting at its plainest: polynomials of two degrees fitted to noisy samples of x² + x."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Fitted:
    """A polynomial and how it fares. coefficients: (degree + 1,), of powers of (x − centre) / radius, from 0 up.

    train_error, test_error: mean squared errors, on the samples it was fitted to and on others.
    """

    degree: int
    centre: float
    radius: float
    coefficients: NDArray[np.float64]
    train_error: float
    test_error: float

    def __call__(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,) x → (N,) values."""
        powers = _powers(x, self.degree, self.centre, self.radius)  # (N, degree + 1)
        values: NDArray[np.float64] = powers @ self.coefficients
        return values


def fit_polynomial(
    train: tuple[NDArray[np.float64], NDArray[np.float64]],
    test: tuple[NDArray[np.float64], NDArray[np.float64]],
    *,
    degree: int,
) -> Fitted:
    """The polynomial of least squares on `train`, (N,) x and (N,) y, with its error on `test`.

    Powers are taken of x shifted and scaled to −1…1: those of the bare x would lose digits at high degrees.
    Raises ValueError for fewer samples than coefficients.
    """
    (x, y), (x_test, y_test) = train, test
    if len(x) <= degree:
        raise ValueError(f"a polynomial of degree {degree} needs more than {degree} samples, got {len(x)}")
    centre, radius = float(x.min() + x.max()) / 2, float(x.max() - x.min()) / 2
    solution = np.linalg.lstsq(_powers(x, degree, centre, radius), y, rcond=None)[0]
    coefficients = np.asarray(solution, np.float64)
    errors = [
        float(np.mean((_powers(inputs, degree, centre, radius) @ coefficients - targets) ** 2))
        for inputs, targets in ((x, y), (x_test, y_test))
    ]
    return Fitted(degree, centre, radius, coefficients, *errors)


def _powers(x: NDArray[np.float64], degree: int, centre: float, radius: float) -> NDArray[np.float64]:
    """(N, degree + 1): the Vandermonde matrix of the scaled x."""
    return np.vander((x - centre) / radius, degree + 1, increasing=True)
