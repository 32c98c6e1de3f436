"""Multinomial logistic regression on frozen features, many fits at once, streamed from disk where it must be.

Cross-validation needs one fit for every fold and strength. The folds share the features, so they are solved side by
side: one product of the feature matrix with the weights of all folds gives the scores of each, those of its held-out
rows among them. Each fit is its own L-BFGS run [1]; what makes it short is the starting guess of the curvature, the
eigenbasis of the features' covariance, of which every fold's Hessian is nearly a multiple [2].

[1] Nocedal, Wright, Numerical Optimization, 2nd ed., 2006, algorithm 7.4.
[2] Böhning, Multinomial logistic regression algorithm, Ann. Inst. Statist. Math. 44, 1992, eq. 2.7.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graft.features.rows import Doubles, Floats, Rows
from graft.runtime.stream import cores, ordered_map

_MEMORY: Final = 10  # pairs that L-BFGS keeps
_BLOCK_ROWS: Final = 320  # rows of a matrix that one thread multiplies
_LEAST_SPREAD: Final = 1e-10  # of an eigenvalue, beside the largest, that is not rounding


@dataclass(frozen=True)
class Moments:
    """What standardises the features, and the shape of their cloud.

    mean, scale: (D,), scale = standard deviation, or 1 for a feature that never varies. basis (D, R), spread (R,):
    eigenvectors, in columns, and eigenvalues of the standardised features' covariance; those of no variance may be
    left out, for ridge weights have no part along them.
    """

    mean: Floats
    scale: Floats
    basis: Floats
    spread: Floats


@dataclass(frozen=True)
class Fits:
    """One linear classifier for each fold: weights (B, D, K), bias (B, K), on standardised features."""

    weights: Floats
    bias: Floats


def moments(rows: Rows) -> Moments:
    """Mean, standard deviation and eigenbasis of a feature matrix, in one pass over it."""
    if rows.count < rows.width:
        return _moments_of_few(rows)
    total, gram = np.zeros(rows.width), np.zeros((rows.width, rows.width))
    origin = rows.read(slice(0, min(rows.count, 256))).mean(axis=0, keepdims=True)  # near the mean: no cancellation

    def sums(_part: slice, x: Floats) -> tuple[Doubles, Floats]:
        x = x - origin
        return x.sum(axis=0, dtype=np.float64), x.T @ x

    for one_total, one_gram in rows.each(sums, rows.width):
        total += one_total
        gram += one_gram
    shift = total / rows.count
    gram /= rows.count
    gram -= np.outer(shift, shift)  # the covariance
    scale = _scale(np.sqrt(np.maximum(np.diag(gram), 0)), shift + origin[0])
    gram /= np.outer(scale, scale)  # the correlation
    spread, basis = np.linalg.eigh(gram.astype(np.float32))
    return Moments(
        (shift + origin[0]).astype(np.float32),
        scale.astype(np.float32),
        basis,
        np.maximum(spread, 0).astype(np.float32),
    )


def _moments_of_few(rows: Rows) -> Moments:
    """The same of fewer rows than columns, whose (N, N) Gram matrix has the covariance's eigenvalues."""
    x = rows.read(slice(None)).astype(np.float64)
    mean = x.mean(axis=0)
    scale = _scale(x.std(axis=0), mean)
    x = (x - mean) / scale
    spread, directions = np.linalg.eigh(x @ x.T / rows.count)
    held = spread > _LEAST_SPREAD * max(spread[-1], 1.0)
    basis = x.T @ (directions[:, held] / np.sqrt(spread[held] * rows.count))
    return Moments(
        mean.astype(np.float32), scale.astype(np.float32), basis.astype(np.float32), spread[held].astype(np.float32)
    )


def _scale(deviation: Doubles, mean: Doubles) -> Doubles:
    return np.where(deviation > 1e-6 * (1 + np.abs(mean)), deviation, 1.0)


def fit(
    rows: Rows,
    labels: NDArray[np.int64],
    sample_weight: Floats,
    shape: Moments,
    *,
    num_classes: int,
    strength: float,
    start: Fits | None = None,
    tolerance: float = 1e-3,
    max_iterations: int = 100,
) -> Fits:
    """Minimise Σᵢ wᵢ·cross-entropyᵢ + strength/2·‖W‖² for every fold, the bias not penalised.

    labels: (N,). sample_weight: (B, N), the weight of each row in each fold, 0 where it is held out. strength: the
    reciprocal of scikit-learn's C. start: where to begin, such as the fits of a neighbouring strength.
    tolerance: largest gradient allowed, relative to the size of the weights' own penalty and data terms.
    """
    folds, width = len(sample_weight), rows.width
    total = sample_weight.sum(axis=1, dtype=np.float64)  # (B,)
    penalty = (strength / total)[:, None, None].astype(np.float32)
    parameters = np.zeros((folds, width + 1, num_classes), np.float32)
    if start is not None:
        parameters[:, :width], parameters[:, width] = start.weights, start.bias

    def objective(at: Floats) -> tuple[Doubles, Floats]:
        """Mean loss (B,) and gradient (B, D + 1, K) at parameters (B, D + 1, K)."""
        weights = np.ascontiguousarray((at[:, :width] / shape.scale[:, None]).transpose(1, 0, 2)).reshape(width, -1)
        bias = at[:, width].reshape(-1) - shape.mean @ weights  # (B·K,): features stay as they are on the disk
        loss, slope = np.zeros(folds), np.zeros((width, folds * num_classes), np.float32)
        ahead = np.zeros((folds, num_classes), np.float64)

        def sums(part: slice, x: Floats) -> tuple[Doubles, Floats, Doubles]:
            scores = (x @ weights + bias).reshape(-1, folds, num_classes)  # (n, B, K)
            losses = _cross_entropy_in_place(
                scores, labels[part], sample_weight[:, part].T
            )  # scores: now ∂loss/∂scores
            return losses, x.T @ scores.reshape(len(x), -1), scores.sum(axis=0, dtype=np.float64)

        for one_loss, one_slope, one_ahead in rows.each(sums, folds * num_classes, pool=pool):
            loss += one_loss
            slope += one_slope
            ahead += one_ahead
        centred = slope - np.outer(shape.mean, ahead.astype(np.float32))  # (D, B·K)
        by_fold = (centred / shape.scale[:, None]).reshape(width, folds, num_classes).transpose(1, 0, 2)
        gradient = np.empty_like(at)
        gradient[:, :width] = by_fold / total[:, None, None].astype(np.float32) + penalty * at[:, :width]
        gradient[:, width] = ahead / total[:, None]
        loss = loss / total + 0.5 * penalty[:, 0, 0] * np.square(at[:, :width]).sum(axis=(1, 2), dtype=np.float64)
        return loss, gradient

    # the Hessian is about c·covariance + penalty, c the size of p(1 − p), for which [2] has a bound
    curvature = 0.5 / num_classes
    stretch = 1 / (curvature * shape.spread[None, :, None] + penalty)  # (B, R, 1)

    def precondition(gradient: Floats) -> Floats:
        columns = gradient[:, :width].transpose(1, 0, 2).reshape(width, -1)  # (D, B·K): one product for all folds
        turned = _product(shape.basis.T, columns, pool).reshape(-1, folds, num_classes) * stretch.transpose(1, 0, 2)
        back = _product(shape.basis, turned.reshape(len(turned), -1), pool).reshape(width, folds, num_classes)
        return np.concatenate([back.transpose(1, 0, 2), gradient[:, width:] / curvature], axis=1)

    with ThreadPoolExecutor(cores(), thread_name_prefix="graft") as pool:
        best = _lbfgs(objective, parameters, precondition, tolerance=tolerance, max_iterations=max_iterations)
    return Fits(best[:, :width].copy(), best[:, width].copy())


def scores(rows: Rows, fits: Fits, shape: Moments, fold: NDArray[np.int64]) -> Floats:
    """The scores (N, K) that each row gets from the fit of its own `fold` (N,), the one that never saw it."""
    folds, width, classes = fits.weights.shape
    weights = (fits.weights / shape.scale[:, None]).transpose(1, 0, 2).reshape(width, -1)
    bias = fits.bias.reshape(-1) - shape.mean @ weights
    out = np.empty((rows.count, classes), np.float32)

    def own(part: slice, x: Floats) -> None:
        every = (x @ weights + bias).reshape(-1, folds, classes)
        out[part] = every[np.arange(len(x)), fold[part]]

    for _ in rows.each(own, folds * classes):
        pass
    return out


def _product(matrix: Floats, columns: Floats, pool: ThreadPoolExecutor) -> Floats:
    """(A, B) @ (B, M), the rows shared out to threads."""
    blocks = [slice(start, start + _BLOCK_ROWS) for start in range(0, len(matrix), _BLOCK_ROWS)]
    return np.concatenate(list(ordered_map(lambda block: matrix[block] @ columns, blocks, pool=pool)))


def _cross_entropy_in_place(scores: Floats, labels: NDArray[np.int64], weight: Floats) -> Doubles:
    """Sum of weighted losses (B,) of scores (n, B, K), which are replaced by the loss's gradient."""
    index = labels[:, None, None]
    scores -= scores.max(axis=2, keepdims=True)
    own = np.take_along_axis(scores, index, axis=2)[..., 0]  # (n, B)
    np.exp(scores, out=scores)
    normal = scores.sum(axis=2)
    losses = ((np.log(normal) - own) * weight).sum(axis=0, dtype=np.float64)
    scores *= (weight / normal)[..., None]
    np.put_along_axis(scores, index, np.take_along_axis(scores, index, axis=2) - weight[..., None], axis=2)
    return np.asarray(losses)


def _lbfgs(
    objective: Callable[[Floats], tuple[Doubles, Floats]],
    start: Floats,
    precondition: Callable[[Floats], Floats],
    *,
    tolerance: float,
    max_iterations: int,
) -> Floats:
    """Minimise B convex functions side by side, each with its own steps: [1], algorithm 7.4, with backtracking.

    start: (B, …). objective: (B, …) → values (B,) and gradients (B, …). A function stops when what its next step
    promises to gain is below tolerance² of its value, or when rounding leaves nothing to gain.
    """
    axes = tuple(range(1, start.ndim))

    def dot(a: Floats, b: Floats) -> Doubles:
        return np.asarray(np.einsum("bi,bi->b", a.reshape(len(a), -1), b.reshape(len(b), -1)), np.float64)

    def spread_out(per_function: Doubles) -> Floats:
        return np.expand_dims(per_function.astype(np.float32), axes)

    at = start
    value, gradient = objective(at)
    pairs: list[tuple[Floats, Floats, Doubles]] = []  # step, change of the gradient, 1 / their product
    active = np.full(len(start), True)
    for _ in range(max_iterations):
        direction, factors = gradient.copy(), []
        for step, change, weight in reversed(pairs):
            factor = weight * dot(step, direction)
            direction -= spread_out(factor) * change
            factors.append(factor)
        direction = precondition(direction)
        for (step, change, weight), factor in zip(pairs, reversed(factors), strict=True):
            direction += step * spread_out(factor - weight * dot(change, direction))
        promise = dot(gradient, direction)
        active &= promise > np.maximum(tolerance**2, 1e-7) * np.maximum(value, 1e-3)
        if not active.any():
            break
        length = active.astype(np.float64)
        for _ in range(20):
            step = -direction * spread_out(length)
            new_value, new_gradient = objective(at + step)
            poor = (length > 0) & ~(new_value <= value - 1e-4 * length * promise + 1e-7 * np.abs(value))
            if not poor.any():
                break
            length = np.where(poor, length / 4, length)
        active &= ~poor  # no progress left at this precision
        moved = spread_out(active.astype(np.float64))
        step, change = step * moved, (new_gradient - gradient) * moved
        curvature = dot(step, change)
        weight = np.where(curvature > 1e-12, 1 / np.maximum(curvature, 1e-12), 0.0)
        pairs = [*pairs[-(_MEMORY - 1) :], (step, change, weight)]
        at, value, gradient = at + step, np.where(active, new_value, value), gradient + change
    return at
