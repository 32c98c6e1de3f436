"""The probe: logistic regression on frozen features, its strength chosen by cross-validation on the training split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graft.progress import Progress, silent
from graft.transfer.logistic import Fits, Floats, Moments, Rows, fit, moments, scores

STRENGTHS: Final = (3000.0, 1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0)
"""Ridge strengths tried, strongest first: the reciprocal of scikit-learn's C."""

_WORSE: Final = 1.01  # stop weakening the penalty once the held-out loss is this much above its least
_SEARCH_BYTES: Final = 64 * 1024**2  # of float32 features that the search looks at; more rows decide nothing
_SEARCH_WORK: Final = 2**35  # rows × features × scores of one product in the search: a second on two cores
_HELD_OUT_WORK: Final = 2**38  # the same for held-out scores of every row


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


def fit_probe(
    rows: Rows,
    labels: NDArray[np.int64],
    fold: NDArray[np.int64],
    *,
    num_classes: int,
    class_weights: Floats | None = None,
    progress: Progress = silent,
) -> Probe:
    """Fit the head on every row, with the strength that does best on held-out rows.

    rows: (N, D) features. labels: (N,), 0 … K − 1. fold: (N,), which part of the cross-validation holds a row out, −1
    for rows that none does; two parts at least.
    class_weights: (K,), or None for 1 each. Deterministic: no random number is drawn. Where rows × features × classes
    is very large, the search looks at an even sample of the rows; the last fit always sees all of them.
    """
    shape = moments(rows)
    weight = np.ones(num_classes, np.float32) if class_weights is None else class_weights
    folds = int(fold.max()) + 1
    sample, tried = _search_rows(rows, num_classes, folds)
    search = rows
    if len(sample) < rows.count:
        matrix = np.concatenate([rows.read(slice(int(i), int(i) + 1)) for i in sample])
        search = Rows(len(sample), rows.width, lambda part: matrix[part])
    judged = (fold[sample] >= 0) & (fold[sample] < tried)  # rows that one of the fits never saw
    judge = np.where(judged, fold[sample], 0)
    fold_weight = _fold_weights(fold[sample], weight[labels[sample]], tried, and_all=False)
    trials: list[Trial] = []
    fits: Fits | None = None
    started: Fits | None = None
    for step, strength in enumerate(STRENGTHS):
        progress("choosing the strength of the head", step, len(STRENGTHS))
        fits = fit(
            search, labels[sample], fold_weight, shape,
            num_classes=num_classes, strength=strength, start=fits, tolerance=1e-2,
        )  # fmt: skip
        logits = scores(search, fits, shape, judge)[judged]
        trials.append(_trial(strength, logits, labels[sample][judged]))
        least = min(trial.log_loss for trial in trials)
        if trials[-1].log_loss == least:
            started = fits
        elif trials[-1].log_loss > _WORSE * least:
            break
    assert started is not None
    progress("choosing the strength of the head", len(STRENGTHS), len(STRENGTHS))
    chosen = min(trials, key=lambda trial: trial.log_loss)
    held_out = np.full((rows.count, num_classes), np.nan, np.float32)
    with_folds = tried == folds and rows.count * rows.width * num_classes * folds <= _HELD_OUT_WORK
    middle = Fits(started.weights.mean(axis=0, keepdims=True), started.bias.mean(axis=0, keepdims=True))
    progress("fitting the head", 0, 1)
    if with_folds:
        fold_weight = _fold_weights(fold, weight[labels], folds, and_all=True)
        start = Fits(np.concatenate([started.weights, middle.weights]), np.concatenate([started.bias, middle.bias]))
    else:
        fold_weight = _fold_weights(fold, weight[labels], 0, and_all=True)
        start = middle
    fits = fit(
        rows, labels, fold_weight, shape, num_classes=num_classes, strength=chosen.strength, start=start, tolerance=3e-3
    )
    if with_folds:
        held_out = softmax(scores(rows, fits, shape, np.maximum(fold, 0)))
        held_out[fold < 0] = np.nan
    progress("fitting the head", 1, 1)
    head, bias = _on_raw_features(fits, shape)
    return Probe(head, bias, chosen.strength, tuple(trials), held_out)


def softmax(logits: Floats) -> Floats:
    """(N, K) logits → (N, K) probabilities."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def _on_raw_features(fits: Fits, shape: Moments) -> tuple[Floats, Floats]:
    """The last fit with the standardisation folded into it: weight (K, D), bias (K,)."""
    weight = fits.weights[-1].astype(np.float64) / shape.scale[:, None]
    bias = fits.bias[-1] - shape.mean.astype(np.float64) @ weight
    return np.ascontiguousarray(weight.T, dtype=np.float32), bias.astype(np.float32)


def _fold_weights(fold: NDArray[np.int64], weight: Floats, folds: int, *, and_all: bool) -> Floats:
    """(folds + and_all, N): each row's weight in each fit, 0 where it is held out; the last fit holds nothing out."""
    held_out = fold[None, :] == np.arange(folds + and_all)[:, None]
    return np.where(held_out & (np.arange(folds + and_all) < folds)[:, None], 0, weight).astype(np.float32)


def _search_rows(rows: Rows, num_classes: int, folds: int) -> tuple[NDArray[np.int64], int]:
    """The rows that the search looks at, and how many folds it holds out: all of both where that is quick.

    Otherwise one fold, and as many rows, evenly spread, as keep the search short.
    """
    most = min(_SEARCH_BYTES // (4 * rows.width), _SEARCH_WORK // (rows.width * num_classes * folds))
    if rows.count <= most:
        return np.arange(rows.count), folds
    most = min(_SEARCH_BYTES // (4 * rows.width), _SEARCH_WORK // (rows.width * num_classes))
    return np.unique(np.linspace(0, rows.count - 1, min(rows.count, max(most, 1))).astype(np.int64)), 1


def _trial(strength: float, logits: Floats, labels: NDArray[np.int64]) -> Trial:
    shifted = logits - logits.max(axis=1, keepdims=True)
    own = shifted[np.arange(len(labels)), labels]
    loss = float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - own, dtype=np.float64))
    return Trial(strength, loss, float((logits.argmax(axis=1) == labels).mean()))
