"""The warm-up of a run whose length a budget decides."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from graft.errors import UsageError
from graft.training.loop.step import rate_at
from graft.training.recipe.settings import Recipe


def rate(steps: int, budget: float | None) -> float:
    """The first step's rate, of 1, in a run of so many steps, four an epoch, with half an epoch of warm-up."""
    settings = Recipe(strategy="scratch", warmup=0.5, schedule="constant", budget=budget)
    task = SimpleNamespace(plan=SimpleNamespace(steps=steps, steps_per_epoch=4, rate=1.0), settings=settings)
    state = SimpleNamespace(step=0, plateau=SimpleNamespace(factor=1.0))
    return rate_at(cast(Any, task), cast(Any, state))


def test_a_budget_of_a_step_or_two_shortens_it() -> None:
    assert [rate(steps, 1.0) for steps in (1, 2, 3, 4, 40)] == [1.0, 1.0, 1.0, 0.5, 0.5]


def test_who_asked_for_the_epochs_is_told() -> None:
    assert rate(40, None) == 0.5
    with pytest.raises(UsageError, match="the warm-up must be shorter than the run of 1 steps"):
        rate(1, None)
