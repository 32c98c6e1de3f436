"""The choice of a head: who wins beyond noise is taken, and whoever does not is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from graft.evaluate.intervals import paired_difference
from graft.features.rows import Floats
from graft.heads import choose, lda, rbf
from graft.heads.choose import Choice, choose_head, gain
from heads.problems import in_memory


def folds(count: int) -> np.ndarray:
    return np.arange(count) % 5


def few_of_many_classes() -> tuple[Floats, np.ndarray]:
    """Thirty classes of one elongated shape, ten rows each: what LDA is the best rule for."""
    draw = np.random.default_rng(0)
    labels = draw.permutation(np.arange(300) % 30)
    x = 0.5 * draw.normal(size=(30, 20))[labels] + draw.normal(size=(300, 20)) * np.geomspace(0.1, 3, 20)
    turn, _ = np.linalg.qr(draw.normal(size=(20, 20)))
    return (x @ turn + 20 * draw.normal(size=20)).astype(np.float32), labels


def opposite_directions() -> tuple[Floats, np.ndarray]:
    """Two classes that no plane parts: the sign of a product."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(300, 5))
    return x.astype(np.float32), (x[:, 0] * x[:, 1] > 0).astype(np.int64)


def parted_by_a_plane() -> tuple[Floats, np.ndarray]:
    """Two classes on either side of a plane through the origin, some of them on the wrong one."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(300, 5))
    return x.astype(np.float32), (x[:, 0] + x[:, 1] + 0.5 * draw.normal(size=300) > 0).astype(np.int64)


def plane_far_from_a_bend() -> tuple[Floats, np.ndarray]:
    """Two classes that differ in length alone, along one feature: gone when rows are scaled to length one, and with a
    tail that draws LDA's plane away from where the classes meet."""
    draw = np.random.default_rng(0)
    labels = np.arange(400) % 2
    size = np.where(labels == 1, 1 + draw.exponential(8, 400) ** 1.5, -draw.uniform(0, 1, 400))
    x = np.column_stack([size + 100, draw.normal(size=400)])
    return x.astype(np.float32), labels


def run(problem: tuple[Floats, np.ndarray]) -> Choice:
    x, labels = problem
    return choose_head(in_memory(x), labels, folds(len(x)), num_classes=int(labels.max()) + 1)


def test_lda_wins_where_there_are_few_rows_of_many_classes_of_one_shape() -> None:
    choice = run(few_of_many_classes())
    assert choice.head.kind == "lda"
    assert choice.head.transform is None
    assert choice.trials[1].gain is not None
    assert choice.trials[1].gain.low > 0
    assert choice.reason.startswith("linear discriminant analysis +")
    assert "more than noise" in choice.reason


def test_the_rbf_machine_wins_where_no_plane_parts_the_classes() -> None:
    x, labels = opposite_directions()
    choice = run((x, labels))
    assert choice.head.kind == "rbf"
    logistic, _, machine = choice.trials
    assert logistic.accuracy is not None
    assert machine.accuracy is not None
    assert logistic.accuracy < 0.6 < 0.8 < machine.accuracy
    assert machine.accuracy == accuracy_score(labels, choice.held_out.argmax(axis=1))
    np.testing.assert_allclose(choice.held_out.sum(axis=1), 1, atol=1e-5)
    expected = f"the RBF machine {100 * (machine.accuracy - logistic.accuracy):+.1f} points"
    assert choice.reason.startswith(expected)
    assert f"right on {100 * logistic.accuracy:.1f} % of 300 held-out pictures" in choice.reason


def test_logistic_regression_wins_where_the_others_are_worse() -> None:
    choice = run(plane_far_from_a_bend())
    assert choice.head.kind == "logistic"
    assert all(trial.gain is not None and trial.gain.high < 0 for trial in choice.trials[1:])


def test_where_none_wins_beyond_noise_the_simplest_stays_and_the_reason_says_so() -> None:
    choice = run(parted_by_a_plane())
    assert choice.head.kind == "logistic"
    assert choice.head.weight.tobytes() == choice.probe.weight.tobytes()
    assert choice.held_out.tobytes() == choice.probe.held_out.tobytes()
    for trial in choice.trials[1:]:
        assert trial.gain is not None
        assert trial.gain.low <= 0 <= trial.gain.high
        assert f"{100 * trial.gain.low:+.1f} to {100 * trial.gain.high:+.1f}" in choice.reason
    assert "within noise" in choice.reason


def test_an_equal_start_is_a_win_for_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where LDA and the RBF machine both beat logistic regression and not each other, LDA stays."""
    x, labels = opposite_directions()
    fitted = choose.fit_rbf(in_memory(x), labels, folds(300), num_classes=2)
    first, second = choose.KINDS
    monkeypatch.setattr(choose, "KINDS", (replace(first, fit=lambda *_args, **_named: fitted), second))
    choice = run((x, labels))
    assert choice.head is fitted.head
    assert [trial.accuracy for trial in choice.trials[1:]] == [choice.trials[1].accuracy] * 2


def test_gain_is_tangos_interval_and_weights_and_groups_widen_it() -> None:
    draw = np.random.default_rng(0)
    a, b = draw.random(400) < 0.9, draw.random(400) < 0.8
    plain, expected = gain(a, b, None, None), paired_difference(a, b)
    assert (plain.value, plain.low, plain.high) == pytest.approx((expected.value, expected.low, expected.high))
    tripled = gain(a, b, np.full(400, 3, np.float32), None)
    assert (tripled.low, tripled.high) == pytest.approx((plain.low, plain.high))
    # a quarter of the rows four times as heavy: (Σw)² / Σw² = 700² / 1900 rows
    weight = np.where(np.arange(400) < 100, 4, 1).astype(np.float32)
    weighted = gain(a, b, weight, None)
    assert weighted.value == pytest.approx(np.average(a, weights=weight) - np.average(b, weights=weight))
    assert (weighted.high - weighted.low) / (plain.high - plain.low) == pytest.approx(
        np.sqrt(400 * 1900 / 700**2), rel=0.1
    )
    groups = np.repeat(np.arange(100), 4)
    twins = gain(np.repeat(a[:100], 4), np.repeat(b[:100], 4), None, groups)
    alone = gain(a[:100], b[:100], None, None)
    expected = paired_difference(np.repeat(a[:100], 4), np.repeat(b[:100], 4), groups)
    assert (twins.low, twins.high) == pytest.approx((expected.low, expected.high))
    assert twins.value == pytest.approx(alone.value)
    assert twins.high - twins.low > 0.9 * (alone.high - alone.low)


def test_with_few_rows_no_other_head_is_tried() -> None:
    x, labels = parted_by_a_plane()
    choice = run((x[:30], labels[:30]))
    assert choice.head.kind == "logistic"
    assert [trial.note for trial in choice.trials] == [
        "",
        *["30 held-out pictures are too few to tell heads apart"] * 2,
    ]
    assert "no other head was tried, 30 held-out pictures are too few" in choice.reason


def test_a_class_that_one_fold_holds_whole_leaves_nothing_to_compare() -> None:
    x, labels = parted_by_a_plane()
    fold = np.where(labels == 1, 0, 1 + np.arange(300) % 4)
    choice = choose_head(in_memory(x), labels, fold, num_classes=2)
    assert "all its pictures in one part" in choice.reason


def test_what_is_too_large_is_skipped_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rbf, "_WORK", 300 * 299**2)
    monkeypatch.setattr(lda, "_MOST_FEATURES", 4)
    choice = run(parted_by_a_plane())
    assert [trial.note for trial in choice.trials[1:]] == [
        "300 pictures × 5 features are too many for it", "300 pictures are too many for it",
    ]  # fmt: skip
    assert "the RBF machine was not tried, 300 pictures are too many for it" in choice.reason


def test_rows_of_no_fold_have_no_say() -> None:
    x, labels = opposite_directions()
    fold = np.where(np.arange(300) < 50, -1, folds(300))
    choice = choose_head(in_memory(x), labels, fold, num_classes=2)
    assert choice.head.kind == "rbf"
    assert np.isnan(choice.held_out[:50]).all()
    assert choice.trials[2].accuracy == accuracy_score(labels[50:], choice.held_out[50:].argmax(axis=1))
    assert "of 250 held-out pictures" in choice.reason
