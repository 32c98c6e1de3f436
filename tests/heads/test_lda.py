"""Shrinkage LDA against scikit-learn's, which is written for one matrix in memory and uncalibrated."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import log_loss

from graft.features.rows import Floats
from graft.heads import lda
from graft.heads.lda import SHRINKAGES, fit_lda
from heads.problems import clouds, in_memory


def theirs(x: Floats, labels: np.ndarray, shrinkage: float) -> LinearDiscriminantAnalysis:
    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(x.astype(np.float64), labels)


def scores(fitted: LinearDiscriminantAnalysis, x: Floats) -> np.ndarray:
    return np.asarray(fitted.decision_function(x.astype(np.float64)))


def assert_equal_but_for_temperature(ours: Floats, expected: np.ndarray, tolerance: float) -> None:
    """Logits (N, K) that differ by one factor, and by what softmax does not see."""
    ours, expected = (z - z.mean(axis=1, keepdims=True) for z in (ours.astype(np.float64), expected))
    factor = (ours * expected).sum() / (expected**2).sum()
    assert factor > 0
    np.testing.assert_allclose(ours, factor * expected, atol=tolerance * np.abs(ours).max())


@pytest.mark.parametrize("shrinkage", [0.02, 0.2, 0.9])
@pytest.mark.parametrize(("count", "width"), [(700, 24), (120, 300)], ids=["many", "fewer than features"])
def test_discriminants_are_scikit_learns_at_the_same_shrinkage(
    count: int, width: int, shrinkage: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lda, "SHRINKAGES", (shrinkage,))
    x, labels, fold = clouds(count, width, 4)
    unseen, _, _ = clouds(50, width, 4)  # of other shape and place
    fitted = fit_lda(in_memory(x), labels, fold, num_classes=4)
    assert fitted.head.weight.shape == (4, width)
    assert fitted.settings == f"shrinkage {shrinkage:g}"
    for some in (x, unseen):
        assert_equal_but_for_temperature(fitted.head.logits(some), scores(theirs(x, labels, shrinkage), some), 1e-3)
    held_out = np.empty((count, 4))
    for one in range(5):
        held_out[fold == one] = scores(theirs(x[fold != one], labels[fold != one], shrinkage), x[fold == one])
    assert_equal_but_for_temperature(fitted.held_out, held_out, 1e-3)


def test_shrinkage_is_the_one_with_the_least_held_out_log_loss() -> None:
    draw = np.random.default_rng(0)
    labels, fold = np.arange(150) % 3, np.arange(150) // 3 % 5
    x = (0.3 * draw.normal(size=(3, 60))[labels] + draw.normal(size=(150, 60)) * np.geomspace(0.3, 3, 60)).astype(
        np.float32
    )
    fitted = fit_lda(in_memory(x), labels, fold, num_classes=3)
    least = {}
    for shrinkage in SHRINKAGES:
        held_out = np.empty((150, 3))
        for one in range(5):
            held_out[fold == one] = scores(theirs(x[fold != one], labels[fold != one], shrinkage), x[fold == one])
        factors = np.geomspace(0.01, 2, 100)
        least[shrinkage] = min(log_loss(labels, softmax(f * held_out, axis=1)) for f in factors)
    best = min(least, key=lambda s: least[s])
    assert SHRINKAGES[0] < best < SHRINKAGES[-1]
    assert fitted.settings == f"shrinkage {best:g}"
    assert log_loss(labels, softmax(fitted.held_out, axis=1)) == pytest.approx(least[best], abs=2e-3)


def test_class_weights_are_priors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lda, "SHRINKAGES", (0.2,))
    x, labels, fold = clouds(600, 10, 3)
    keep = (labels != 2) | (np.arange(600) % 6 == 0)
    x, labels, fold = x[keep], labels[keep], fold[keep]
    counts = np.bincount(labels)
    weights = (len(labels) / (3 * counts)).astype(np.float32)
    fitted = fit_lda(in_memory(x), labels, fold, num_classes=3, class_weights=weights)
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.2, priors=np.full(3, 1 / 3)).fit(x, labels)
    assert_equal_but_for_temperature(fitted.head.logits(x), scores(model, x), 1e-3)


def test_rows_of_no_fold_are_trained_on_but_never_scored() -> None:
    x, labels, fold = clouds(300, 8, 3)
    fold = np.where(np.arange(300) < 60, -1, fold)
    fitted = fit_lda(in_memory(x), labels, fold, num_classes=3)
    assert np.isnan(fitted.held_out[:60]).all()
    assert np.isfinite(fitted.held_out[60:]).all()
    turned = labels.copy()
    turned[:60] = (turned[:60] + 1) % 3
    other = fit_lda(in_memory(x), turned, fold, num_classes=3)
    assert np.abs(other.held_out[60:] - fitted.held_out[60:]).max() > 0.05


def test_features_that_never_vary_do_no_harm_and_bits_repeat() -> None:
    x, labels, fold = clouds(300, 8, 3)
    x[:, 3] = 7
    one, other = (fit_lda(in_memory(x), labels, fold, num_classes=3) for _ in range(2))
    assert np.isfinite(one.head.weight).all()
    assert one.head.weight.tobytes() == other.head.weight.tobytes()
    assert one.held_out.tobytes() == other.held_out.tobytes()
