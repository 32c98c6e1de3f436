"""Learning-rate schedules: each a pure function of the step, and the plateau rule, which has a state. No torch.

A schedule gives a factor that multiplies the base rate α₀. Time is counted from the end of the warm-up: t steps of T,
or `epoch` epochs (a fraction within an epoch). Warm-up is linear and may precede any schedule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypedDict

from graft.errors import UsageError, nearest, shown

PLATEAU: Final = "plateau"


@dataclass(frozen=True)
class Shape:
    """The constants of the schedules; each reads its own.

    drop: what `step`, `step-every` and `plateau` multiply the rate by. milestones: where `step` drops, as shares of the
    run. every: epochs between the drops of `step-every`. decay: what `geometric` multiplies by after each epoch.
    exponent: k of `exponential`, e^(−k) at the end of the run. flat_from: where `linear-flat` stops falling, a share of
    the run (τ); floor: its last factor (ε_τ / ε₀). peak_at: where `one-cycle` is highest, a share of the run; start,
    finish: its first and last factor. patience: epochs without improvement that `plateau` waits for; threshold: how
    much lower, relatively, a loss must be to count as one.
    Raises UsageError for a constant out of its range.
    """

    drop: float = 0.1
    milestones: tuple[float, ...] = (0.3, 0.6, 0.9)
    every: int = 30
    decay: float = 0.97
    exponent: float = 5.0
    flat_from: float = 0.8
    floor: float = 0.01
    peak_at: float = 0.3
    start: float = 1 / 25
    finish: float = 1 / 250_000
    patience: int = 3
    threshold: float = 1e-4

    def __post_init__(self) -> None:
        for name in ("drop", "decay", "floor", "start", "finish"):
            _refuse_unless(0 < getattr(self, name) <= 1, name, getattr(self, name), "above 0 and at most 1")
        for name in ("flat_from", "peak_at"):
            _refuse_unless(0 < getattr(self, name) < 1, name, getattr(self, name), "between 0 and 1")
        rising = all(a < b for a, b in zip((0.0, *self.milestones), (*self.milestones, 1.0), strict=True))
        _refuse_unless(rising, "milestones", self.milestones, "rising shares of the run between 0 and 1")
        _refuse_unless(self.every >= 1, "every", self.every, "at least 1 epoch")
        _refuse_unless(0 < self.exponent < math.inf, "exponent", self.exponent, "a number above 0")
        _refuse_unless(self.patience >= 0, "patience", self.patience, "at least 0 epochs")
        _refuse_unless(0 <= self.threshold < 1, "threshold", self.threshold, "from 0 to below 1")


@dataclass(frozen=True)
class Moment:
    """Where a run stands: `t` of `T` steps after the warm-up, which are `epoch` epochs (with their fraction)."""

    t: int
    T: int
    epoch: float

    @property
    def share(self) -> float:
        """t / T, 0–1."""
        return self.t / self.T


def _constant(_moment: Moment, _shape: Shape) -> float:
    return 1.0


def _step(moment: Moment, shape: Shape) -> float:
    return shape.drop ** sum(moment.share >= milestone for milestone in shape.milestones)


def _step_every(moment: Moment, shape: Shape) -> float:
    return shape.drop ** (int(moment.epoch) // shape.every)


def _geometric(moment: Moment, shape: Shape) -> float:
    return shape.decay ** int(moment.epoch)


def _sqrt(moment: Moment, _shape: Shape) -> float:
    return math.sqrt(1 - moment.share)


def _inverse(moment: Moment, _shape: Shape) -> float:
    return 1 / (1 + moment.epoch)


def _exponential(moment: Moment, shape: Shape) -> float:
    return math.exp(-shape.exponent * moment.share)


def _cosine(moment: Moment, _shape: Shape) -> float:
    return (1 + math.cos(math.pi * moment.share)) / 2


def _linear(moment: Moment, _shape: Shape) -> float:
    return 1 - moment.share


def _inverse_sqrt(moment: Moment, _shape: Shape) -> float:
    return 1 / math.sqrt(1 + moment.epoch)


def _linear_flat(moment: Moment, shape: Shape) -> float:
    done = min(1.0, moment.share / shape.flat_from)  # k / τ
    return (1 - done) + done * shape.floor


def _one_cycle(moment: Moment, shape: Shape) -> float:
    last = moment.T - 1  # the step of the last factor
    peak = max(0.0, shape.peak_at * moment.T - 1)
    if moment.t <= peak:
        return _half_cosine(shape.start, 1.0, moment.t / peak if peak else 1.0)
    return _half_cosine(1.0, shape.finish, min(1.0, (moment.t - peak) / (last - peak)) if last > peak else 1.0)


def _half_cosine(first: float, last: float, done: float) -> float:
    """From `first` to `last` along half a cosine; done: 0–1."""
    return last + (first - last) * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True)
class Schedule:
    """A named schedule. formula: of the rate α, for people; source: where it is from; curve: the factor."""

    name: str
    formula: str
    summary: str
    source: str
    curve: Callable[[Moment, Shape], float]


SCHEDULES: Final = (
    Schedule("constant", "α = α₀", "one rate from first to last", "the lectures", _constant),
    Schedule(
        "step",
        "α = α₀ · 0.1ⁿ, n of the shares 0.3, 0.6 and 0.9 of the run passed",
        "×0.1 at epochs 30, 60 and 90 of 100, scaled to the run",
        "the lectures; He et al., CVPR 2016, §3.4",
        _step,
    ),
    Schedule(
        "step-every",
        "α = α₀ · 0.1^⌊epoch / 30⌋",
        "×0.1 after every 30 epochs",
        "the lectures; Goyal et al., 2017, §5.1, arXiv:1706.02677",
        _step_every,
    ),
    Schedule("geometric", "α = α₀ · 0.97^⌊epoch⌋", "×0.97 after every epoch", "the lectures", _geometric),
    Schedule("sqrt", "α = α₀ · √(1 − t/T)", "slowly down, steeply at the end", "the lectures", _sqrt),
    Schedule(
        "inverse",
        "α = α₀ / (1 + epoch)",
        "1/t, t = 1 in the beginning and one more with each epoch",
        "the lectures; Robbins and Monro, Ann. Math. Stat. 22, 1951",
        _inverse,
    ),
    Schedule(
        "exponential",
        "α = α₀ · e^(−5 t/T)",
        "e^(−t), the run 5 units of time long: 0.7 % at its end",
        "the lectures",
        _exponential,
    ),
    Schedule(
        "cosine",
        "α = ½ α₀ (1 + cos(π t/T))",
        "half a cosine down to 0",
        "the lectures; Loshchilov and Hutter, ICLR 2017, eq. 5, arXiv:1608.03983",
        _cosine,
    ),
    Schedule("linear", "α = α₀ (1 − t/T)", "a straight line down to 0", "the lectures", _linear),
    Schedule(
        "inverse-sqrt",
        "α = α₀ / √(1 + epoch)",
        "1/√t, t = 1 in the beginning and one more with each epoch",
        "the lectures; Vaswani et al., NeurIPS 2017, §5.3, arXiv:1706.03762",
        _inverse_sqrt,
    ),
    Schedule(
        "linear-flat",
        "ε = (1 − k/τ) ε₀ + (k/τ) ε_τ until k = τ = 0.8 T, then ε_τ = 0.01 ε₀",
        "a straight line down to 1 %, then flat",
        "the lectures; Goodfellow, Bengio and Courville, Deep Learning, 2016, eq. 8.14",
        _linear_flat,
    ),
    Schedule(
        "one-cycle",
        "half a cosine from α₀/25 up to α₀ over 0.3 T, then half a cosine down to α₀/250,000",
        "up for the first 30 %, then down to almost 0",
        "Smith and Topin, 2018, §3, arXiv:1708.07120; its cosine form as torch has it",
        _one_cycle,
    ),
    Schedule(
        PLATEAU,
        "α = α₀ · 0.1ⁿ, n times that the validation loss did not fall for more than 3 epochs",
        "×0.1 when the validation loss stops falling",
        "the lectures; Krizhevsky et al., NeurIPS 2012, §5",
        _constant,  # the rest is Plateau's
    ),
)


def find(name: str) -> Schedule:
    """The schedule of this name. Raises UsageError for an unknown name, with the nearest one."""
    for schedule in SCHEDULES:
        if schedule.name == name:
            return schedule
    names = [schedule.name for schedule in SCHEDULES]
    raise UsageError(f"no schedule {shown(name)!r}, there are {', '.join(names)}{nearest(name, names)}")


def factor(
    name: str, *, step: int, steps: int, steps_per_epoch: int, warmup_steps: int = 0, shape: Shape | None = None
) -> float:
    """What the base rate is multiplied by at one step.

    step: updates done so far, 0 … steps. steps: of the whole run, the warm-up included. warmup_steps: the rate rises
    over these in equal parts, α₀ / warmup_steps at the first; the schedule itself begins after them.
    Returns 0–1. `plateau` is 1 after its warm-up: multiply by `Plateau.factor`.
    Raises UsageError for an unknown name or a warm-up as long as the run, ValueError for a step outside the run.
    Source of the warm-up: Goyal et al., 2017, §2.2, arXiv:1706.02677.
    """
    schedule = find(name)
    if steps < 1 or steps_per_epoch < 1 or not 0 <= step <= steps:
        raise ValueError(
            "factor needs 0 ≤ step ≤ steps, steps ≥ 1 and steps_per_epoch ≥ 1, "
            f"got step {step}, steps {steps}, steps_per_epoch {steps_per_epoch}"
        )
    if not 0 <= warmup_steps < steps:
        raise UsageError(f"the warm-up must be shorter than the run of {steps} steps, got {warmup_steps}; shorten it")
    if step < warmup_steps:
        first = schedule.curve(Moment(0, steps - warmup_steps, 0.0), shape or Shape())
        return first * (step + 1) / warmup_steps
    t = step - warmup_steps
    return schedule.curve(Moment(t, steps - warmup_steps, t / steps_per_epoch), shape or Shape())


class PlateauState(TypedDict):
    """What a plateau rule remembers; JSON can hold it, `best` as None before the first loss."""

    factor: float
    best: float | None
    waited: int


class Plateau:
    """Lower the rate when the validation loss has stopped falling: call `update` after each epoch, read `factor`.

    After more than `shape.patience` epochs in which no loss was below (1 − threshold) times the best one, the factor
    is multiplied by `shape.drop` and the waiting begins anew. A loss that is not a number counts as no improvement.
    Source: Krizhevsky et al., NeurIPS 2012, §5.
    """

    def __init__(self, shape: Shape | None = None) -> None:
        self.shape = shape or Shape()
        self.factor = 1.0
        self.best: float | None = None
        self.waited = 0

    def update(self, loss: float) -> float:
        """Take in the validation loss (≥ 0) of an epoch; returns the factor for the next one."""
        if math.isfinite(loss) and (self.best is None or loss < self.best * (1 - self.shape.threshold)):
            self.best, self.waited = loss, 0
        else:
            self.waited += 1
        if self.waited > self.shape.patience:
            self.factor, self.waited = self.factor * self.shape.drop, 0
        return self.factor

    def state_dict(self) -> PlateauState:
        """All that `load_state_dict` needs to go on as if nothing had been in between."""
        return {"factor": self.factor, "best": self.best, "waited": self.waited}

    def load_state_dict(self, state: PlateauState) -> None:
        """Take up a state that `state_dict` gave."""
        self.factor, self.best, self.waited = state["factor"], state["best"], state["waited"]


def _refuse_unless(good: bool, name: str, value: object, needed: str) -> None:
    if not good:
        raise UsageError(f"{name} of a schedule must be {needed}, got {value}")
