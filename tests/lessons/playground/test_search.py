"""Ways to a lower loss: worked by hand, against torch's own gradient, and in the order the lectures give."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from graft.lessons.playground.points import Points
from graft.lessons.playground.search import METHODS, Trace, descend, numeric_gradient

PAIR = Points(np.array([[1.0], [-1.0]]), np.array([0, 1]))


def first(points: Points, count: int) -> Points:
    return Points(points.x[:count], points.y[:count])


@pytest.fixture(scope="module")
def traces(all_digits: Points) -> dict[str, Trace]:
    digits = first(all_digits, 512)
    return {method: descend(digits, method, budget=1503) for method in METHODS}


def test_a_step_of_the_full_gradient_by_hand() -> None:
    """From zero ∂L/∂W = ((−½), (½)): a step of 0.5 makes the margin ½, so that L goes from ln 2 to ln(1 + e^−½)."""
    trace = descend(PAIR, "full gradient", budget=3)
    assert trace.evaluations.tolist() == [0, 3]
    assert trace.losses.tolist() == pytest.approx([math.log(2), math.log(1 + math.exp(-0.5))], rel=1e-12)
    assert trace.accuracy == 1


def test_the_numeric_gradient_takes_the_same_step_for_an_evaluation_a_weight() -> None:
    trace = descend(PAIR, "numeric gradient", budget=5)
    assert trace.evaluations.tolist() == [0, 5]  # the loss itself, and one for each of 4 weights
    assert trace.losses[-1] == pytest.approx(math.log(1 + math.exp(-0.5)), abs=1e-4)


def test_differences_forward_by_hand() -> None:
    """f = w₀² + 3w₁ at (2, 5): ((2 + h)² − 4) / h = 4 + h, and 3."""
    weights, calls = torch.tensor([[2.0, 5.0]], dtype=torch.float64), []

    def loss() -> torch.Tensor:
        calls.append(None)
        return weights[0, 0] ** 2 + 3 * weights[0, 1]

    assert numeric_gradient(loss, weights)[0].tolist() == pytest.approx([4.0001, 3], abs=1e-9)
    assert weights.tolist() == [[2, 5]]
    assert len(calls) == 3


def test_the_numeric_gradient_is_near_the_analytic_one(all_digits: Points) -> None:
    digits = first(all_digits, 64)
    x, y = torch.from_numpy(digits.x), torch.from_numpy(digits.y)
    weights = torch.randn(10, 49, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = torch.nn.functional.cross_entropy(x @ weights.T, y)
    (exact,) = torch.autograd.grad(loss, weights)
    numeric = numeric_gradient(lambda: torch.nn.functional.cross_entropy(x @ weights.T, y), weights.detach())
    torch.testing.assert_close(numeric, exact, atol=1e-5, rtol=0)


def test_all_start_at_the_loss_of_chance_and_keep_to_the_budget(traces: dict[str, Trace]) -> None:
    for trace in traces.values():
        assert trace.losses[0] == pytest.approx(math.log(10))
        assert 0.9 * 1503 < trace.evaluations[-1] <= 1503
        assert (np.diff(trace.evaluations) > 0).all()
        assert (np.diff(trace.seconds) > 0).all()


def test_random_search_only_ever_gets_better_and_pays_for_each_draw(traces: dict[str, Trace]) -> None:
    trace = traces["random search"]
    assert (np.diff(trace.losses) <= 0).all()
    assert trace.losses[-1] < trace.losses[0]
    assert set(np.unique(trace.evaluations % 1).tolist()) == {0.0}


def test_for_as_many_evaluations_each_way_ends_lower_than_the_one_before(traces: dict[str, Trace]) -> None:
    numeric, full, minibatch = (traces[method] for method in METHODS[1:])
    assert minibatch.losses[-1] < full.losses[-1] < numeric.losses[-1]
    assert minibatch.losses[-1] < 0.25 * traces["random search"].losses[-1]
    assert traces["random search"].accuracy < 0.3 < 0.85 < minibatch.accuracy


def test_a_way_down_is_the_same_each_time(all_digits: Points) -> None:
    digits = first(all_digits, 128)
    for method in ("random search", "minibatch SGD"):
        once, again = (descend(digits, method, budget=40, seed=5) for _ in range(2))
        np.testing.assert_array_equal(once.losses, again.losses)
        assert (descend(digits, method, budget=40, seed=6).losses[1:] != once.losses[1:]).any()
