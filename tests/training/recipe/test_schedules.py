"""Every schedule against its formula at every step of a run, and torch's where it has it; the plateau rule by hand."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable

import pytest
import torch

from graft.errors import UsageError
from graft.training.recipe.schedules import SCHEDULES, Plateau, Shape, factor, find

PER_EPOCH = 7
EPOCHS = 100
STEPS = EPOCHS * PER_EPOCH

OF_THE_SHARE: dict[str, Callable[[float], float]] = {  # of the run that is done, 0–1
    "constant": lambda _: 1.0,
    "plateau": lambda _: 1.0,
    "sqrt": lambda p: (1 - p) ** 0.5,
    "exponential": lambda p: math.e ** (-5 * p),
    "cosine": lambda p: 0.5 * (1 + math.cos(math.pi * p)),
    "linear": lambda p: 1 - p,
    "linear-flat": lambda p: (1 - p / 0.8) + p / 0.8 * 0.01 if p < 0.8 else 0.01,
}
OF_THE_EPOCH: dict[str, Callable[[float], float]] = {  # epochs done, of 100, with their fraction
    "step": lambda e: 1.0 if e < 30 else 0.1 if e < 60 else 0.01 if e < 90 else 0.001,
    "step-every": lambda e: 1.0 if e < 30 else 0.1 if e < 60 else 0.01 if e < 90 else 0.001,
    "geometric": lambda e: 0.97 ** math.floor(e),
    "inverse": lambda e: 1 / (e + 1),
    "inverse-sqrt": lambda e: (e + 1) ** -0.5,
}


def of(name: str, step: int, *, warmup_steps: int = 0, shape: Shape | None = None) -> float:
    return factor(name, step=step, steps=STEPS, steps_per_epoch=PER_EPOCH, warmup_steps=warmup_steps, shape=shape)


def test_every_schedule_is_held_against_a_formula() -> None:
    assert {*OF_THE_SHARE, *OF_THE_EPOCH, "one-cycle"} == {schedule.name for schedule in SCHEDULES}


@pytest.mark.parametrize("name", [*OF_THE_SHARE, *OF_THE_EPOCH])
def test_every_step_is_the_formulas(name: str) -> None:
    for t in range(STEPS + 1):
        expected = OF_THE_SHARE[name](t / STEPS) if name in OF_THE_SHARE else OF_THE_EPOCH[name](t / PER_EPOCH)
        assert of(name, t) == pytest.approx(expected, rel=1e-12, abs=1e-15), t


@pytest.mark.parametrize("name", [*OF_THE_SHARE, *OF_THE_EPOCH])
def test_after_a_warm_up_the_schedule_begins_at_its_beginning(name: str) -> None:
    warmup = 3 * PER_EPOCH
    assert [of(name, t, warmup_steps=warmup) for t in range(warmup)] == pytest.approx(
        [(t + 1) / warmup for t in range(warmup)]
    )
    for t in range(warmup, STEPS + 1):
        rest = factor(name, step=t - warmup, steps=STEPS - warmup, steps_per_epoch=PER_EPOCH)
        assert of(name, t, warmup_steps=warmup) == rest
    assert of(name, warmup, warmup_steps=warmup) == 1.0


def by_torch(make: Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler], steps: int) -> list[float]:
    """The rates that one of torch's own schedulers gives to `steps` steps at a base rate of 1."""
    sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler, rates = make(sgd), []
    for _ in range(steps):
        rates.append(sgd.param_groups[0]["lr"])
        sgd.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("steps", [STEPS, 50, 11])
def test_one_cycle_is_torchs(steps: int) -> None:
    def one_cycle(sgd: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.OneCycleLR(sgd, max_lr=1.0, total_steps=steps + 1, cycle_momentum=False)

    def longer(step: int) -> float:  # torch steps its scheduler once more after the last rate
        return factor("one-cycle", step=step, steps=steps + 1, steps_per_epoch=PER_EPOCH)

    assert [longer(step) for step in range(steps)] == pytest.approx(by_torch(one_cycle, steps), rel=1e-9, abs=1e-12)


def test_one_cycle_rises_from_a_25th_to_one_and_ends_at_its_last() -> None:
    rates = [of("one-cycle", step) for step in range(STEPS)]
    assert rates[0] == pytest.approx(1 / 25)
    assert max(rates) == rates[round(0.3 * STEPS) - 1] == 1.0
    assert rates[-1] == of("one-cycle", STEPS) == pytest.approx(1 / 250_000)


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_one_cycle_of_a_few_steps_stays_in_range(steps: int) -> None:
    for step in range(steps + 1):
        assert 0 < factor("one-cycle", step=step, steps=steps, steps_per_epoch=1) <= 1


def test_cosine_and_steps_are_torchs() -> None:
    lr = torch.optim.lr_scheduler
    cosine = by_torch(lambda sgd: lr.CosineAnnealingLR(sgd, T_max=STEPS), STEPS)
    assert [of("cosine", t) for t in range(STEPS)] == pytest.approx(cosine, abs=1e-9)
    steps = by_torch(lambda sgd: lr.MultiStepLR(sgd, [30 * PER_EPOCH, 60 * PER_EPOCH, 90 * PER_EPOCH]), STEPS)
    assert [of("step", t) for t in range(STEPS)] == pytest.approx(steps)


def test_constants_can_be_chosen() -> None:
    shape = Shape(drop=0.5, milestones=(0.5,), every=10, decay=0.9, exponent=1.0, flat_from=0.5, floor=0.2)
    half = STEPS // 2
    assert [of("step", t, shape=shape) for t in (half - 1, half)] == [1.0, 0.5]
    assert of("step-every", 25 * PER_EPOCH, shape=shape) == 0.25
    assert of("geometric", 2 * PER_EPOCH, shape=shape) == pytest.approx(0.81)
    assert of("exponential", STEPS, shape=shape) == pytest.approx(1 / math.e)
    assert of("linear-flat", half // 2, shape=shape) == pytest.approx(0.6)
    assert of("linear-flat", half, shape=shape) == of("linear-flat", STEPS, shape=shape) == 0.2


def test_plateau_by_hand() -> None:
    """Patience 1: the second epoch in a row without a lower loss cuts the rate, and the count begins anew."""
    rule = Plateau(Shape(patience=1, drop=0.1, threshold=0.1))
    losses = [1.0, 0.95, 0.85, 0.9, math.nan, 0.9, 0.7, 0.7, 0.7]
    #         best  not 10 % lower  best  1   2: cut    1  best   1    2: cut
    expected = [1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.1, 0.01]
    assert [rule.update(loss) for loss in losses] == pytest.approx(expected)
    assert rule.state_dict() == {"factor": pytest.approx(0.01), "best": 0.7, "waited": 0}


def test_plateau_is_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    losses = (torch.rand(200, generator=generator) / torch.arange(1, 201).sqrt()).tolist()
    sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(sgd, factor=0.5, patience=3, threshold=1e-4, eps=0.0)
    rule = Plateau(Shape(drop=0.5, patience=3))
    for loss in losses:
        theirs.step(loss)
        assert rule.update(loss) == pytest.approx(sgd.param_groups[0]["lr"])
    assert rule.factor < 0.5**5, "the rate was cut more than once"


def test_plateau_taken_up_from_its_state_goes_on_as_before() -> None:
    losses = [1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.6, 0.4, 0.4, 0.4, 0.4, 0.4]
    for stop in range(len(losses)):
        whole, first, second = Plateau(), Plateau(), Plateau()
        expected = [whole.update(loss) for loss in losses]
        got = [first.update(loss) for loss in losses[:stop]]
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert got + [second.update(loss) for loss in losses[stop:]] == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"drop": 0.0}, "drop of a schedule must be above 0 and at most 1, got 0.0"),
        ({"milestones": (0.6, 0.3)}, "milestones of a schedule must be rising shares of the run between 0 and 1"),
        ({"milestones": (0.5, 1.0)}, "milestones of a schedule must be rising"),
        ({"every": 0}, "every of a schedule must be at least 1 epoch, got 0"),
        ({"exponent": math.nan}, "exponent of a schedule must be a number above 0, got nan"),
        ({"flat_from": 1.0}, "flat_from of a schedule must be between 0 and 1, got 1.0"),
        ({"patience": -1}, "patience of a schedule must be at least 0 epochs, got -1"),
        ({"threshold": 1.0}, "threshold of a schedule must be from 0 to below 1, got 1.0"),
    ],
)
def test_bad_constants_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        Shape(**values)  # type: ignore[arg-type]


def test_a_step_outside_the_run_and_a_long_warm_up_are_refused() -> None:
    with pytest.raises(ValueError, match=f"got step {STEPS + 1}, steps {STEPS}, steps_per_epoch {PER_EPOCH}"):
        of("cosine", STEPS + 1)
    with pytest.raises(ValueError, match="got step -1"):
        of("cosine", -1)
    with pytest.raises(UsageError, match=f"the warm-up must be shorter than the run of {STEPS} steps, got {STEPS}"):
        of("cosine", 0, warmup_steps=STEPS)


def test_the_nearest_name_is_offered() -> None:
    with pytest.raises(UsageError, match=r"no schedule 'cosin', there are constant.*did you mean 'cosine'"):
        find("cosin")
