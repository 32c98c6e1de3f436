"""What every head shares: its features, its temperature, its tensors."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import normalize

from graft.evaluate.calibration import inverse_temperature, log_loss, softmax
from graft.features.rows import Floats, Rows
from graft.heads.head import Head, probabilities
from graft.heads.kernel import Kernel, unit


def noisy_scores(count: int, classes: int, sharpness: float) -> tuple[Floats, np.ndarray]:
    """Scores whose softmax is calibrated at 1 / sharpness, and labels drawn accordingly."""
    draw = np.random.default_rng(0)
    z = draw.normal(size=(count, classes))
    labels = np.array([draw.choice(classes, p=p) for p in np.exp(log_softmax(z, axis=1))])
    return (sharpness * z).astype(np.float32), labels


@pytest.mark.parametrize("sharpness", [0.01, 0.3, 1, 50])
def test_the_temperature_is_where_scipy_finds_the_least_held_out_log_loss(sharpness: float) -> None:
    scores, labels = noisy_scores(800, 4, sharpness)

    def loss(log_factor: float) -> float:
        """Log loss of all rows and one more, which is of every class equally."""
        by_class = log_softmax(np.exp(log_factor) * scores.astype(np.float64), axis=1)
        rows = by_class[np.arange(800), labels].sum() + by_class.mean()
        return float(-rows / 801)

    expected = np.exp(minimize_scalar(loss, bounds=(-10, 10), method="bounded", options={"xatol": 1e-9}).x)
    assert inverse_temperature(scores, labels) == pytest.approx(expected, rel=1e-4)
    assert inverse_temperature(scores, labels) == pytest.approx(1 / sharpness, rel=0.15)


def test_where_all_are_right_no_more_is_claimed_than_so_many_answers_support() -> None:
    for count in (10, 1000):
        labels = np.arange(count) % 2
        scores = np.eye(2, dtype=np.float32)[labels]
        sure = 1 / (1 + np.exp(-inverse_temperature(scores, labels)))
        # the smoothed share of right answers: (N + ½) / (N + 1)
        assert sure == pytest.approx((count + 0.5) / (count + 1), abs=1e-6)


def test_scores_that_say_nothing_are_left_alone() -> None:
    assert inverse_temperature(np.ones((5, 3), np.float32), np.array([0, 1, 2, 0, 1])) == 1


def test_log_loss_is_scikit_learns() -> None:
    scores, labels = noisy_scores(100, 3, 1)
    assert log_loss(scores, labels) == pytest.approx(sklearn_log_loss(labels, softmax(scores)), rel=1e-5)


def test_kernel_features_are_scikit_learns_on_rows_of_length_one() -> None:
    draw = np.random.default_rng(0)
    x, landmarks = (draw.normal(size=shape).astype(np.float32) for shape in ((7, 5), (3, 5)))
    expected = rbf_kernel(normalize(x), normalize(landmarks), gamma=0.7)
    kernel = Kernel(unit(landmarks), 0.7)
    np.testing.assert_allclose(kernel.features(x), expected, atol=1e-6)
    np.testing.assert_allclose(kernel.features(np.zeros((1, 5), np.float32)), np.exp(-1.4), atol=1e-6)


def test_probabilities_are_the_softmax_of_weights_times_features() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(1500, 6)).astype(np.float32)
    kernel = Kernel(unit(x[:4]), 0.5)
    weight, bias = draw.normal(size=(3, 4)).astype(np.float32), np.array([0, 1, 2], np.float32)
    head = Head("rbf", weight, bias, kernel)
    by_hand = np.exp(-0.5 * np.square(normalize(x)[:, None] - normalize(x[:4])[None]).sum(axis=2)) @ weight.T + bias
    given = probabilities(Rows(len(x), 6, lambda part: x[part]), head)
    np.testing.assert_allclose(given, np.exp(log_softmax(by_hand, axis=1)), atol=1e-5)


def test_tensors_are_named_after_the_layer() -> None:
    linear = Head("lda", np.ones((2, 3), np.float32), np.zeros(2, np.float32))
    assert set(linear.tensors("fc")) == {"fc.weight", "fc.bias"}
    kernel = Head(
        "rbf", np.ones((2, 4), np.float32), np.zeros(2, np.float32), Kernel(np.eye(4, 3, dtype=np.float32), 2)
    )
    tensors = kernel.tensors("fc")
    assert {name: array.shape for name, array in tensors.items()} == {
        "fc.weight": (2, 4), "fc.bias": (2,), "head.landmarks": (4, 3), "head.gamma": (),
    }  # fmt: skip
    assert float(tensors["head.gamma"]) == 2
