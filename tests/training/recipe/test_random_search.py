"""Random search: what is drawn, what is kept, and that a run taken up again draws the same."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from graft.training.recipe.optimizers import optimizer
from graft.training.recipe.random_search import RandomSearch


def test_losses_never_rise_and_the_weights_kept_are_the_best_seen() -> None:
    target = torch.tensor([[0.3, -0.2], [0.1, 0.4]])
    w = nn.Parameter(torch.zeros(2, 2))
    search = RandomSearch([w], rate=0.5, seed=3)
    tried: list[tuple[float, Tensor]] = []

    def loss() -> Tensor:
        tried.append((float((w - target).square().sum().detach()), w.detach().clone()))
        return (w - target).square().sum()

    losses = [search.step(loss) for _ in range(200)]
    assert losses == sorted(losses, reverse=True)
    best = min(tried, key=lambda each: each[0])
    assert losses[-1] == best[0] < 0.05 < tried[0][0] == pytest.approx(0.3)
    assert torch.equal(w.detach(), best[1])
    assert len(tried) == 400


def test_draws_keep_the_scale_of_what_passes_through() -> None:
    kernel, matrix, bias = nn.Parameter(torch.zeros(64, 8, 5, 5)), nn.Parameter(torch.zeros(300, 50)), torch.ones(7)
    search = RandomSearch([kernel, matrix, nn.Parameter(bias)], rate=0.5)
    losses = iter([1.0, 0.0])
    search.step(lambda: next(losses))
    assert float(kernel.detach().std()) == pytest.approx(0.5 / math.sqrt(8 * 25), rel=0.03)
    assert float(matrix.detach().std()) == pytest.approx(0.5 / math.sqrt(50), rel=0.03)
    assert abs(float(kernel.detach().mean())) < 0.001
    assert torch.equal(bias, torch.ones(7)), "vectors stay"


def test_a_worse_draw_is_taken_back_bit_for_bit_and_nan_never_wins() -> None:
    start = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    for before, after, kept in ((1.0, 2.0, True), (1.0, 1.0, True), (1.0, math.nan, True), (math.nan, 1.0, False)):
        w = nn.Parameter(start.clone())
        losses = iter([before, after])
        assert RandomSearch([w], rate=1.0).step(lambda losses=losses: next(losses)) == (before if kept else after)
        assert torch.equal(w.detach(), start) is kept


def test_a_run_taken_up_from_its_state_gives_the_same_bits() -> None:
    def advance(w: nn.Parameter, search: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            search.step(lambda: (w - 0.1).square().sum())

    w, resumed = nn.Parameter(torch.zeros(3, 3)), nn.Parameter(torch.zeros(3, 3))
    search = optimizer("random-search", [w], rate=1.0, seed=5)
    advance(w, search, 30)
    again = optimizer("random-search", [resumed], rate=1.0, seed=6)
    again.load_state_dict(search.state_dict())
    with torch.no_grad():
        resumed.copy_(w)
    advance(w, search, 30)
    advance(resumed, again, 30)
    assert torch.equal(w, resumed)


def test_seeds_tries_and_groups_draw_differently() -> None:
    draws = []
    for seed in (0, 1):
        first, second = nn.Parameter(torch.zeros(4, 4)), nn.Parameter(torch.zeros(4, 4))
        search = RandomSearch([{"params": [first]}, {"params": [second]}], rate=1.0, seed=seed)
        for best in (2.0, 1.0):
            losses = iter([best, best - 1])
            search.step(lambda losses=losses: next(losses))
            draws += [first.detach().clone(), second.detach().clone()]
    assert len({tuple(draw.flatten().tolist()) for draw in draws}) == len(draws) == 8


def test_torchs_own_generator_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    w = nn.Parameter(torch.zeros(3, 3))
    RandomSearch([w], rate=1.0).step(lambda: w.square().sum())
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_closure_is_needed() -> None:
    with pytest.raises(ValueError, match="needs a closure"):
        RandomSearch([nn.Parameter(torch.zeros(2, 2))], rate=1.0).step()
