"""Which pictures are the same picture: exact duplicates, and near-duplicates that would leak across a split.

Two pictures are near-duplicates when the cosine of their fingerprints reaches a threshold, and a group is a connected
component of such pairs. How the threshold was found, on pairs looked at by eye:

- Photos of single objects on one white board (2,527): of the 37 pairs from 0.91 up, 35 show one object in one pose;
  just below, bottle caps of two colours begin to match. So 0.91 is the floor.
- Pictures that are alike as a whole (X-rays, drawings of one thing, clothes cut out on black) match by chance far
  above that. Fisher's transform makes chance scores about normal, so the floor rises to the collection's own median
  plus 8 spreads, and to 0.99 at most.

A component that is large and sparse is a chain of look-alikes, not a picture and its copies: it is cut again at ever
stricter thresholds until each part is small or dense. A clique of copies, however large, stays whole.

What this does not find: mirrored or rotated copies, crops of more than a few per cent, an object seen from elsewhere,
and the frames of one long shot, which only whoever cut the film can group.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from graft.data.facts import FACTS, FINGERPRINT_SIDE

_FLOOR: Final = 0.91  # cosine
_CEILING: Final = 0.99
_SPREADS: Final = 8.0
_NORMAL_P90: Final = 1.2816  # 90th percentile of the standard normal distribution
_FEWEST_FOR_SPREAD: Final = 64  # pictures: below this the copies themselves would set the spread
_SAMPLED_PAIRS: Final = 100_000
_SAMPLED_PICTURES: Final = 10_000  # among them; the first by digest are as good as any

_LARGE: Final = 32  # pictures in a component that may be as sparse as it likes
_DENSE: Final = 0.2  # share of a large component's pairs that must match
_STRICTER: Final = 0.25  # step in Fisher's z
_STRICTEST: Final = 4.0  # z; a cosine of 0.9993

_BLOCK: Final = 2048  # pictures compared with as many others at once: 16 MB of scores


def exact_groups(facts: NDArray[np.void]) -> NDArray[np.int64]:
    """(n,) records of FACTS → (n,) group ids, 0 up in order of first appearance: equal where all pixels are equal.

    Raises ValueError for an array of another dtype.
    """
    _check(facts)
    return _by_first_appearance(_rows(facts["pixels"]))


def near_groups(facts: NDArray[np.void]) -> NDArray[np.int64]:
    """(n,) records of FACTS → (n,) group ids, 0 up in order of first appearance: near and exact duplicates together.

    Which pictures share a group depends on the pictures alone, not on their order. A picture without detail (blank) is
    near nothing; it shares a group with its exact duplicates only. Time grows as n², memory as n.
    Raises ValueError for an array of another dtype.
    """
    _check(facts)
    _, first, exact = np.unique(_rows(facts["pixels"]), return_index=True, return_inverse=True)  # in order of digest
    has_detail = (facts["fingerprint"] != 0).any(axis=1)[first]
    detailed = first[has_detail]
    threshold = _threshold(facts["fingerprint"][detailed[:_SAMPLED_PICTURES]])

    fingerprints, same = np.unique(_rows(facts["fingerprint"][detailed]), return_inverse=True)
    prints = fingerprints.view(np.int8).reshape(len(fingerprints), FINGERPRINT_SIDE**2)  # (m, 256), each once

    roots = np.arange(len(first)) + len(prints)  # blank pictures keep a root of their own
    roots[has_detail] = _components(prints, threshold)[same]
    return _by_first_appearance(roots[exact])


def _check(facts: NDArray[np.void]) -> None:
    if facts.dtype != FACTS or facts.ndim != 1:
        raise ValueError(f"facts must be (n,) records of graft.data.facts.FACTS, got {facts.dtype} of {facts.shape}")


def _rows(table: NDArray[np.uint8] | NDArray[np.int8]) -> NDArray[np.void]:
    """(n, k) bytes → (n,) opaque values that compare and sort as a whole."""
    return np.ascontiguousarray(table).view(np.dtype((np.void, table.shape[1]))).reshape(len(table))


def _by_first_appearance(values: NDArray[np.int64] | NDArray[np.void]) -> NDArray[np.int64]:
    """(n,) values → (n,) ids, 0 for the first value seen, 1 for the next."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[first.argsort()] = np.arange(len(first))
    return rank[inverse]


def _threshold(prints: NDArray[np.int8]) -> float:
    """The cosine from which two of these pictures, (n, 256) in order of their digest, are near-duplicates.

    Pairs are sampled at fixed distances in that order, which is as good as drawing them and needs no generator.
    The spread is read off the 90th percentile, so up to a tenth of all pairs may be copies before it grows.
    """
    n = len(prints)
    if n < _FEWEST_FOR_SPREAD:
        return _FLOOR
    units = prints / _norms(prints)[:, None]  # (n, 256)
    distances = range(1, 1 + min((n - 1) // 2, -(-_SAMPLED_PAIRS // n)))
    scores = np.concatenate([np.einsum("ij,ij->i", units[d:], units[:-d]) for d in distances])
    middle, upper = np.arctanh(np.quantile(scores, [0.5, 0.9]).clip(-_CEILING, _CEILING))
    return float(np.tanh(middle + _SPREADS * (upper - middle) / _NORMAL_P90).clip(_FLOOR, _CEILING))


def _components(prints: NDArray[np.int8], threshold: float) -> NDArray[np.int64]:
    """(m, 256) fingerprints → (m,) roots, one a group, with chains of look-alikes cut."""
    roots, degrees = _linked(prints, threshold)
    z = float(np.arctanh(threshold)) + _STRICTER
    sizes = np.bincount(roots, minlength=len(prints))
    links = np.bincount(roots, weights=degrees, minlength=len(prints))
    sparse = (sizes > _LARGE) & (links < _DENSE * sizes * (sizes - 1.0))
    if z <= _STRICTEST:
        for root in np.flatnonzero(sparse):
            members = np.flatnonzero(roots == root)
            roots[members] = members[_components(prints[members], float(np.tanh(z)))]
    return roots


def _linked(prints: NDArray[np.int8], threshold: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Connected components of the pairs with cosine ≥ threshold, and how many such partners each picture has.

    prints: (m, 256). Returns roots and degrees, (m,) each; a root is the smallest index of its component.
    Products are whole numbers below 256 · 127² < 2²⁴, so float32 holds them exactly whatever order they are summed in.
    """
    m = len(prints)
    roots, degrees = np.arange(m), np.zeros(m, np.int64)
    norms = _norms(prints)
    for top in range(0, m, _BLOCK):
        rows = slice(top, min(top + _BLOCK, m))
        block = prints[rows].astype(np.float32)
        for left in range(top, m, _BLOCK):
            columns = slice(left, min(left + _BLOCK, m))
            scores = block @ prints[columns].T.astype(np.float32)  # (rows, columns)
            scores /= norms[columns]
            match = scores >= (np.float32(threshold) * norms[rows])[:, None]
            if left == top:
                np.fill_diagonal(match, False)
            if not match.any():
                continue
            degrees[rows] += match.sum(axis=1)
            if left != top:
                degrees[columns] += match.sum(axis=0)
            match &= roots[rows, None] != roots[columns]
            i, j = np.nonzero(match)
            _join(roots, i + top, j + left)
    return roots, degrees


def _join(roots: NDArray[np.int64], i: NDArray[np.int64], j: NDArray[np.int64]) -> None:
    """Merge, in place, the components of each pair (i, j); every root stays the smallest index of its component."""
    while len(i):
        low, high = np.minimum(roots[i], roots[j]), np.maximum(roots[i], roots[j])
        np.minimum.at(roots, high, low)
        while not np.array_equal(roots, upper := roots[roots]):
            roots[:] = upper
        apart = roots[i] != roots[j]
        i, j = i[apart], j[apart]


def _norms(prints: NDArray[np.int8]) -> NDArray[np.float32]:
    """(m, 256) → (m,) Euclidean lengths, above 0."""
    squares: NDArray[np.float32] = np.einsum("ij,ij->i", prints, prints, dtype=np.float32)
    return np.sqrt(squares)
