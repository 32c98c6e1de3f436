"""Nearest neighbours among rows of numbers, and how often a neighbour is of one's own class: precision at k.

All of it is exact and streamed: memory holds a slice of the rows at a time, however many there are. One query is
compared by plain differences, so that an equal row is at distance 0. Many queries at once are compared by one matrix
product, ‖q‖² + ‖x‖² − 2q·x, whose rounding is some 1e-7 of the squared lengths. Rows at one distance come in the order
they stand in.

The cosine distance 1 − cos(q, x) is half the squared Euclidean distance of the two at unit length, so one code serves
both. A row of zeros has no direction; it is then at ½ from every other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from graft.evaluate.intervals import Interval, effective_number, share_of
from graft.features.rows import Rows
from graft.progress import Progress, silent

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Codes = NDArray[np.uint64]  # a squared distance and a position in one number: they sort as the pair does
Metric = Literal["l2", "cosine"]

METRICS: Final[tuple[Metric, ...]] = ("l2", "cosine")
_QUERY_BYTES: Final = 64 * 1024**2  # of queries that are compared with all rows in one pass
_NONE: Final = np.uint64(2**64 - 1)  # the code of a row that is left out: behind every other


@dataclass(frozen=True)
class Neighbours:
    """The rows nearest to a query: positions (k,), the nearest first, and their distances (k,) ≥ 0."""

    positions: Ints
    distances: Floats


@dataclass(frozen=True)
class Precision:
    """The mean share (0–1) of the k nearest that have the query's own class, with its 95 % interval."""

    k: int
    share: Interval


def nearest(rows: Rows, query: Floats, k: int, *, metric: Metric, left_out: Ints | None = None) -> Neighbours:
    """The k rows nearest to one query; fewer where there are no more.

    rows: (N, D), fewer than 2³². query: (D,). left_out: positions of rows that do not count.
    """
    place = placed(query[None], metric)
    hidden = np.zeros(rows.count, np.bool_)
    hidden[left_out if left_out is not None else []] = True

    def best(part: slice, x: Floats) -> Codes:
        squares = np.square(placed(x, metric) - place).sum(axis=1)  # (n,)
        codes = _codes(squares, part.start)
        codes[hidden[part]] = _NONE
        return _smallest(codes[None], k)

    found = _merged(rows.each(best, rows.width), k)[0]
    found = np.sort(found[found != _NONE])
    return Neighbours(_positions(found), distances_of(_squares(found), metric))


def all_nearest(
    rows: Rows, queries: Ints, groups: Ints, k: int, *, metric: Metric, progress: Progress = silent
) -> Ints:
    """The k rows nearest to each of many rows, itself and its near-duplicates left out: (q, k) positions.

    rows: (N, D), fewer than 2³². queries: (q,) positions of rows. groups: (N,), equal for near-duplicates.
    Raises ValueError where a query has fewer than k rows outside its group.
    """
    fewest = len(groups) - int(np.bincount(groups).max(initial=0))
    if not 1 <= k <= fewest:
        raise ValueError(f"k must be 1 to {fewest}, the rows outside the largest group, got {k}; ask for fewer")
    step = max(1, _QUERY_BYTES // (4 * rows.width))
    found = []
    with threadpool_limits(limits=1, user_api="blas"):  # the slices have threads of their own
        for start in range(0, len(queries), step):
            chosen = queries[start : start + step]
            found.append(np.sort(_block(rows, chosen, groups, k, metric), axis=1))
            progress("comparing pictures", min(start + step, len(queries)), len(queries))
    return _positions(np.concatenate(found))


def precision_at(found: Ints, queries: Ints, labels: Ints, groups: Ints, k: int) -> Precision:
    """Precision at k of the neighbours `found` (q, ≥ k) of the rows `queries` (q,).

    labels: (N,). groups: (N,), equal for near-duplicates, which count together as what they are worth. The interval is
    that of a share of whole pictures: for k above 1, where a picture may be right in part, it is wider than it need be.
    """
    right = (labels[found[:, :k]] == labels[queries][:, None]).mean(axis=1)  # (q,)
    return Precision(k, share_of(float(right.mean()), effective_number(right, groups[queries])))


def chance(queries: Ints, labels: Ints, groups: Ints) -> float:
    """Precision at any k (0–1) of neighbours that are drawn at random from outside the query's group."""
    of_class = np.bincount(labels)[labels[queries]]
    in_group = np.bincount(groups)[groups[queries]]
    pairs = groups * (int(labels.max()) + 1) + labels  # one number for a group and a class
    _, pair, counts = np.unique(pairs, return_inverse=True, return_counts=True)
    of_both = counts[pair[queries]]
    return float(((of_class - of_both) / (len(labels) - in_group)).mean())


def placed(x: Floats, metric: Metric) -> Floats:
    """Rows (n, D) where their Euclidean distance says what the metric does: at unit length for the cosine."""
    if metric == "l2":
        return x
    lengths = np.sqrt(np.square(x).sum(axis=1, keepdims=True))  # (n, 1)
    lengths[lengths == 0] = 1
    return np.asarray(x / lengths, np.float32)


def distances_of(squares: Floats, metric: Metric) -> Floats:
    """Squared Euclidean distances of placed rows → distances in the metric."""
    return np.asarray(np.sqrt(squares) if metric == "l2" else squares / 2, np.float32)


def _block(rows: Rows, queries: Ints, groups: Ints, k: int, metric: Metric) -> Codes:
    """(q,) positions → (q, k) codes of their nearest, in no order."""
    q = placed(rows.read(queries), metric)  # (q, D)
    lengths = np.square(q).sum(axis=1)  # (q,)
    own = groups[queries]

    def best(part: slice, x: Floats) -> Codes:
        x = placed(x, metric)  # (n, D)
        squares = lengths[:, None] + np.square(x).sum(axis=1) - 2 * (q @ x.T)  # (q, n)
        codes = _codes(np.abs(np.maximum(squares, 0)), part.start)  # the bits of −0 would sort last
        codes[own[:, None] == groups[part]] = _NONE
        return _smallest(codes, k)

    return _merged(rows.each(best, len(queries)), k)


def _merged(parts: Iterator[Codes], k: int) -> Codes:
    """The k smallest codes of each query over all slices: (q, ≤ k), in no order."""
    best = next(parts)
    for more in parts:
        best = _smallest(np.concatenate([best, more], axis=1), k)
    return best


def _smallest(codes: Codes, k: int) -> Codes:
    return np.partition(codes, k - 1, axis=1)[:, :k] if codes.shape[1] > k else codes


def _codes(squares: Floats, start: int) -> Codes:
    """Squares (…, n) ≥ 0 of the rows from `start` on → codes: bits of floats that are not negative sort as they do."""
    positions = np.arange(start, start + squares.shape[-1], dtype=np.uint64)
    bits = np.ascontiguousarray(squares, np.float32).view(np.uint32).astype(np.uint64)
    return (bits << np.uint64(32)) | positions


def _positions(codes: Codes) -> Ints:
    return (codes & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _squares(codes: Codes) -> Floats:
    return (codes >> np.uint64(32)).astype(np.uint32).view(np.float32)
