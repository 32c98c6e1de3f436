"""The probe: which strength it chooses and why, and that what is held out has no say."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from graft.evaluate.calibration import softmax
from graft.features.rows import Floats, Rows
from graft.heads import probe as module
from graft.heads.probe import STRENGTHS, fit_probe


def in_memory(x: Floats) -> Rows:
    return Rows(len(x), x.shape[1], lambda part: x[part])


def problem(
    count: int = 300, width: int = 20, classes: int = 3, *, signal: float = 0.5, seed: int = 0
) -> tuple[Floats, np.ndarray, np.ndarray]:
    """Features of overlapping classes, their labels, and folds 0–4 that take turns."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, count)
    x = signal * draw.normal(size=(classes, width))[labels] + draw.normal(size=(count, width))
    return (x * draw.uniform(1, 5, width) + 3).astype(np.float32), labels, np.arange(count) % 5


@pytest.mark.parametrize(
    ("signal", "count", "width"),
    [(0.5, 300, 20), (0.05, 120, 40), (3.0, 300, 20)],
    ids=["usual", "faint classes, strong penalty", "clear classes, weak penalty"],
)
def test_strength_is_the_one_with_the_least_held_out_log_loss_by_scikit_learn(
    signal: float, count: int, width: int
) -> None:
    x, labels, fold = problem(count, width, signal=signal)
    found = fit_probe(in_memory(x), labels, fold, num_classes=3)
    standard = StandardScaler().fit_transform(x.astype(np.float64))  # as ours: by the moments of all training rows
    loss, accuracy = {}, {}
    for strength in STRENGTHS:
        held_out = np.empty((len(x), 3))
        for one in range(5):
            fitted = LogisticRegression(C=1 / strength, tol=1e-6, max_iter=5000)
            fitted.fit(standard[fold != one], labels[fold != one])
            held_out[fold == one] = fitted.predict_proba(standard[fold == one])
        loss[strength] = log_loss(labels, held_out)
        accuracy[strength] = (held_out.argmax(axis=1) == labels).mean()
    for trial in found.trials:
        assert trial.log_loss == pytest.approx(loss[trial.strength], abs=0.01)
        assert trial.accuracy == pytest.approx(accuracy[trial.strength], abs=0.02)
    first = STRENGTHS.index(found.trials[0].strength)
    assert [trial.strength for trial in found.trials] == list(STRENGTHS[first : first + len(found.trials)])
    assert found.strength == min(loss, key=lambda strength: loss[strength])


def test_head_on_raw_features_is_scikit_learns_on_standardised_ones() -> None:
    x, labels, fold = problem()
    found = fit_probe(in_memory(x), labels, fold, num_classes=3)
    scaler = StandardScaler().fit(x.astype(np.float64))
    theirs = LogisticRegression(C=1 / found.strength, tol=1e-9, max_iter=5000).fit(scaler.transform(x), labels)
    assert found.weight.shape == (3, 20)
    assert found.weight.dtype == found.bias.dtype == np.float32
    expected = theirs.predict_proba(scaler.transform(x.astype(np.float64)))
    np.testing.assert_allclose(softmax(x @ found.weight.T + found.bias), expected, atol=5e-3)


def test_held_out_probabilities_are_scikit_learns() -> None:
    x, labels, fold = problem()
    found = fit_probe(in_memory(x), labels, fold, num_classes=3)
    standard = StandardScaler().fit_transform(x.astype(np.float64))
    for one in range(5):
        fitted = LogisticRegression(C=1 / found.strength, tol=1e-9, max_iter=5000)
        fitted.fit(standard[fold != one], labels[fold != one])
        theirs = fitted.predict_proba(standard[fold == one])
        np.testing.assert_allclose(
            found.held_out[fold == one], theirs, atol=0.04
        )  # fits that are only compared stop early


def test_a_label_does_not_change_its_own_held_out_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STRENGTHS", (100.0,))  # the search may see the label; the fits may not
    x, labels, fold = problem()
    turned = labels.copy()
    turned[fold == 2] = (turned[fold == 2] + 1) % 3
    one = fit_probe(in_memory(x), labels, fold, num_classes=3).held_out
    other = fit_probe(in_memory(x), turned, fold, num_classes=3).held_out
    np.testing.assert_allclose(one[fold == 2], other[fold == 2], atol=2e-2)
    assert np.abs(one[fold != 2] - other[fold != 2]).max() > 0.2


def test_rows_of_no_fold_are_trained_on_but_never_scored() -> None:
    x, labels, fold = problem()
    fold = np.where(np.arange(len(x)) < 30, -1, fold)
    found = fit_probe(in_memory(x), labels, fold, num_classes=3)
    assert np.isnan(found.held_out[:30]).all()
    np.testing.assert_allclose(found.held_out[30:].sum(axis=1), 1, atol=1e-5)
    turned = labels.copy()
    turned[:30] = (turned[:30] + 1) % 3
    other = fit_probe(in_memory(x), turned, fold, num_classes=3)
    assert np.abs(other.held_out[30:] - found.held_out[30:]).max() > 0.05


def test_deterministic() -> None:
    x, labels, fold = problem()
    one, other = (fit_probe(in_memory(x), labels, fold, num_classes=3) for _ in range(2))
    assert one.weight.tobytes() == other.weight.tobytes()
    assert one.held_out.tobytes() == other.held_out.tobytes()


def test_class_weights_move_the_head_towards_the_rare_class() -> None:
    x, labels, fold = problem(600)
    keep = (labels != 2) | (np.arange(600) % 10 == 0)
    x, labels, fold = x[keep], labels[keep], fold[keep]
    counts = np.bincount(labels)
    balanced = (len(labels) / (3 * counts)).astype(np.float32)
    plain = fit_probe(in_memory(x), labels, fold, num_classes=3)
    weighted = fit_probe(in_memory(x), labels, fold, num_classes=3, class_weights=balanced)
    standard = StandardScaler().fit(x.astype(np.float64))
    theirs = LogisticRegression(C=1 / weighted.strength, tol=1e-9, max_iter=5000, class_weight="balanced")
    theirs.fit(standard.transform(x), labels)
    given = softmax(x @ weighted.weight.T + weighted.bias)
    np.testing.assert_allclose(given, theirs.predict_proba(standard.transform(x)), atol=6e-3)
    recall = [(softmax(x @ p.weight.T + p.bias).argmax(axis=1) == 2)[labels == 2].mean() for p in (plain, weighted)]
    assert recall[1] > recall[0] + 0.1


@pytest.mark.parametrize(
    ("limit", "value", "near"),
    [("_SEARCH_BYTES", 400 * 20 * 4, 6e-3), ("_SEARCH_WORK", 400 * 20 * 3, 3e-2)],
    ids=["many rows", "slow passes"],
)
def test_very_large_problems_search_on_a_sample_and_fit_on_every_row(
    limit: str, value: int, near: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, labels, fold = problem(1000)
    exact = fit_probe(in_memory(x), labels, fold, num_classes=3)
    monkeypatch.setattr(module, limit, value)
    monkeypatch.setattr(module, "_HELD_OUT_WORK", 1)
    sample, folds = module._search_rows(in_memory(x), 3, 5)
    assert folds == 1
    assert len(sample) == 400
    assert (sample[0], sample[-1]) == (0, 999)
    found = fit_probe(in_memory(x), labels, fold, num_classes=3)
    assert np.isnan(found.held_out).all()
    scaler = StandardScaler().fit(x.astype(np.float64))
    theirs = LogisticRegression(C=1 / found.strength, tol=1e-9, max_iter=5000).fit(scaler.transform(x), labels)
    given = softmax(x @ found.weight.T + found.bias)
    np.testing.assert_allclose(given, theirs.predict_proba(scaler.transform(x)), atol=near)
    assert STRENGTHS.index(found.strength) == pytest.approx(STRENGTHS.index(exact.strength), abs=2)


def test_a_sample_without_its_held_out_fold_still_finds_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels, _ = problem(1000)
    monkeypatch.setattr(module, "_SEARCH_WORK", 200 * 20 * 3)
    in_one_corner = np.where(np.arange(1000) < 950, 1, 0)
    in_one_corner[[0, 999]] = 1
    found = fit_probe(in_memory(x), labels, in_one_corner, num_classes=3)
    assert np.isfinite(found.weight).all()
    assert all(np.isfinite(trial.log_loss) for trial in found.trials)


def test_softmax_of_large_scores() -> None:
    np.testing.assert_allclose(
        softmax(np.array([[1000, 1000], [0, -2000], [0, np.log(3)]], np.float32)),
        [[0.5, 0.5], [1, 0], [0.25, 0.75]],
        atol=1e-6,
    )
