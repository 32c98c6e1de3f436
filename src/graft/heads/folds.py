"""Sums over each part of a cross-validation, so that what a fit needs of all other parts is a subtraction away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graft.features.rows import Doubles, Floats, Rows
from graft.runtime.stream import ordered_map

Labels = NDArray[np.int64]
Sums = tuple[Doubles, ...]

_CHUNK: Final = 512  # rows read at a time


def fold_sums(rows: Rows, fold: Labels, sums: Callable[[Floats, Labels], Sums]) -> list[Sums]:
    """`sums` over the rows of each part: one for every fold, in order, and a last one for rows of no fold.

    rows: (N, D). fold: (N,), −1 for rows of no fold. sums: what to add up of rows (n, D) and their positions (n,); it
    runs in threads, a part in each, so that the results have the same bits on any number of cores.
    """

    def over(positions: Labels) -> Sums:
        total = sums(rows.read(positions[:_CHUNK]), positions[:_CHUNK])
        for start in range(_CHUNK, len(positions), _CHUNK):
            chunk = positions[start : start + _CHUNK]
            for held, more in zip(total, sums(rows.read(chunk), chunk), strict=True):
                held += more
        return total

    return list(ordered_map(over, _parts(fold), ahead=1))


def total_without(parts: Sequence[Sums], fold: int | None) -> Sums:
    """The sum over all parts but `fold`, or over all of them."""
    total = tuple(np.zeros_like(array) for array in parts[0])
    for number, part in enumerate(parts):
        if number != fold:
            for held, more in zip(total, part, strict=True):
                held += more
    return total


def held_out_scores(
    rows: Rows, fold: Labels, scorers: Sequence[Callable[[Floats], Floats]], num_classes: int
) -> Floats:
    """Scores (N, K) of each row from the scorer of its own fold, the one that never saw it; NaN for rows of no fold."""
    out = np.full((rows.count, num_classes), np.nan, np.float32)

    def score(number: int) -> None:
        positions = np.flatnonzero(fold == number)
        for start in range(0, len(positions), _CHUNK):
            chunk = positions[start : start + _CHUNK]
            out[chunk] = scorers[number](rows.read(chunk))

    for _ in ordered_map(score, range(len(scorers)), ahead=1):
        pass
    return out


def _parts(fold: Labels) -> list[Labels]:
    return [np.flatnonzero(fold == number) for number in (*range(int(fold.max()) + 1), -1)]
