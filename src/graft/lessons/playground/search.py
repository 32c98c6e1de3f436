"""Four ways to a lower loss, from guessing to stochastic gradients, on a linear classifier of small digits.

The cost of a step is counted in evaluations of the loss on the whole set: 1 for the loss, 3 for the loss with its
gradient (going backwards takes two products where going forwards takes one), and a minibatch its share of that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from graft.lessons.playground.points import Points
from graft.training.recipe.optimizers import optimizer

METHODS: Final = ("random search", "numeric gradient", "full gradient", "minibatch SGD")
BATCH: Final = 64
RATE: Final = 0.5  # of every method that follows a gradient, so that only the price of the gradient differs
DIFFERENCE: Final = 1e-4  # h of the numeric gradient
_GRADIENT_COST: Final = 3.0
_MARKS_PER_DECADE: Final = 12


@dataclass(frozen=True, eq=False)
class Trace:
    """A way down. evaluations, seconds, losses: (n,), at marks evenly spaced on a log scale; accuracy: 0–1, at the end.

    Seconds are those of the steps alone: they are measured, so no two runs give the same.
    """

    method: str
    evaluations: NDArray[np.float64]
    seconds: NDArray[np.float64]
    losses: NDArray[np.float64]
    accuracy: float


class _Problem:
    """Mean cross-entropy of scores Wx + b on all points; weights (K, D + 1), b in the last column, from zero."""

    def __init__(self, points: Points) -> None:
        ones = np.ones((len(points.x), 1))
        self.x = torch.from_numpy(np.concatenate([points.x, ones], axis=1))  # (N, D + 1)
        self.y = torch.from_numpy(points.y)
        self.weights = torch.zeros(int(self.y.max()) + 1, self.x.shape[1], dtype=torch.float64, requires_grad=True)

    def loss(self, rows: Tensor | slice = slice(None)) -> Tensor:
        return functional.cross_entropy(self.x[rows] @ self.weights.T, self.y[rows])

    def accuracy(self) -> float:
        with torch.no_grad():
            return float(((self.x @ self.weights.T).argmax(dim=1) == self.y).double().mean())


def descend(points: Points, method: str, *, budget: int, seed: int = 0) -> Trace:
    """Lower the loss by one of METHODS until its next step would cost more than `budget` evaluations in all."""
    problem = _Problem(points)
    steps = {
        "random search": _random_search,
        "numeric gradient": _numeric_gradient,
        "full gradient": _full_gradient,
        "minibatch SGD": _minibatch_sgd,
    }[method](problem, seed)
    evaluations, seconds, losses = [0.0], [0.0], [float(problem.loss().detach())]
    spent, elapsed, mark = 0.0, 0.0, 0.0
    while True:
        before = time.perf_counter()
        cost = next(steps)
        elapsed += time.perf_counter() - before
        spent += cost
        if spent >= mark or spent + cost > budget:
            evaluations.append(spent)
            seconds.append(elapsed)
            losses.append(float(problem.loss().detach()))
            mark = max(spent, 1.0) * 10 ** (1 / _MARKS_PER_DECADE)
        if spent + cost > budget:
            break
    return Trace(method, np.array(evaluations), np.array(seconds), np.array(losses), problem.accuracy())


def numeric_gradient(loss: Callable[[], Tensor], weights: Tensor) -> Tensor:
    """∂loss/∂weights by differences forward, (f(w + h) − f(w)) / h: one evaluation, and another for every weight."""
    gradient = torch.empty_like(weights)
    with torch.no_grad():
        here = loss()
        for at in range(weights.numel()):
            kept = weights.view(-1)[at].clone()
            weights.view(-1)[at] += DIFFERENCE
            gradient.view(-1)[at] = (loss() - here) / DIFFERENCE
            weights.view(-1)[at] = kept
    return gradient


def _random_search(problem: _Problem, seed: int) -> Iterator[float]:
    """Draw all weights anew, keep the better ones. The loss of those kept is remembered, and costs nothing again."""
    search = optimizer("random-search", [problem.weights], rate=1.0, seed=seed)
    kept, lowest, evaluated = torch.empty(0), 0.0, 0

    def loss() -> float:
        nonlocal evaluated
        if torch.equal(kept, problem.weights):
            return lowest
        evaluated += 1
        return float(problem.loss().detach())

    while True:
        evaluated = 0
        lowest = search.step(loss)
        kept = problem.weights.detach().clone()
        yield float(evaluated)


def _numeric_gradient(problem: _Problem, _seed: int) -> Iterator[float]:
    descent = optimizer("gd", [problem.weights], rate=RATE)
    while True:
        problem.weights.grad = numeric_gradient(problem.loss, problem.weights.detach())
        descent.step()
        yield 1.0 + problem.weights.numel()


def _full_gradient(problem: _Problem, _seed: int) -> Iterator[float]:
    descent = optimizer("gd", [problem.weights], rate=RATE)
    while True:
        descent.zero_grad()
        torch.autograd.backward(problem.loss())
        descent.step()
        yield _GRADIENT_COST


def _minibatch_sgd(problem: _Problem, seed: int) -> Iterator[float]:
    descent = optimizer("sgd", [problem.weights], rate=RATE)
    generator, count = torch.Generator().manual_seed(seed), len(problem.y)
    while True:
        for rows in torch.split(torch.randperm(count, generator=generator), BATCH):
            descent.zero_grad()
            torch.autograd.backward(problem.loss(rows))
            descent.step()
            yield _GRADIENT_COST * len(rows) / count
