"""The RBF machine against scikit-learn's kernel ridge regression, its approximation against Nyström's map."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import normalize

from graft.evaluate.calibration import log_loss
from graft.features.rows import Floats
from graft.heads import rbf
from graft.heads.rbf import PENALTIES, choose_landmarks, fit_rbf
from heads.problems import in_memory

PENALTY = 1e-3


def rings(count: int, *, seed: int = 0) -> tuple[Floats, np.ndarray, np.ndarray]:
    """Directions whose class is the sign of a product, with a third class around one axis; labels; folds 0–4."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(count, 4))
    labels = np.where(normalize(x)[:, 3] > 0.6, 2, (x[:, 0] * x[:, 1] > 0).astype(int))
    return (x * draw.uniform(1, 9, (count, 1))).astype(np.float32), labels, np.arange(count) % 5


@pytest.fixture
def one_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rbf, "GAMMAS", (1.0,))
    monkeypatch.setattr(rbf, "_ORDER", (0,))
    monkeypatch.setattr(rbf, "PENALTIES", (PENALTY,))
    monkeypatch.setattr(rbf, "_USUAL", 0)


def kernel_ridge(
    x: Floats, labels: np.ndarray, gamma: float, at: Floats, weight: np.ndarray | None = None
) -> np.ndarray:
    """Scores (N, K) of rows `at` by scikit-learn's exact machine on rows of length one."""
    w = np.ones(len(x)) if weight is None else weight
    share = np.bincount(labels, weights=w) / w.sum()
    model = KernelRidge(alpha=PENALTY * w.sum(), kernel="rbf", gamma=gamma)
    model.fit(normalize(x.astype(np.float64)), np.eye(len(share))[labels] - share, sample_weight=weight)
    return np.asarray(model.predict(normalize(at.astype(np.float64))) + share)


def assert_equal_but_for_temperature(ours: Floats, expected: np.ndarray) -> None:
    factor = (ours * expected).sum() / (expected**2).sum()
    assert factor > 0
    np.testing.assert_allclose(ours, factor * expected, atol=1e-4 * np.abs(ours).max())


@pytest.mark.usefixtures("one_setting")
def test_with_every_row_a_landmark_it_is_the_exact_machine() -> None:
    x, labels, fold = rings(300)
    fitted = fit_rbf(in_memory(x), labels, fold, num_classes=3)
    assert fitted.head.transform is not None
    gamma = fitted.head.transform.gamma
    np.testing.assert_allclose(fitted.head.transform.landmarks, normalize(x), atol=1e-6)
    fresh, _, _ = rings(100, seed=1)
    assert_equal_but_for_temperature(fitted.head.logits(fresh), kernel_ridge(x, labels, gamma, fresh))
    held_out = np.empty((300, 3))
    for one in range(5):
        held_out[fold == one] = kernel_ridge(x[fold != one], labels[fold != one], gamma, x[fold == one])
    assert_equal_but_for_temperature(fitted.held_out, held_out)


@pytest.mark.usefixtures("one_setting")
def test_class_weights_are_scikit_learns_sample_weights() -> None:
    x, labels, fold = rings(300)
    weights = np.array([1, 2, 5], np.float32)
    fitted = fit_rbf(in_memory(x), labels, fold, num_classes=3, class_weights=weights)
    assert fitted.head.transform is not None
    expected = kernel_ridge(x, labels, fitted.head.transform.gamma, x, weights[labels].astype(np.float64))
    assert_equal_but_for_temperature(fitted.head.logits(x), expected)


@pytest.mark.usefixtures("one_setting")
def test_with_fewer_landmarks_it_is_ridge_regression_on_nystroems_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rbf, "LANDMARKS", 40)
    monkeypatch.setattr(rbf, "_SEARCH_ROWS", 150)
    x, labels, fold = rings(300)
    fitted = fit_rbf(in_memory(x), labels, fold, num_classes=3)
    kernel = fitted.head.transform
    assert kernel is not None
    landmarks = kernel.landmarks.astype(np.float64)
    assert landmarks.shape == (40, 4)
    values, vectors = np.linalg.eigh(rbf_kernel(landmarks, gamma=kernel.gamma))
    root = vectors / np.sqrt(values) @ vectors.T  # (M, M), K_mm to the power −½: the map of Williams and Seeger
    features = rbf_kernel(normalize(x.astype(np.float64)), landmarks, gamma=kernel.gamma) @ root
    share = np.bincount(labels) / 300
    model = Ridge(alpha=PENALTY * 300, fit_intercept=False).fit(features, np.eye(3)[labels] - share)
    assert_equal_but_for_temperature(fitted.head.logits(x), model.predict(features) + share)
    right = (fitted.held_out.argmax(axis=1) == labels).mean()
    assert right > 0.85  # linear machines: about 0.5


def test_settings_have_less_log_loss_than_their_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels, fold = rings(300)
    chosen = fit_rbf(in_memory(x), labels, fold, num_classes=3)
    least = log_loss(chosen.held_out, labels)
    place = rbf.PENALTIES.index(float(chosen.settings.rsplit(" ", 1)[1]))
    monkeypatch.setattr(rbf, "_USUAL", 0)
    for other in {max(place - 1, 0), min(place + 1, len(rbf.PENALTIES) - 1)} - {place}:
        monkeypatch.setattr(rbf, "PENALTIES", (PENALTIES[other],))
        assert log_loss(fit_rbf(in_memory(x), labels, fold, num_classes=3).held_out, labels) > least - 1e-6


def test_landmarks_of_many_rows_are_the_centres_of_what_lies_together() -> None:
    draw = np.random.default_rng(0)
    axes = np.eye(8)[:6]
    group = np.arange(600) % 6
    x = (axes[group] + 0.05 * draw.normal(size=(600, 8))).astype(np.float32) * draw.uniform(1, 9, (600, 1))
    landmarks = choose_landmarks(in_memory(x.astype(np.float32)), group, 6)
    np.testing.assert_allclose(np.linalg.norm(landmarks, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(landmarks @ axes.T, np.eye(6), atol=0.1)  # a single row: up to 0.2


def test_bits_repeat_and_rows_of_no_fold_are_never_scored() -> None:
    x, labels, fold = rings(200)
    x[7] = x[8]  # landmarks that are equal
    x[9] = 0
    fold[:20] = -1
    one, other = (fit_rbf(in_memory(x), labels, fold, num_classes=3) for _ in range(2))
    assert one.head.weight.tobytes() == other.head.weight.tobytes()
    assert one.held_out.tobytes() == other.held_out.tobytes()
    assert np.isnan(one.held_out[:20]).all()
    assert np.isfinite(one.held_out[20:]).all()
    assert np.isfinite(one.head.weight).all()
