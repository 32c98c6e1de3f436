"""Logistic regression against scikit-learn's, which solves the same problem with another method in float64."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from graft.features import rows as feature_rows
from graft.features.rows import Floats, Rows
from graft.heads import logistic
from graft.heads.logistic import Fits, Moments, fit, moments, scores

Labels = NDArray[np.int64]


def in_memory(x: Floats) -> Rows:
    return Rows(len(x), x.shape[1], lambda part: x[part])


def problem(count: int, width: int, classes: int, seed: int = 0) -> tuple[Floats, Labels]:
    """Classes that overlap, in features of very different mean and scale that hang together."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, count)
    labels[:classes] = np.arange(classes)
    centres = draw.normal(size=(classes, width))
    x = centres[labels] + draw.normal(size=(count, width)) @ (np.eye(width) + 0.4 * draw.normal(size=(width, width)))
    return (x * draw.uniform(0.1, 30, width) + draw.uniform(-50, 50, width)).astype(np.float32), labels


def sklearn_fit(x: Floats, labels: Labels, strength: float, weight: Floats | None = None) -> LogisticRegression:
    """scikit-learn on the same standardised features, to a gradient far below ours."""
    standard = StandardScaler().fit(x.astype(np.float64)).transform(x.astype(np.float64))
    return LogisticRegression(C=1 / strength, tol=1e-9, max_iter=10_000).fit(standard, labels, sample_weight=weight)


def objective(x: Floats, labels: Labels, weight: Floats, found: Fits, strength: float) -> float:
    """Σ wᵢ·cross-entropyᵢ + strength/2·‖W‖², in float64 and written out anew."""
    standard = StandardScaler().fit(x.astype(np.float64)).transform(x.astype(np.float64))
    logits = standard @ found.weights[0].astype(np.float64) + found.bias[0]
    entropy = -log_softmax(logits, axis=1)[np.arange(len(labels)), labels]
    return float((weight * entropy).sum() + strength / 2 * (found.weights[0].astype(np.float64) ** 2).sum())


@pytest.mark.parametrize("count", [500, 7], ids=["more rows than columns", "fewer"])
def test_moments_equal_the_standard_scaler_and_diagonalise_the_correlation(count: int) -> None:
    x, _ = problem(count, 12, 3)
    found = moments(in_memory(x))
    scaler = StandardScaler().fit(x.astype(np.float64))
    np.testing.assert_allclose(found.mean, scaler.mean_, rtol=1e-5)
    np.testing.assert_allclose(found.scale, scaler.scale_, rtol=1e-5)
    correlation = np.corrcoef(x.astype(np.float64).T)
    np.testing.assert_allclose(found.basis @ np.diag(found.spread) @ found.basis.T, correlation, atol=1e-5)
    np.testing.assert_allclose(found.basis.T @ found.basis, np.eye(min(count - 1, 12)), atol=1e-5)


def test_moments_of_features_far_from_zero_do_not_cancel() -> None:
    x = (np.random.default_rng(0).normal(size=(2000, 3)) * 0.01 + 100).astype(np.float32)
    np.testing.assert_allclose(moments(in_memory(x)).scale, x.astype(np.float64).std(axis=0), rtol=1e-3)


def test_moments_of_a_constant_feature_leave_it_alone() -> None:
    x = np.array([[1, 7.3, 0], [2, 7.3, 0], [3, 7.3, 0]], np.float32)
    found = moments(in_memory(x))
    np.testing.assert_allclose(found.mean, [2, 7.3, 0], rtol=1e-6)
    np.testing.assert_allclose(found.scale, [np.sqrt(2 / 3), 1, 1], rtol=1e-6)


@pytest.mark.parametrize(
    ("count", "width", "classes", "strength"),
    [(400, 10, 3, 1.0), (400, 10, 3, 100.0), (300, 8, 2, 3.0), (60, 150, 4, 10.0), (60, 150, 2, 30.0), (30, 1, 3, 1.0)],
)
def test_fit_finds_scikit_learns_coefficients(count: int, width: int, classes: int, strength: float) -> None:
    x, labels = problem(count, width, classes)
    rows, even = in_memory(x), np.ones((1, count), np.float32)
    found = fit(
        rows, labels, even, moments(rows), num_classes=classes, strength=strength, tolerance=1e-4, max_iterations=1000
    )
    theirs = sklearn_fit(x, labels, strength / 2 if classes == 2 else strength)
    if classes == 2:  # scikit-learn has one column for two classes: the difference of ours, at half the penalty
        ours, bias = (found.weights[0][:, 1] - found.weights[0][:, 0])[None], found.bias[0][1:] - found.bias[0][:1]
        np.testing.assert_allclose(found.weights[0][:, 0], -found.weights[0][:, 1], atol=1e-3)
    else:
        ours, bias = found.weights[0].T, found.bias[0] - found.bias[0].mean()
    scale = np.abs(theirs.coef_).max()
    np.testing.assert_allclose(ours, theirs.coef_, atol=1e-3 * max(scale, 1))
    np.testing.assert_allclose(bias, theirs.intercept_ - (0 if classes == 2 else theirs.intercept_.mean()), atol=2e-3)


def test_fit_reaches_scikit_learns_objective() -> None:
    x, labels = problem(300, 20, 5)
    rows, even = in_memory(x), np.ones((1, 300), np.float32)
    found = fit(rows, labels, even, moments(rows), num_classes=5, strength=3.0)
    theirs = sklearn_fit(x, labels, 3.0)
    best = Fits(theirs.coef_.T[None], theirs.intercept_[None])
    least = objective(x, labels, even[0], best, 3.0)
    assert least <= objective(x, labels, even[0], found, 3.0) < least * 1.0005


@pytest.mark.parametrize("seed", range(3))
def test_cross_entropy_and_its_slope_by_finite_differences(seed: int) -> None:
    draw = np.random.default_rng(seed)
    logits = draw.normal(size=(6, 2, 4)) * 3  # (n, B, K)
    labels, weight = draw.integers(0, 4, 6), draw.uniform(0, 2, (6, 2))
    weight[0, 1] = 0

    def loss(at: NDArray[np.float64]) -> NDArray[np.float64]:
        own = log_softmax(at, axis=2)[np.arange(6), :, labels]  # (n, B)
        return np.asarray(-(weight * own).sum(axis=0))

    slope = logits.astype(np.float32)
    given = logistic._cross_entropy_in_place(slope, labels, weight.astype(np.float32))
    np.testing.assert_allclose(given, loss(logits), rtol=1e-5)
    step = 1e-6
    for i, b, k in np.ndindex(*logits.shape):
        there = logits.copy()
        there[i, b, k] += step
        numeric = (loss(there) - loss(logits))[b] / step
        assert abs(slope[i, b, k] - numeric) < 2e-5


def test_folds_side_by_side_equal_each_fit_alone() -> None:
    x, labels = problem(240, 15, 3)
    rows, shape = in_memory(x), moments(in_memory(x))
    fold = np.arange(240) % 4
    weight = np.stack([*(fold != f for f in range(4)), np.ones(240)]).astype(np.float32)
    settings = {"num_classes": 3, "strength": 10.0, "tolerance": 1e-4}
    together = fit(rows, labels, weight, shape, **settings)
    for one in range(5):
        alone = fit(rows, labels, weight[one : one + 1], shape, **settings)
        np.testing.assert_allclose(together.weights[one], alone.weights[0], atol=5e-4)
        np.testing.assert_allclose(together.bias[one], alone.bias[0], atol=5e-4)
    assert np.abs(together.weights[0] - together.weights[1]).max() > 0.01


def test_a_row_of_weight_zero_has_no_say() -> None:
    x, labels = problem(100, 6, 3)
    rows, shape = in_memory(x), moments(in_memory(x))
    weight = np.ones((1, 100), np.float32)
    weight[0, 40:60] = 0
    turned = labels.copy()
    turned[40:60] = (turned[40:60] + 1) % 3
    one = fit(rows, labels, weight, shape, num_classes=3, strength=1.0)
    other = fit(rows, turned, weight, shape, num_classes=3, strength=1.0)
    assert np.array_equal(one.weights, other.weights)


def test_sample_weights_equal_scikit_learns() -> None:
    x, labels = problem(300, 9, 3)
    rows = in_memory(x)
    weight = np.random.default_rng(1).uniform(0.1, 4, 300).astype(np.float32)
    found = fit(rows, labels, weight[None], moments(rows), num_classes=3, strength=10.0, tolerance=1e-4)
    theirs = sklearn_fit(x, labels, 10.0, weight)
    np.testing.assert_allclose(found.weights[0].T, theirs.coef_, atol=1e-3)


def test_balanced_class_weights_equal_scikit_learns() -> None:
    x, labels = problem(300, 9, 3)
    keep = (labels != 2) | (np.arange(300) % 6 == 0)
    x, labels = x[keep], labels[keep]
    counts = np.bincount(labels)
    weight = (len(labels) / (3 * counts))[labels].astype(np.float32)
    rows = in_memory(x)
    found = fit(rows, labels, weight[None], moments(rows), num_classes=3, strength=10.0, tolerance=1e-4)
    standard = StandardScaler().fit_transform(x.astype(np.float64))
    theirs = LogisticRegression(C=0.1, tol=1e-9, max_iter=10_000, class_weight="balanced").fit(standard, labels)
    np.testing.assert_allclose(found.weights[0].T, theirs.coef_, atol=1e-3)


def test_streamed_rows_give_what_rows_in_memory_give(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = problem(500, 12, 3)
    even = np.ones((1, 500), np.float32)
    whole = moments(in_memory(x))
    fitted = fit(in_memory(x), labels, even, whole, num_classes=3, strength=10.0, tolerance=1e-4)
    logits = scores(in_memory(x), fitted, whole, np.zeros(500, np.int64))
    read: list[slice] = []

    def reading(part: slice) -> Floats:
        read.append(part)
        return x[part]

    monkeypatch.setattr(feature_rows, "_CHUNK_BYTES", 1)
    rows = Rows(500, 12, reading)
    streamed = moments(rows)
    np.testing.assert_allclose(streamed.mean, whole.mean, rtol=1e-5)
    np.testing.assert_allclose(streamed.scale, whole.scale, rtol=1e-4)
    again = fit(rows, labels, even, streamed, num_classes=3, strength=10.0, tolerance=1e-4)
    np.testing.assert_allclose(again.weights, fitted.weights, atol=1e-3)
    np.testing.assert_allclose(scores(rows, again, streamed, np.zeros(500, np.int64)), logits, atol=5e-3)
    assert max(part.stop - part.start for part in read[1:]) == 64


def test_scores_come_from_the_fit_of_each_rows_own_fold() -> None:
    x = np.array([[1, 10], [2, 20], [4, 60]], np.float32)
    shape = Moments(
        np.array([1, 20], np.float32), np.array([2, 10], np.float32), np.eye(2, dtype=np.float32), np.ones(2)
    )
    weights = np.array([[[1, 0], [0, 1]], [[2, 1], [1, -1]]], np.float32)  # (B, D, K)
    fits = Fits(weights, np.array([[0, 5], [1, 0]], np.float32))
    # standardised rows: (0, −1), (0.5, 0), (1.5, 4)
    expected = [[0, 4], [2, 0.5], [8, -2.5]]
    np.testing.assert_allclose(scores(in_memory(x), fits, shape, np.array([0, 1, 1])), expected, atol=1e-5)


def test_starting_at_the_solution_stays_there() -> None:
    x, labels = problem(200, 6, 3)
    rows, shape = in_memory(x), moments(in_memory(x))
    even = np.ones((1, 200), np.float32)
    found = fit(rows, labels, even, shape, num_classes=3, strength=1.0, tolerance=1e-3)
    again = fit(rows, labels, even, shape, num_classes=3, strength=1.0, start=found, tolerance=1e-2)
    assert np.array_equal(again.weights, found.weights)


def test_classes_that_can_be_told_apart_exactly_stay_finite() -> None:
    x = np.repeat(np.eye(3, dtype=np.float32) * 1e3, 20, axis=0)
    labels = np.repeat(np.arange(3), 20)
    rows = in_memory(x)
    shape = moments(rows)
    found = fit(rows, labels, np.ones((1, 60), np.float32), shape, num_classes=3, strength=0.01)
    logits = scores(rows, found, shape, np.zeros(60, np.int64))
    assert np.isfinite(logits).all()
    assert (softmax(logits, axis=1)[np.arange(60), labels] > 0.99).all()
