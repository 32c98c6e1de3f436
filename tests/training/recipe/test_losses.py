"""Losses against worked numbers, hand-written formulas and scikit-learn."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from graft.errors import UsageError
from graft.training.recipe.losses import balanced_weights, cross_entropy, loss_function, multiclass_svm

# The lectures' three pictures, of a cat, a car and a frog, with the scores for cat, car and frog.
SCORES = torch.tensor([[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]])
RIGHT = torch.tensor([0, 1, 2])
PAIR = torch.tensor([[1.1, 2.0, 0.5, -1.0], [0.0, -3.0, 4.0, 0.25]], dtype=torch.float64)  # no hinge at its kink


def log_softmax(logits: torch.Tensor) -> np.ndarray:
    scores = logits.numpy()
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


def test_the_svm_loses_what_the_lectures_count() -> None:
    losses = multiclass_svm(SCORES, RIGHT)
    torch.testing.assert_close(losses, torch.tensor([2.9, 0.0, 12.9]))
    assert float(losses.mean()) == pytest.approx(5.27, abs=0.005)


def test_the_softmax_loses_what_the_lectures_count() -> None:
    assert float(cross_entropy(SCORES, RIGHT)[0]) == pytest.approx(2.04, abs=0.005)  # −ln 0.13
    assert float(cross_entropy(torch.zeros(1, 10), torch.tensor([3]))) == pytest.approx(2.3026, abs=5e-5)
    assert float(multiclass_svm(torch.zeros(1, 10), torch.tensor([3]))) == 9.0  # C − 1 margins of 1


def test_a_margin_of_two_moves_every_hinge() -> None:
    torch.testing.assert_close(multiclass_svm(SCORES, RIGHT, margin=2.0), torch.tensor([3.9, 0.0, 14.9]))


def test_label_smoothing_by_hand() -> None:
    """Two classes, logits 0 and ln 3: probabilities ¼ and ¾; smoothing 0.2 makes the target 0.1 and 0.9."""
    loss = cross_entropy(torch.tensor([[0.0, math.log(3)]]), torch.tensor([1]), smoothing=0.2)
    assert float(loss) == pytest.approx(0.1 * math.log(4) + 0.9 * math.log(4 / 3))


def test_soft_targets_are_weighed_logs() -> None:
    target = torch.tensor([[0.5, 0.25, 0.25, 0.0], [0.0, 0.0, 0.7, 0.3]], dtype=torch.float64)
    smooth = 0.9 * target.numpy() + 0.1 / 4
    torch.testing.assert_close(
        cross_entropy(PAIR, target, smoothing=0.1), torch.from_numpy(-(smooth * log_softmax(PAIR)).sum(axis=1))
    )


def test_class_weights_multiply_the_parts_of_the_classes() -> None:
    weights = torch.tensor([1.0, 2.0, 0.5, 4.0], dtype=torch.float64)
    labels = torch.tensor([1, 3])
    smooth = 0.8 * np.eye(4)[labels] + 0.2 / 4
    torch.testing.assert_close(
        cross_entropy(PAIR, labels, smoothing=0.2, class_weights=weights),
        torch.from_numpy(-(smooth * weights.numpy() * log_softmax(PAIR)).sum(axis=1)),
    )
    torch.testing.assert_close(
        multiclass_svm(PAIR, labels, class_weights=weights), multiclass_svm(PAIR, labels) * torch.tensor([2.0, 4.0])
    )


def test_the_svm_of_a_mixed_target_is_the_mixture_of_both_losses() -> None:
    target = torch.tensor([[0.7, 0.3, 0.0], [0.0, 1.0, 0.0], [0.2, 0.3, 0.5]])
    by_hand = []
    for scores, shares in zip(SCORES.tolist(), target.tolist(), strict=True):
        hinge = [sum(max(0.0, s - scores[y] + 1) for j, s in enumerate(scores) if j != y) for y in range(3)]
        by_hand.append(sum(share * loss for share, loss in zip(shares, hinge, strict=True)))
    torch.testing.assert_close(multiclass_svm(SCORES, target), torch.tensor(by_hand))
    torch.testing.assert_close(multiclass_svm(SCORES, torch.eye(3)), multiclass_svm(SCORES, RIGHT))


@pytest.mark.parametrize("name", ["cross-entropy", "svm"])
@pytest.mark.parametrize("target", [torch.tensor([1, 2]), torch.tensor([[0.2, 0.8, 0, 0], [0, 0, 0.6, 0.4]])])
def test_the_gradient_is_the_numeric_one(name: str, target: torch.Tensor) -> None:
    loss = loss_function(name, class_weights=torch.tensor([1.0, 2.0, 0.5, 1.5]))
    assert torch.autograd.gradcheck(lambda logits: loss(logits, target), PAIR.clone().requires_grad_())


def test_balanced_weights_are_scikit_learns() -> None:
    counts = [10, 30, 60]
    labels = np.repeat([0, 1, 2], counts)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    torch.testing.assert_close(balanced_weights(counts), torch.from_numpy(expected).float())
    assert balanced_weights([10, 0, 30]).tolist() == pytest.approx([2.0, 0.0, 2 / 3])


@pytest.mark.parametrize(
    ("name", "smoothing", "message"),
    [
        ("cros-entropy", 0.0, "no loss 'cros-entropy', there are cross-entropy, svm; did you mean 'cross-entropy'?"),
        ("cross-entropy", 1.0, "label smoothing must be from 0 to below 1, got 1"),
        ("cross-entropy", float("nan"), "label smoothing must be from 0 to below 1, got nan"),
        ("svm", 0.1, "label smoothing belongs to cross-entropy"),
    ],
)
def test_bad_choices_are_refused_in_one_line(name: str, smoothing: float, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        loss_function(name, smoothing=smoothing)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "weights"),
    [
        (torch.tensor([0, 1]), None),
        (torch.tensor([0.0, 1.0, 2.0]), None),
        (torch.zeros(3, 2), None),
        (torch.zeros(3, 3, dtype=torch.int64), None),
        (RIGHT, torch.ones(2)),
    ],
)
@pytest.mark.parametrize("loss", [cross_entropy, multiclass_svm])
def test_shapes_that_do_not_fit_are_named(loss, target: torch.Tensor, weights: torch.Tensor | None) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=rf"{loss.__name__} needs logits \(N, K\).*got logits \(3, 3\), target"):
        loss(SCORES, target, class_weights=weights)
