"""What a classifier's answers on labelled pictures are worth: every score with its interval, from one pass.

Validated against scikit-learn in `tests/evaluate/test_metrics.py`. The (N, K) probabilities are read in slices of
rows, so a thousand classes on a hundred thousand pictures need no second array of that size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from graft.evaluate.intervals import (
    Interval,
    balanced,
    effective_number,
    paired_difference,
    proportion,
    share_of,
)

Probabilities = NDArray[np.floating[Any]]

BINS: Final = 15
_SLICE: Final = 1 << 21  # probabilities looked at in one go
_SUM_TOLERANCE: Final = 1e-2  # float16 and 1,000 classes


@dataclass(frozen=True)
class ClassScore:
    """One class. n: pictures of it; predicted: pictures called it; effective_n: n, less for near-duplicates.

    recall: of its pictures, the share called it. precision: of the pictures called it, the share that are.
    """

    name: str
    n: int
    predicted: int
    effective_n: float
    recall: Interval
    precision: Interval


@dataclass(frozen=True)
class ReliabilityBin:
    """Answers given with a probability in (low, high]: how sure they were on average, and how often right."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: Interval


@dataclass(frozen=True)
class Scores:
    """A classifier's scores on `n` labelled pictures, each share 0–1 with its 95 % interval.

    effective_n: how many independent pictures would be as uncertain. top5: None for five classes or fewer.
    balanced: the mean recall of the classes that occur. baseline: how often always answering `majority` is right;
    gain: top1 − baseline, as a paired difference. log_loss: nats. calibration_error: ECE over `reliability`, 0–1.
    cells: (true, predicted, count) for each pair of class indices that occurs, in that order.
    """

    n: int
    effective_n: float
    top1: Interval
    top5: Interval | None
    balanced: Interval
    majority: str
    baseline: Interval
    gain: Interval
    log_loss: float
    calibration_error: float
    reliability: tuple[ReliabilityBin, ...]
    per_class: tuple[ClassScore, ...]
    cells: tuple[tuple[int, int, int], ...]

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """(K, K) counts: row the true class, column the predicted one."""
        counts = np.zeros((len(self.per_class), len(self.per_class)), np.int64)
        for true, predicted, count in self.cells:
            counts[true, predicted] = count
        counts.flags.writeable = False
        return counts

    def cell(self, true: int, predicted: int) -> Interval:
        """Of the pictures of class `true`, the share called `predicted`; worked out when asked for."""
        row = self.per_class[true]
        if row.n == 0:
            return proportion(0, 0)
        return share_of(int(self.confusion[true, predicted]) / row.n, row.effective_n)


def score(
    probabilities: Probabilities,
    labels: NDArray[np.integer[Any]],
    *,
    classes: tuple[str, ...],
    majority: int,
    groups: NDArray[Any] | None = None,
) -> Scores:
    """Score predicted probabilities against the true classes.

    probabilities: (N, K), rows that sum to 1. labels: (N,) class indices. classes: K names in the model's order.
    majority: index of the commonest class of the training split, what one would answer without looking.
    groups: (N,) equal for near-duplicate pictures, which widens every interval as `effective_number` says.
    Of equal probabilities the class that comes first wins, as with argmax.
    Raises ValueError for no pictures, unequal lengths, labels outside the classes, or rows that are no probabilities.
    """
    _check(probabilities, labels, classes, majority, groups)
    answers, sure, of_true, ranks = _read(probabilities, labels)
    correct = ranks == 0
    always = labels == majority
    whole = slice(None)
    k = len(classes)
    cells, counts = np.unique(labels.astype(np.int64) * k + answers, return_counts=True)
    per_class = _per_class(labels, answers, correct, classes, groups)
    reliability = _reliability(sure, correct)
    floor = float(np.finfo(probabilities.dtype).eps)
    return Scores(
        n=len(labels),
        effective_n=_effective(correct, groups, whole),
        top1=_share(correct, groups, whole),
        top5=_share(ranks < 5, groups, whole) if k > 5 else None,
        balanced=balanced(
            [c.recall.value * c.effective_n if c.n else 0.0 for c in per_class], [c.effective_n for c in per_class]
        ),
        majority=classes[majority],
        baseline=_share(always, groups, whole),
        gain=paired_difference(correct, always, groups),
        log_loss=0.0 - float(np.log(np.clip(of_true, floor, 1.0)).mean()),
        calibration_error=sum(b.n * abs(b.confidence - b.accuracy.value) for b in reliability) / len(labels),
        reliability=reliability,
        per_class=per_class,
        cells=tuple((int(c) // k, int(c) % k, int(count)) for c, count in zip(cells, counts, strict=True)),
    )


def _slices(n: int, k: int) -> Iterator[slice]:
    step = max(1, _SLICE // k)
    return (slice(start, start + step) for start in range(0, n, step))


def _check(
    probabilities: Probabilities,
    labels: NDArray[np.integer[Any]],
    classes: tuple[str, ...],
    majority: int,
    groups: NDArray[Any] | None,
) -> None:
    n, k = len(labels), len(classes)
    if n == 0:
        raise ValueError("a score needs at least one labelled picture, got none; give a split that is not empty")
    if k < 2 or probabilities.shape != (n, k) or labels.ndim != 1:
        raise ValueError(
            f"a score needs (N, K) probabilities, (N,) labels and K >= 2 classes, got {probabilities.shape}, "
            f"{labels.shape} and {k}; take the classes from the model that gave the probabilities"
        )
    if not np.issubdtype(probabilities.dtype, np.floating) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"a score needs float probabilities and int labels, got {probabilities.dtype}, {labels.dtype}")
    if groups is not None and groups.shape != (n,):
        raise ValueError(f"groups need one entry a picture, got {groups.shape} for {n} pictures")
    if not 0 <= majority < k or labels.min() < 0 or labels.max() >= k:
        raise ValueError(
            f"labels and majority must be within 0–{k - 1}, got labels {labels.min()}–{labels.max()} and majority "
            f"{majority}; number the classes in the model's order"
        )
    for rows in _slices(n, k):
        part = probabilities[rows]
        fine = (part >= 0).all(1) & (np.abs(part.sum(1, dtype=np.float64) - 1) <= _SUM_TOLERANCE)  # NaN is not fine
        if not fine.all():
            bad = rows.start + int(np.argmin(fine))
            raise ValueError(
                f"probabilities must be finite, 0 or more, and sum to 1 in every row; row {bad} runs from "
                f"{probabilities[bad].min()} to {probabilities[bad].max()} and sums to {probabilities[bad].sum():.4g}; "
                "apply softmax to the logits first"
            )


def _read(
    probabilities: Probabilities, labels: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """One pass over (N, K): the answer, its probability, the true class's probability and its rank from 0, all (N,)."""
    n, k = probabilities.shape
    answers, ranks = np.empty(n, np.int64), np.empty(n, np.int64)
    sure, of_true = np.empty(n), np.empty(n)
    for rows in _slices(n, k):
        part, truth = probabilities[rows], labels[rows]
        own = np.take_along_axis(part, truth[:, None].astype(np.intp), 1)  # (rows, 1)
        before = np.arange(k) < truth[:, None]  # a class of equal probability that comes first
        answers[rows], sure[rows], of_true[rows] = part.argmax(1), part.max(1), own[:, 0]
        ranks[rows] = (part > own).sum(1) + ((part == own) & before).sum(1)
    return answers, sure, of_true, ranks


def _effective(right: NDArray[np.bool_], groups: NDArray[Any] | None, which: NDArray[np.intp] | slice) -> float:
    picked = right[which]
    return float(len(picked)) if groups is None else effective_number(picked.astype(np.float64), groups[which])


def _share(right: NDArray[np.bool_], groups: NDArray[Any] | None, which: NDArray[np.intp] | slice) -> Interval:
    picked = right[which]
    return share_of(float(picked.mean()) if len(picked) else math.nan, _effective(right, groups, which))


def _per_class(
    labels: NDArray[np.integer[Any]],
    answers: NDArray[np.int64],
    correct: NDArray[np.bool_],
    classes: tuple[str, ...],
    groups: NDArray[Any] | None,
) -> tuple[ClassScore, ...]:
    of_class, called = _members(labels, len(classes)), _members(answers, len(classes))
    return tuple(
        ClassScore(
            name=name,
            n=len(mine),
            predicted=len(named),
            effective_n=_effective(correct, groups, mine),
            recall=_share(correct, groups, mine),
            precision=_share(correct, groups, named),
        )
        for name, mine, named in zip(classes, of_class, called, strict=True)
    )


def _members(indices: NDArray[np.integer[Any]], k: int) -> list[NDArray[np.intp]]:
    """For each of `k` classes, the positions at which it stands in `indices`."""
    order = np.argsort(indices, kind="stable")
    return np.split(order, np.searchsorted(indices[order], np.arange(1, k)))


def _reliability(sure: NDArray[np.float64], correct: NDArray[np.bool_]) -> tuple[ReliabilityBin, ...]:
    """`BINS` equal steps of the answer's probability; steps without an answer are left out.

    Source: Guo et al., ICML 2017, §2, eq. 3, arXiv:1706.04599.
    """
    at = np.clip(np.ceil(sure * BINS).astype(np.int64) - 1, 0, BINS - 1)
    n, right = np.bincount(at, minlength=BINS), np.bincount(at, correct, BINS)
    confidence = np.bincount(at, sure, BINS)
    return tuple(
        ReliabilityBin(
            i / BINS, (i + 1) / BINS, int(n[i]), float(confidence[i] / n[i]), proportion(right[i], int(n[i]))
        )
        for i in np.flatnonzero(n).tolist()
    )


def to_json(scores: Scores) -> dict[str, Any]:
    """Plain dicts, lists, numbers and None, ready for `json.dumps`; nan, which JSON lacks, becomes None."""
    plain: dict[str, Any] = _plain(asdict(scores))
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    return value


def from_json(record: dict[str, Any]) -> Scores:
    """The `Scores` that `to_json` wrote. Raises ValueError when a field is missing or unknown."""
    try:
        return Scores(
            **{
                **record,
                **{name: _interval(record[name]) for name in ("top1", "balanced", "baseline", "gain")},
                "top5": None if record["top5"] is None else _interval(record["top5"]),
                "reliability": tuple(
                    ReliabilityBin(**{**b, "accuracy": _interval(b["accuracy"])}) for b in record["reliability"]
                ),
                "per_class": tuple(
                    ClassScore(**{**c, "recall": _interval(c["recall"]), "precision": _interval(c["precision"])})
                    for c in record["per_class"]
                ),
                "cells": tuple((true, predicted, count) for true, predicted, count in record["cells"]),
            }
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"scores need the fields that graft.evaluate.metrics writes, got others: {error}") from error


def _interval(record: dict[str, Any]) -> Interval:
    return Interval(math.nan if record["value"] is None else record["value"], record["low"], record["high"])
