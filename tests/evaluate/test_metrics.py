"""Scores against scikit-learn, hand-worked cases, and what must be refused."""

from __future__ import annotations

import json
import math
import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as oracle

from graft.evaluate.intervals import grouped_proportion, paired_difference, proportion
from graft.evaluate.metrics import BINS, Scores, from_json, score, to_json

Floats = NDArray[np.float64]


def drawn(n: int, k: int, seed: int = 0) -> tuple[Floats, NDArray[np.int64]]:
    """Random probabilities that favour the true class, (n, k), and labels of unequal frequency, (n,)."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(k, n, p=rng.dirichlet(np.full(k, 5.0)))
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), labels] += 1.5
    raised = np.exp(logits)
    return raised / raised.sum(1, keepdims=True), labels


def names(k: int) -> tuple[str, ...]:
    return tuple(f"class {i}" for i in range(k))


@pytest.fixture(scope="module")
def case() -> tuple[Floats, NDArray[np.int64], Scores]:
    probabilities, labels = drawn(700, 8)
    return probabilities, labels, score(probabilities, labels, classes=names(8), majority=3)


def test_shares_agree_with_scikit_learn(case: tuple[Floats, NDArray[np.int64], Scores]) -> None:
    probabilities, labels, scores = case
    answers = probabilities.argmax(1)
    assert scores.n == 700
    assert scores.top1.value == pytest.approx(oracle.accuracy_score(labels, answers), abs=1e-12)
    assert scores.top5 is not None
    assert scores.top5.value == pytest.approx(oracle.top_k_accuracy_score(labels, probabilities, k=5), abs=1e-12)
    assert scores.balanced.value == pytest.approx(oracle.balanced_accuracy_score(labels, answers), abs=1e-12)
    assert scores.log_loss == pytest.approx(oracle.log_loss(labels, probabilities), abs=1e-12)
    assert scores.baseline.value == pytest.approx((labels == 3).mean(), abs=1e-12)
    assert scores.gain.value == pytest.approx(scores.top1.value - scores.baseline.value, abs=1e-12)
    assert (scores.confusion == oracle.confusion_matrix(labels, answers)).all()


def test_classes_agree_with_scikit_learn(case: tuple[Floats, NDArray[np.int64], Scores]) -> None:
    probabilities, labels, scores = case
    precision, recall, _, support = oracle.precision_recall_fscore_support(labels, probabilities.argmax(1))
    for i, c in enumerate(scores.per_class):
        assert (c.name, c.n) == (f"class {i}", support[i])
        assert (c.recall.value, c.precision.value) == pytest.approx((recall[i], precision[i]), abs=1e-12)
        assert c.recall == proportion(int(scores.confusion[i, i]), c.n)
        assert c.precision == proportion(int(scores.confusion[i, i]), int(scores.confusion[:, i].sum()))
        assert scores.cell(i, 2) == proportion(int(scores.confusion[i, 2]), c.n)


def test_calibration_error_agrees_with_a_loop(case: tuple[Floats, NDArray[np.int64], Scores]) -> None:
    probabilities, labels, scores = case
    sure, right = probabilities.max(1), probabilities.argmax(1) == labels
    expected = 0.0
    for i in range(BINS):
        inside = (sure > i / BINS) & (sure <= (i + 1) / BINS)
        if inside.any():
            expected += inside.mean() * abs(sure[inside].mean() - right[inside].mean())
    assert scores.calibration_error == pytest.approx(expected, abs=1e-12)
    assert sum(b.n for b in scores.reliability) == 700


def test_three_pictures_worked_by_hand() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
    scores = score(probabilities, np.array([0, 1, 2]), classes=("a", "b", "c"), majority=1)
    assert scores.top1 == proportion(2, 3)
    assert scores.top5 is None
    assert scores.baseline == proportion(1, 3)
    assert scores.majority == "b"
    assert scores.log_loss == pytest.approx(-(math.log(0.7) + math.log(0.25) + math.log(0.8)) / 3)
    assert scores.cells == ((0, 0, 1), (1, 0, 1), (2, 2, 1))
    assert scores.calibration_error == pytest.approx((0.3 + 0.5 + 0.2) / 3)
    assert scores.per_class[1].recall == proportion(0, 1)
    assert math.isnan(scores.per_class[1].precision.value)  # no picture was called b
    assert scores.gain == paired_difference(np.array([True, False, True]), np.array([False, True, False]))


def test_a_tie_goes_to_the_class_that_comes_first() -> None:
    even = np.full((8, 8), 1 / 8)
    scores = score(even, np.arange(8), classes=names(8), majority=0)
    assert scores.top1 == proportion(1, 8)
    assert scores.top5 == proportion(5, 8)


def test_a_class_that_does_not_occur_has_no_recall_and_no_part_in_the_balance() -> None:
    probabilities = np.array([[0.6, 0.3, 0.1], [0.1, 0.7, 0.2], [0.8, 0.1, 0.1]])
    scores = score(probabilities, np.array([0, 1, 1]), classes=("a", "b", "c"), majority=0)
    assert math.isnan(scores.per_class[2].recall.value)
    assert scores.balanced.value == pytest.approx(0.75)
    assert math.isnan(scores.cell(2, 0).value)


def test_no_mistake_costs_nothing() -> None:
    scores = score(np.eye(6), np.arange(6), classes=names(6), majority=0)
    assert scores.top1 == proportion(6, 6)
    assert f"{scores.log_loss:.3f}" == "0.000"
    assert scores.calibration_error == 0


def test_a_true_class_given_no_chance_costs_a_finite_loss() -> None:
    scores = score(np.eye(2), np.array([1, 1]), classes=("a", "b"), majority=0)
    assert scores.log_loss == pytest.approx(oracle.log_loss([1, 1], np.eye(2), labels=[0, 1]), abs=1e-12)


def test_near_duplicates_widen_every_interval() -> None:
    probabilities, labels = drawn(300, 4, seed=2)
    twice, both = np.repeat(probabilities, 2, 0), np.repeat(labels, 2)
    groups = np.repeat(np.arange(300), 2)
    plain = score(twice, both, classes=names(4), majority=1)
    grouped = score(twice, both, classes=names(4), majority=1, groups=groups)
    once = score(probabilities, labels, classes=names(4), majority=1)
    assert plain.effective_n == 600
    assert grouped.effective_n == pytest.approx(300)
    assert grouped.top1 == grouped_proportion(twice.argmax(1) == both, groups)
    assert plain.top1.low > grouped.top1.low
    for name in ("top1", "baseline", "gain", "balanced"):
        found, expected = getattr(grouped, name), getattr(once, name)
        assert (found.value, found.low, found.high) == pytest.approx(
            (expected.value, expected.low, expected.high), abs=1e-3
        )


def test_json_there_and_back() -> None:
    probabilities, labels = drawn(60, 7, seed=3)
    labels[labels == 6] = 0  # a class without pictures: nan must survive, and JSON has none
    scores = score(probabilities, labels, classes=names(7), majority=0)
    text = json.dumps(to_json(scores), allow_nan=False)
    plain = json.loads(text)
    assert plain["n"] == 60
    assert set(plain["top1"]) == {"value", "low", "high"}
    assert plain["per_class"][6]["recall"]["value"] is None
    assert from_json(plain) == scores


def test_json_with_a_field_missing_or_unknown_is_refused() -> None:
    probabilities, labels = drawn(20, 3)
    record = to_json(score(probabilities, labels, classes=names(3), majority=0))
    with pytest.raises(ValueError, match="top1"):
        from_json({key: value for key, value in record.items() if key != "top1"})
    with pytest.raises(ValueError, match="extra"):
        from_json({**record, "extra": 1})


@pytest.mark.parametrize(
    ("probabilities", "labels", "majority", "said"),
    [
        (np.array([[0.5, np.nan]]), [0], 0, "row 0"),
        (np.array([[0.5, 0.5], [np.inf, 0.0]]), [0, 1], 0, "row 1"),
        (np.array([[1.2, -0.2]]), [0], 0, "row 0"),
        (np.array([[3.0, 4.0]]), [0], 0, "softmax"),
        (np.array([[0.5, 0.5]]), [2], 0, "0–1"),
        (np.array([[0.5, 0.5]]), [-1], 0, "0–1"),
        (np.array([[0.5, 0.5]]), [0], 2, "majority 2"),
        (np.array([[0.2, 0.3, 0.5]]), [0], 0, r"\(1, 3\)"),
        (np.array([[0.5, 0.5]]), [0, 1], 0, r"\(2,\)"),
        (np.zeros((0, 2)), [], 0, "at least one"),
    ],
)
def test_what_cannot_be_scored_is_refused(probabilities: Floats, labels: list[int], majority: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        score(probabilities, np.array(labels, np.int64), classes=("a", "b"), majority=majority)


def test_a_thousand_classes_need_little_more_memory_than_their_probabilities() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.random((20_000, 1_000), np.float32)  # 80 MB
    probabilities /= probabilities.sum(1, keepdims=True)
    labels = rng.integers(0, 1_000, 20_000)
    tracemalloc.start()
    try:
        scores = score(probabilities, labels, classes=names(1_000), majority=0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert scores.top1.value == pytest.approx((probabilities.argmax(1) == labels).mean(), abs=1e-12)
    assert peak < 40e6
