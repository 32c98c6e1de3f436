"""The probe: logistic regression on frozen features, its strength chosen by cross-validation on the training split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from graft.evaluate.calibration import log_loss, softmax
from graft.features.rows import Floats, Rows
from graft.heads.logistic import Fits, Moments, fit, moments, scores
from graft.progress import Progress, silent

STRENGTHS: Final = (3000.0, 1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
"""Ridge strengths tried, strongest first: the reciprocal of scikit-learn's C."""

_USUAL: Final = 100.0  # where the search begins
_LOOSE, _TIGHT = 2e-2, 3e-3  # tolerances: of fits that are only compared and of very large ones, and of the head
_SEARCH_BYTES: Final = 24 * 1024**2  # of float32 features that the search looks at: more rows decide nothing
_SEARCH_ROWS: Final = 32  # a class, at which it looks even where that is more
_SEARCH_WORK: Final = 2**35  # rows × features × scores of one product in the search: a second on two cores
_HELD_OUT_WORK: Final = 2**36  # the same for held-out scores of every row


@dataclass(frozen=True)
class Trial:
    """One strength tried: mean held-out log loss (nats) and the share of held-out pictures that were right (0–1)."""

    strength: float
    log_loss: float
    accuracy: float


@dataclass(frozen=True)
class Probe:
    """A linear head for raw features: logits = features @ weight.T + bias.

    weight: (K, D). bias: (K,). trials: the search. strength: what it chose. held_out: (N, K) probabilities that each
    training row got from a fit that never saw it; NaN for rows of no fold, and for all rows of very large problems.
    """

    weight: Floats
    bias: Floats
    strength: float
    trials: tuple[Trial, ...]
    held_out: Floats


@dataclass(frozen=True)
class CrossValidated:
    """What cross-validation says of a probe, before the head is fitted on every row.

    strength, trials, held_out: as a `Probe` has them. start, shape: where that fit begins, and the features' moments.
    """

    strength: float
    trials: tuple[Trial, ...]
    held_out: Floats
    start: Fits
    shape: Moments


def fit_probe(
    rows: Rows,
    labels: NDArray[np.int64],
    fold: NDArray[np.int64],
    *,
    num_classes: int,
    class_weights: Floats | None = None,
    weakest: float = STRENGTHS[-1],
    progress: Progress = silent,
) -> Probe:
    """Fit the head on every row, with the strength that does best on held-out rows: arguments as `cross_validate`."""
    with threadpool_limits(limits=1, user_api="blas"):
        found = _cross_validate(rows, labels, fold, num_classes, class_weights, weakest, progress)
        weight = _row_weights(labels, num_classes, class_weights)
        large = rows.count * rows.width * num_classes > _SEARCH_WORK
        progress("fitting the head", 0, 1)
        final = fit(
            rows, labels, weight[None], found.shape, num_classes=num_classes, strength=found.strength,
            start=found.start, tolerance=_LOOSE if large else _TIGHT,
        )  # fmt: skip
        progress("fitting the head", 1, 1)
        head, bias = _on_raw_features(final, found.shape)
    return Probe(head, bias, found.strength, found.trials, found.held_out)


def cross_validate(
    rows: Rows,
    labels: NDArray[np.int64],
    fold: NDArray[np.int64],
    *,
    num_classes: int,
    class_weights: Floats | None = None,
    weakest: float = STRENGTHS[-1],
    progress: Progress = silent,
) -> CrossValidated:
    """How well a probe does on held-out rows, and the strength that does best there.

    rows: (N, D) features. labels: (N,), 0 … K − 1. fold: (N,), which part of the cross-validation holds a row out, −1
    for rows that none does; two parts at least.
    class_weights: (K,), or None for 1 each. weakest: of the strengths that are tried. Deterministic: no random number
    is drawn. Where rows × features × classes is very large, the search looks at an even sample of the rows.
    """
    with threadpool_limits(limits=1, user_api="blas"):  # our threads share the work; BLAS's own would spin beside them
        return _cross_validate(rows, labels, fold, num_classes, class_weights, weakest, progress)


def _cross_validate(
    rows: Rows,
    labels: NDArray[np.int64],
    fold: NDArray[np.int64],
    num_classes: int,
    class_weights: Floats | None,
    weakest: float,
    progress: Progress,
) -> CrossValidated:
    shape, weight = moments(rows), _row_weights(labels, num_classes, class_weights)
    folds = int(fold.max()) + 1
    sample, tried = _search_rows(rows, num_classes, folds)
    whole = len(sample) == rows.count
    searched = rows if whole else Rows(len(sample), rows.width, lambda part: rows.read(sample[part]))
    trials, fits = _search(
        searched, labels[sample], weight[sample], fold[sample], tried, shape, num_classes, weakest, progress
    )
    strength = min(trials, key=lambda trial: trial.log_loss).strength
    start = Fits(fits.weights.mean(axis=0, keepdims=True), fits.bias.mean(axis=0, keepdims=True))
    held_out = np.full((rows.count, num_classes), np.nan, np.float32)
    if whole:
        held_out = softmax(scores(rows, fits, shape, np.maximum(fold, 0)))
    elif rows.count * rows.width * num_classes * folds <= _HELD_OUT_WORK:
        again = Fits(start.weights.repeat(folds, axis=0), start.bias.repeat(folds, axis=0))
        again = fit(
            rows, labels, _fold_weights(fold, weight, folds), shape,
            num_classes=num_classes, strength=strength, start=again, tolerance=_LOOSE,
        )  # fmt: skip
        held_out = softmax(scores(rows, again, shape, np.maximum(fold, 0)))
    held_out[fold < 0] = np.nan
    return CrossValidated(strength, tuple(trials), held_out, start, shape)


def _search(
    rows: Rows,
    labels: NDArray[np.int64],
    weight: Floats,
    fold: NDArray[np.int64],
    folds: int,
    shape: Moments,
    num_classes: int,
    weakest: float,
    progress: Progress,
) -> tuple[list[Trial], Fits]:
    """Trials, strongest first, and the folds' fits at the best: from the usual strength down, then up from there."""
    judged = (fold >= 0) & (fold < folds)  # rows that one of the fits never saw
    fold_weight = _fold_weights(fold, weight, folds)
    usual = STRENGTHS.index(_USUAL)
    trials: dict[float, Trial] = {}
    best: Fits | None = None
    weaker = tuple(strength for strength in STRENGTHS[usual:] if strength >= min(weakest, _USUAL))
    for direction in (weaker, STRENGTHS[:usual][::-1]):
        fits = best
        for strength in direction:
            progress("choosing the strength of the head", len(trials), len(STRENGTHS))
            fits = fit(
                rows, labels, fold_weight, shape,
                num_classes=num_classes, strength=strength, start=fits, tolerance=_LOOSE,
            )  # fmt: skip
            logits = scores(rows, fits, shape, np.where(judged, fold, 0))[judged]
            trials[strength] = _trial(strength, logits, labels[judged])
            least = min(trial.log_loss for trial in trials.values())
            if trials[strength].log_loss == least:
                best = fits
            else:
                break
        if len(trials) > 1 and min(trials.values(), key=lambda trial: trial.log_loss).strength != _USUAL:
            break  # weaker was better: stronger is not
    progress("choosing the strength of the head", len(STRENGTHS), len(STRENGTHS))
    assert best is not None
    return sorted(trials.values(), key=lambda trial: -trial.strength), best


def _on_raw_features(fits: Fits, shape: Moments) -> tuple[Floats, Floats]:
    """The last fit with the standardisation folded into it: weight (K, D), bias (K,)."""
    weight = fits.weights[-1].astype(np.float64) / shape.scale[:, None]
    bias = fits.bias[-1] - shape.mean.astype(np.float64) @ weight
    return np.ascontiguousarray(weight.T, dtype=np.float32), bias.astype(np.float32)


def _row_weights(labels: NDArray[np.int64], num_classes: int, class_weights: Floats | None) -> Floats:
    """(N,) what each row counts for."""
    return (np.ones(num_classes, np.float32) if class_weights is None else class_weights)[labels]


def _fold_weights(fold: NDArray[np.int64], weight: Floats, folds: int) -> Floats:
    """(folds, N): each row's weight in each fold's fit, 0 where it is held out."""
    return np.where(fold[None, :] == np.arange(folds)[:, None], 0, weight).astype(np.float32)


def _search_rows(rows: Rows, num_classes: int, folds: int) -> tuple[NDArray[np.int64], int]:
    """The rows that the search looks at, and how many folds it holds out: all of both where that is quick.

    Otherwise one fold, and as many rows, evenly spread, as keep the search short.
    """
    enough = max(_SEARCH_BYTES // (4 * rows.width), _SEARCH_ROWS * num_classes)
    most = min(enough, _SEARCH_WORK // (rows.width * num_classes * folds))
    if rows.count <= most:
        return np.arange(rows.count), folds
    most = min(enough, _SEARCH_WORK // (rows.width * num_classes))
    return np.unique(np.linspace(0, rows.count - 1, min(rows.count, max(most, 1))).astype(np.int64)), 1


def _trial(strength: float, logits: Floats, labels: NDArray[np.int64]) -> Trial:
    return Trial(strength, log_loss(logits, labels), float((logits.argmax(axis=1) == labels).mean()))
