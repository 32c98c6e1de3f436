"""How far a score measured on a few hundred pictures may be from the truth: 95 % intervals for every score we print.

An interval is chosen by its coverage: over many test sets drawn at random, how often does it hold the true value?
Each function says what was measured; `tests/evaluate/test_intervals.py` measures it again. No interval can hold a
given proportion of a few pictures in exactly 95 % of the sets, because counts are whole; for ten pictures the best
that can be had is 95 % on average over the accuracies one may meet.

All of them are score intervals, after Wilson. Where pictures count for more or less than one (classes weighed
equally, near-duplicates in one test split), the interval is that of a plain proportion of as many independent
pictures as would be this uncertain: the *effective number*.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

LEVEL: Final = 0.95
Z: Final = 1.959963984540054  # the normal quantile that leaves (1 - LEVEL) / 2 above it
_BISECTIONS: Final = 52  # halvings of an interval of length 1 down to the spacing of floats


@dataclass(frozen=True)
class Interval:
    """A measured value with the 95 % interval around it, all as fractions: 0–1, or −1–1 for a difference.

    value is nan where there was nothing to measure; low and high are then the whole range.
    """

    value: float
    low: float
    high: float

    def percent(self) -> str:
        """`88.6 % (85.6–91.1)`, or `nothing to measure`."""
        if math.isnan(self.value):
            return "nothing to measure"
        return f"{100 * self.value:.1f} % ({100 * self.low:.1f}–{100 * self.high:.1f})"

    def points(self) -> str:
        """Of a difference: `+3.3 points (95 % interval +2.1 to +4.5)`."""
        return f"{100 * self.value:+.1f} points (95 % interval {100 * self.low:+.1f} to {100 * self.high:+.1f})"


def wilson(share: ArrayLike, n: ArrayLike) -> tuple[Floats, Floats]:
    """The bounds of a proportion, for arrays of any one shape.

    share: the measured proportion, 0–1. n: how many independent pictures it was measured on; need not be whole.
    Returns (low, high) of that shape; (0, 1) where n is 0.
    Measured: accuracies uniform on 0.5–1, 0.9–1 and 0.97–1, 10 to 505 pictures: the truth is held in 93.9–95.6 % of
    sets. Jeffreys' interval holds 94.9–97.2 % there, mid-P and Wilson's with corrected ends up to 98.4 %.
    Source: Wilson, JASA 22 (1927) 209; recommended for small n by Brown, Cai & DasGupta, Stat. Sci. 16 (2001) 101.
    """
    p, size = np.broadcast_arrays(np.asarray(share, np.float64), np.asarray(n, np.float64))
    some = size > 0
    m = np.where(some, size, 1.0)
    centre = (p + Z**2 / (2 * m)) / (1 + Z**2 / m)
    half = Z / (1 + Z**2 / m) * np.sqrt(p * (1 - p) / m + Z**2 / (4 * m**2))
    low = np.where(some & (p > 0), np.maximum(centre - half, 0.0), 0.0)
    high = np.where(some & (p < 1), np.minimum(centre + half, 1.0), 1.0)
    return low, high


def proportion(successes: float, n: float) -> Interval:
    """`successes` of `n` pictures, as a fraction with its Wilson interval; nan in (0, 1) when n is 0.

    Raises ValueError unless 0 <= successes <= n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"a proportion needs 0 <= successes <= n, got {successes} of {n}; count each picture once")
    return share_of(successes / n if n > 0 else math.nan, n)


def share_of(share: float, n: float) -> Interval:
    """A measured `share` (0–1) of `n` independent pictures, which need not be whole, with its Wilson interval."""
    low, high = wilson(share, n)
    return Interval(share, float(low), float(high))


def mean_of_proportions(successes: ArrayLike, n: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """The plain mean of K proportions, as balanced accuracy is of recalls, for any number of test sets at once.

    successes, n: (..., K); a class with n = 0 is left out. Returns (value, low, high) of shape (...); value is nan,
    in (0, 1), where every n is 0.
    The variance of the mean is the sum of the classes' own, each class drawn towards the pooled proportion by two
    pictures so that a class with no mistake still adds some; a Wilson interval at the effective number follows.
    Measured: 2 to 1,000 classes of 3 to 200 pictures, recalls within 0.5–1, 0.9–1 and 0.97–1: the truth is held in
    93.2–95.9 % of sets. MOVER (Zou & Donner 2008) over Wilson's bounds falls to 81 %, stratified Wilson to 51 %,
    when there are many small classes and few mistakes.
    """
    x, size = np.broadcast_arrays(np.asarray(successes, np.float64), np.asarray(n, np.float64))
    present = size > 0  # (..., K)
    m = np.where(present, size, 1.0)
    classes = np.maximum(present.sum(-1), 1)  # (...)
    value = np.where(present, x / m, 0.0).sum(-1) / classes
    pooled = (x.sum(-1) + 0.5) / (size.sum(-1) + 1)
    drawn = (x + 2 * pooled[..., None]) / (m + 2)  # (..., K), never 0 or 1
    variance = np.where(present, drawn * (1 - drawn) / m, 0.0).sum(-1) / classes**2
    centre = np.where(present, drawn, 0.0).sum(-1) / classes
    any_present = present.any(-1)
    effective = np.where(any_present, centre * (1 - centre) / np.where(any_present, variance, 1.0), 0.0)
    low, high = wilson(value, effective)
    return np.where(any_present, value, math.nan), low, high


def balanced(successes: ArrayLike, n: ArrayLike) -> Interval:
    """Balanced accuracy of one test set: `mean_of_proportions` of (K,) counts as an `Interval`."""
    value, low, high = mean_of_proportions(successes, n)
    return Interval(float(value), float(low), float(high))


def tango(only_a: ArrayLike, only_b: ArrayLike, n: ArrayLike) -> tuple[Floats, Floats]:
    """The bounds of the difference between two proportions of the same pictures, for arrays of any one shape.

    only_a, only_b: pictures that only the one, or only the other, got right. n: all pictures, above 0. None need be
    whole. Returns (low, high) of (only_a − only_b) / n, within −1–1, by bisection.
    Measured: 2 to 60 % of pictures judged differently: 95 % of sets from n = 505, 95–98 % at 50, where so few
    differ that counts are coarse. Newcombe's method 10 and Bonett & Price's are wider there.
    Source: Tango, Stat. Med. 17 (1998) 891: the score test inverted, with the restricted estimate of
    the second discordant probability.
    """
    b, c, size = np.broadcast_arrays(*(np.asarray(v, np.float64) for v in (only_a, only_b, n)))

    def score(delta: Floats) -> Floats:
        linear = (2 * size - b + c) * delta - b - c
        constant = -c * delta * (1 - delta)
        restricted = (np.sqrt(np.maximum(linear**2 - 8 * size * constant, 0.0)) - linear) / (4 * size)
        variance = size * (2 * restricted + delta * (1 - delta))
        return np.asarray((b - c - size * delta) / np.sqrt(np.maximum(variance, 1e-12)))

    def crossing(start: float, end: float, quantile: float) -> Floats:
        below, above = np.full(b.shape, start), np.full(b.shape, end)
        for _ in range(_BISECTIONS):  # the score falls as delta grows
            middle = (below + above) / 2
            left = score(middle) > quantile
            below, above = np.where(left, middle, below), np.where(left, above, middle)
        return np.asarray((below + above) / 2)

    return crossing(-1.0, 1.0, Z), crossing(-1.0, 1.0, -Z)


def paired_difference(
    correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_], groups: NDArray[Any] | None = None
) -> Interval:
    """How much more often A is right than B on the same pictures, as a difference of fractions.

    correct_a, correct_b: (N,) bool. groups: (N,) labels of near-duplicates; the interval then widens as
    `effective_number` says. Returns nan in (−1, 1) for no pictures. Raises ValueError when the lengths differ.
    """
    if correct_a.ndim != 1 or correct_a.shape != correct_b.shape:
        raise ValueError(
            f"paired_difference needs two (N,) arrays about the same pictures, got {correct_a.shape} and "
            f"{correct_b.shape}; score both models on one list of pictures"
        )
    n = len(correct_a)
    if n == 0:
        return Interval(math.nan, -1.0, 1.0)
    judged = correct_a.astype(np.float64) - correct_b.astype(np.float64)  # (N,) in {-1, 0, 1}
    shrink = 1.0 if groups is None else effective_number(judged, groups) / n
    only_a, only_b = float((judged > 0).sum()), float((judged < 0).sum())
    low, high = tango(shrink * only_a, shrink * only_b, shrink * n)
    return Interval((only_a - only_b) / n, float(low), float(high))


def effective_number(values: NDArray[Any], groups: NDArray[Any]) -> float:
    """How many independent pictures would be as uncertain as these, some of which are near-duplicates of each other.

    values: (N,), 1 or 0 for right or wrong, or a difference of two such. groups: (N,), equal for near-duplicates.
    Returns between 1 and N, N when no group has two; 0 for no pictures.
    N over the design effect 1 + r(m̄ − 1), with m̄ = Σm²/Σm over group sizes m. r, the correlation within a group, is
    the mean product of residuals over all pairs; it is drawn towards 1 by as much as two further outcomes of the
    rarer kind would weigh, since few mistakes say little about how mistakes cluster.
    Source: the design effect is Kish's, Survey Sampling, 1965, ch. 5; drawing r towards 1 is ours, for coverage.
    """
    if values.shape != groups.shape or values.ndim != 1:
        raise ValueError(f"groups need one entry a picture, got {groups.shape} for {values.shape} pictures")
    n = len(values)
    if n == 0:
        return 0.0
    _, group = np.unique(groups, return_inverse=True)
    sizes = np.bincount(group).astype(np.float64)  # (G,)
    pairs = float((sizes * (sizes - 1)).sum())
    if pairs == 0:
        return float(n)
    mean_size = float((sizes**2).sum()) / n  # of the group that a picture finds itself in
    return n / (1 + _correlation(values.astype(np.float64), group, pairs) * (mean_size - 1))


def _correlation(values: Floats, group: NDArray[np.intp], pairs: float) -> float:
    """The correlation of outcomes within a group, 0–1, drawn towards 1 when few outcomes differ; 1 if none does."""
    residuals = values - values.mean()
    variance = float((residuals**2).mean())
    if variance == 0:
        return 1.0
    _, counts = np.unique(values, return_counts=True)
    rare = int(len(values) - counts.max())
    products = float((np.bincount(group, residuals) ** 2).sum() - (residuals**2).sum())
    measured = products / pairs / variance
    return float(np.clip((measured * (rare + 2) + 2) / (rare + 4), 0.0, 1.0))


def grouped_proportion(correct: NDArray[np.bool_], groups: NDArray[Any]) -> Interval:
    """The share of right answers among pictures that come in groups of near-duplicates.

    correct: (N,) bool; groups: (N,) equal for near-duplicates. Returns the plain share, with the Wilson interval at
    the effective number; without any group of two it is `proportion` to the last bit.
    Measured: 30 to 500 groups of 1 to 6, correlation 0 to 0.8, accuracies 0.5–1 and 0.8–1: the truth is held in
    94.0–97.4 % of sets, the high values where groups turn out not to be alike; the plain interval falls to 70 %.
    """
    share = float(correct.mean()) if len(correct) else math.nan
    return share_of(share, effective_number(correct.astype(np.float64), groups))
