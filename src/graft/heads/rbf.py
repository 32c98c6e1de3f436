"""An RBF machine on features of length 1: ridge regression on kernel values of landmarks, one target a class.

Up to LANDMARKS rows each row is a landmark, and the machine is exact: kernel ridge regression, whose coefficients are
one for each row that is learnt from [1]. Beyond that the landmarks are centres of spherical k-means [2], and the
machine is its Nyström approximation [3]: of all functions that the landmarks span it is the best, by the same loss and
the same norm. Landmarks carry no label, so that a row may be one in a fit that holds its label out.

[1] Rifkin, Yeo, Poggio, Regularized least-squares classification, 2003: as accurate as an SVM, and solved at once.
[2] Zhang, Tsang, Kwok, Improved Nyström low-rank approximation and error analysis, ICML 2008, §3.3.
[3] Rudi, Carratino, Rosasco, FALKON: an optimal large scale kernel method, NIPS 2017, eq. 8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from graft.evaluate.calibration import calibrated, log_loss
from graft.features.rows import Doubles, Floats, Rows
from graft.heads.folds import Labels, Sums, fold_sums, held_out_scores, total_without
from graft.heads.head import Fitted, Head
from graft.heads.kernel import Kernel, kernel_values, unit
from graft.progress import Progress, silent
from graft.runtime.stream import ordered_map

LANDMARKS: Final = 2048
"""The most there may be: with EfficientNet-Lite0, 10 MiB of the model and 0.7 % of its multiplications."""
GAMMAS: Final = (0.5, 1.0, 2.0)
"""Widths of the kernel that are tried: γ times the median squared distance between landmarks."""
PENALTIES: Final = (1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6)
"""Ridge penalties that are tried, for each row's weight."""

_ORDER: Final = (1, 0, 2)  # in which the widths are tried: the usual one first
_USUAL: Final = PENALTIES.index(1e-5)  # where the search begins
_MOST_TRIALS: Final = len(GAMMAS) + len(PENALTIES) + 1
_SEARCH_ROWS: Final = 4096  # rows that the search looks at, evenly spread: more than LANDMARKS
_LLOYD: Final = 3  # steps of k-means
_ROWS_A_LANDMARK: Final = 4  # rows that k-means looks at, for each centre
_WORK: Final = 2**38  # rows × landmarks² that are fitted: a few seconds of two cores
_JITTER: Final = 1e-12  # of the trace, added to a matrix that rounding may have made indefinite


def too_much(rows: Rows) -> str | None:
    """Why the RBF machine is not tried on so many rows, or None where it is."""
    if rows.count * min(rows.count, LANDMARKS) ** 2 > _WORK:
        return f"{rows.count:,} pictures are too many for it"
    return None


def fit_rbf(
    rows: Rows,
    labels: Labels,
    fold: Labels,
    *,
    num_classes: int,
    class_weights: Floats | None = None,
    progress: Progress = silent,
) -> Fitted:
    """Fit the machine on every row, with the width and penalty whose held-out log loss is least, and calibrate it.

    rows: (N, D). labels: (N,), 0 … K − 1. fold: (N,), −1 for rows that are trained on and never scored. class_weights:
    (K,), or None for 1 each. Deterministic: no random number is drawn.
    """
    weight = np.ones(rows.count) if class_weights is None else class_weights.astype(np.float64)[labels]  # (N,)
    landmarks = choose_landmarks(rows, labels, LANDMARKS)
    sample = _spread_evenly(rows.count, _SEARCH_ROWS)
    searched = Rows(len(sample), rows.width, lambda part: rows.read(sample[part]))
    exact = landmarks.astype(np.float64)
    between = exact @ exact.T  # (M, M) cosines
    gamma, penalty = _search(
        searched, landmarks, between, labels[sample], fold[sample], weight[sample], num_classes=num_classes,
        progress=progress,
    )  # fmt: skip
    kernel = Kernel(landmarks, gamma)
    mapped = Rows(rows.count, len(landmarks), lambda part: kernel.features(rows.read(part)))
    machines = _machines(mapped, labels, fold, weight, _kernel_values(between, gamma), num_classes)
    held_out, factor = calibrated(machines.held_out(penalty), labels, fold)
    coefficients, bias = machines.solve(None, penalty)
    scaled = np.ascontiguousarray(factor * coefficients.T, np.float32)  # (K, M)
    head = Head("rbf", scaled, (factor * bias).astype(np.float32), kernel)
    return Fitted(head, held_out, f"{len(landmarks):,} landmarks, gamma {gamma:.3g}, penalty {penalty:g}")


def choose_landmarks(rows: Rows, labels: Labels, most: int) -> Floats:
    """Rows of length 1, (M, D): all of them where there are no more than `most`, else `most` centres of k-means.

    rows: (N, D). labels: (N,); the centres start from rows spread evenly over the classes.
    """
    if rows.count <= most:
        return unit(rows.read(slice(None)))
    by_class = np.argsort(labels, kind="stable")
    sample = by_class[_spread_evenly(rows.count, _ROWS_A_LANDMARK * most)]
    x = unit(rows.read(sample))
    near = Rows(len(x), rows.width, lambda part: x[part])
    centres = x[_spread_evenly(len(x), most)]
    for _ in range(_LLOYD):
        nearest = _nearest(near, centres)
        order = np.argsort(nearest, kind="stable")
        filled, starts = np.unique(nearest[order], return_index=True)
        centres = centres.copy()
        centres[filled] = unit(np.add.reduceat(x[order], starts, axis=0))  # a centre that lost its rows stays
    return centres


def _search(
    rows: Rows,
    landmarks: Floats,
    between: Doubles,
    labels: Labels,
    fold: Labels,
    weight: Doubles,
    *,
    num_classes: int,
    progress: Progress,
) -> tuple[float, float]:
    """The gamma and penalty with the least held-out log loss: from the usual ones downhill, one width after another.

    between: (M, M) cosines of the landmarks.
    """
    cosines = np.concatenate(list(rows.each(lambda _, x: unit(x) @ landmarks.T, len(landmarks))))  # (n, M)
    gammas = np.array(GAMMAS) / _median_distance(landmarks)
    judged = fold >= 0
    tried: dict[tuple[int, int], float] = {}

    for width in _ORDER:
        gamma = float(np.float32(gammas[width]))
        mapped = Rows(rows.count, len(landmarks), lambda part, g=gamma: kernel_values(cosines[part], g))  # type: ignore[misc]
        machines = _machines(mapped, labels, fold, weight, _kernel_values(between, gamma), num_classes)

        def is_best(place: int, *, width: int = width, machines: _Exact | _Nystroem = machines) -> bool:
            progress("choosing the width of the kernel", len(tried), _MOST_TRIALS)
            logits, _ = calibrated(machines.held_out(PENALTIES[place]), labels, fold)
            tried[width, place] = log_loss(logits[judged], labels[judged])
            return tried[width, place] == min(tried.values())

        start = min(tried, key=tried.__getitem__)[1] if tried else _USUAL
        if not is_best(start):
            continue
        for step in (1, -1):
            place = start + step
            while 0 <= place < len(PENALTIES) and is_best(place):
                place += step
            if place != start + step:
                break  # it was better that way, so it is worse the other way
    progress("choosing the width of the kernel", _MOST_TRIALS, _MOST_TRIALS)
    width, place = min(tried, key=tried.__getitem__)
    return float(np.float32(gammas[width])), PENALTIES[place]


def _machines(
    rows: Rows, labels: Labels, fold: Labels, weight: Doubles, between: Doubles, num_classes: int
) -> _Exact | _Nystroem:
    """Machines of any penalty, with any one fold held out.

    rows: (N, M) kernel values of landmarks. weight: (N,). between: (M, M) kernel values of the landmarks among
    themselves, which are the rows themselves where they are as many.
    """
    if rows.count == len(between):
        return _Exact(labels, fold, weight, between, num_classes)
    return _Nystroem(rows, labels, fold, weight, between, num_classes)


class _Exact:
    """Kernel ridge regressions on rows that are their own landmarks, (N, N) between them: as `_machines` says."""

    def __init__(self, labels: Labels, fold: Labels, weight: Doubles, between: Doubles, num_classes: int) -> None:
        self._fold, self._weight, self._between = fold, weight, between
        self._target = np.eye(num_classes)[labels]  # (N, K)

    def solve(self, fold: int | None, penalty: float) -> tuple[Doubles, Doubles]:
        """Coefficients (N, K) and bias (K,) as `_Nystroem.solve` has them; those of the fold held out are 0."""
        learnt = np.arange(len(self._fold)) if fold is None else np.flatnonzero(self._fold != fold)
        own, target = self._weight[learnt], self._target[learnt]
        bias = own @ target / own.sum()
        kernel = self._between[np.ix_(learnt, learnt)]  # (n, n)
        kernel[np.diag_indices_from(kernel)] += penalty * own.sum() / own
        coefficients = np.zeros_like(self._target)
        # the kernel is its own transpose, and in LAPACK's order as such: no copy
        coefficients[learnt] = cho_solve(cho_factor(kernel.T, lower=True, overwrite_a=True), target - bias)
        return coefficients, bias

    def held_out(self, penalty: float) -> Floats:
        """As `_Nystroem.held_out`."""
        out = np.full(self._target.shape, np.nan, np.float32)

        def score(fold: int) -> None:
            held = self._fold == fold
            coefficients, bias = self.solve(fold, penalty)
            out[held] = self._between[held] @ coefficients + bias

        for _ in ordered_map(score, range(int(self._fold.max()) + 1), ahead=1):
            pass
        return out


class _Nystroem:
    """Ridge regressions on kernel values of fewer landmarks than rows: as `_machines` says; their sums are kept."""

    def __init__(
        self, rows: Rows, labels: Labels, fold: Labels, weight: Doubles, between: Doubles, num_classes: int
    ) -> None:
        self._rows, self._fold, self._num_classes = rows, fold, num_classes
        self._between = between
        identity = np.eye(num_classes)

        def sums(x: Floats, positions: Labels) -> Sums:
            z, own = x.astype(np.float64), weight[positions]
            target = own[:, None] * identity[labels[positions]]  # (n, K)
            weighted = z if class_weights_are_one else z * np.sqrt(own)[:, None]
            return weighted.T @ weighted, z.T @ target, own @ z, target.sum(axis=0)

        class_weights_are_one = bool((weight == 1).all())
        self._parts = fold_sums(rows, fold, sums)

    def solve(self, fold: int | None, penalty: float) -> tuple[Doubles, Doubles]:
        """Coefficients (M, K) and bias (K,) that minimise Σ wᵢ‖f(xᵢ) − target‖² + penalty·Σw·‖f‖², fold held out."""
        gram, products, sums, counts = total_without(self._parts, fold)
        total = float(counts.sum())
        bias = counts / total  # (K,), the classes' shares: what the machine says far from all landmarks
        gram += penalty * total * self._between
        gram[np.diag_indices_from(gram)] += _JITTER * np.trace(gram)
        target = products - np.outer(sums, bias)
        return np.asarray(cho_solve(cho_factor(gram.T, lower=True, overwrite_a=True), target)), bias

    def held_out(self, penalty: float) -> Floats:
        """Scores (N, K) of each row from the machine that never saw its label; NaN for rows of no fold."""

        def scorer(fold: int) -> Callable[[Floats], Floats]:
            coefficients, bias = (part.astype(np.float32) for part in self.solve(fold, penalty))
            return lambda z: np.asarray(z @ coefficients + bias)

        scorers = list(ordered_map(scorer, range(len(self._parts) - 1), ahead=1))
        return held_out_scores(self._rows, self._fold, scorers, self._num_classes)


def _nearest(rows: Rows, centres: Floats) -> Labels:
    """Which of the centres (M, D) each row (N, D) is nearest to, all of length 1."""
    return np.concatenate(list(rows.each(lambda _, x: (x @ centres.T).argmax(axis=1), len(centres))))


def _spread_evenly(count: int, most: int) -> Labels:
    """Positions 0 … count − 1, or `most` of them."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)


def _kernel_values(cosines: Doubles, gamma: float) -> Doubles:
    """As `kernel_values`, of landmarks among themselves, in float64: in float32 the matrix would not be definite."""
    return np.asarray(np.exp(2 * gamma * (cosines - 1)))


def _median_distance(landmarks: Floats) -> float:
    """The median squared distance of different landmarks (M, D), or of 512 of them."""
    some = landmarks[_spread_evenly(len(landmarks), 512)]
    cosines = (some @ some.T)[np.triu_indices(len(some), 1)]
    return max(2 - 2 * float(np.median(cosines)), 1e-6) if len(cosines) else 1.0
