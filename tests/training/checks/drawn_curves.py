"""Training runs that never ran: curves of each kind the lectures name, drawn with the noise that real ones have.

Each kind is drawn for several lengths, class counts, schedules and levels of noise, all from one seed. The loss follows
gradient flow: it falls with the sum of the rates so far, not with the epochs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graft.training.loop.history import End, Epoch, History, Plan, Score, Start, Step

Curve = NDArray[np.float64]
RECORDS = 20  # an epoch
STEPS = 100  # an epoch
VAL = 2000


@dataclass(frozen=True)
class Scene:
    """What a run is drawn on: classes, epochs, relative noise of one record, and where in the run each record is."""

    rng: np.random.Generator
    classes: int
    epochs: int
    noise: float

    @property
    def time(self) -> Curve:
        """(epochs·RECORDS,) 0–1."""
        return np.arange(1, self.epochs * RECORDS + 1) / (self.epochs * RECORDS)

    @property
    def chance(self) -> float:
        return math.log(self.classes)

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))


def scene(seed: int) -> Scene:
    rng = np.random.default_rng(seed)
    classes = int(rng.choice([2, 5, 10, 100, 1000]))
    return Scene(rng, classes, int(rng.choice([6, 10, 20, 40])), float(rng.uniform(0.02, 0.08)))


def constant(s: Scene) -> Curve:
    return np.ones(len(s.time))


def cosine(s: Scene) -> Curve:
    return 0.5 * (1 + np.cos(np.pi * s.time)) + 1e-6


def stepped(s: Scene, *shares: float) -> Curve:
    return 0.1 ** np.sum([s.time >= share for share in shares], axis=0)


def annealed(s: Scene) -> Curve:
    return [cosine(s), stepped(s, 0.5, 0.75), 1.001 - s.time][int(s.rng.integers(3))]


def flow(rates: Curve) -> Curve:
    """0–1: how much of the run's whole learning is done."""
    return np.cumsum(rates) / rates.sum()


def decay(progress: Curve, constant_of_time: float, power: float) -> Curve:
    """1 → about 0, quickly at first: an exponential for power ∞, a longer tail for a small one."""
    return (1 + progress / constant_of_time / power) ** -power


def run(
    s: Scene, rates: Curve, loss: Curve, train: Curve, val: Curve, *,
    val_loss: Curve | None = None, noisy: float | None = None, why: str | None = "epochs", base: float = 0.1,
) -> History:  # fmt: skip
    """A history from clean curves at every record: noise is added to the loss, and sampling noise to accuracies."""
    size = s.noise if noisy is None else noisy
    noisy_loss = loss * (1 + size * s.rng.standard_normal(len(loss)))
    steps, epochs = [], []
    for i, at in enumerate(s.time * s.epochs):
        number = round(at * STEPS)
        steps.append(Step("step", number, float(at), float(noisy_loss[i]), float(base * rates[i]), 900.0, at * 9.0))
        if (i + 1) % RECORDS == 0:
            part = slice(i + 1 - RECORDS, i + 1)
            p = float(np.clip(val[i], 0, 1))
            seen = Score(
                float((val_loss if val_loss is not None else loss * 1.05)[i] * (1 + 0.004 * s.rng.standard_normal())),
                {"accuracy": float(s.rng.binomial(VAL, p) / VAL)},
            )
            mean = Score(float(noisy_loss[part].mean()), {"accuracy": float(np.clip(train[part].mean(), 0, 1))})
            epochs.append(
                Epoch("epoch", (i + 1) // RECORDS, number, float(base * rates[i]), at * 9.0, mean, seen, True)
            )
    start = Start("start", Plan(epochs=s.epochs), s.classes, 10_000, VAL, 60_000, "cpu")
    end = End("end", why, s.epochs, 9.0 * s.epochs) if why else None
    return History(start, tuple(steps), tuple(epochs), end)


def accuracies(s: Scene, left: Curve, best: float) -> Curve:
    """From chance to `best` as `left` goes from 1 to 0."""
    return 1 / s.classes + (best - 1 / s.classes) * (1 - left)


def healthy(seed: int) -> History:
    s = scene(seed)
    rates = annealed(s)
    left = decay(flow(rates), s.between(0.04, 0.09), s.between(2, 8))
    floor = s.between(0.08, 0.2)
    train = accuracies(s, left, s.between(0.92, 0.99))
    return run(s, rates, s.chance * (floor + (1.03 - floor) * left), train, train - s.between(0, 0.035) * (1 - left))


def rate_too_high(seed: int) -> History:
    s = scene(seed)
    kind = int(s.rng.integers(4))
    ones, guess = np.ones(len(s.time)), np.full(len(s.time), 1 / s.classes)
    if kind == 0:  # not a number from some record on
        loss = s.chance * (0.6 + 0.4 * decay(s.time, 0.1, 4))
        loss[int(s.between(0.05, 0.9) * len(loss)) :] = np.nan
        return run(s, ones, loss, guess, guess, why="not finite", base=1)
    if kind == 1:  # up and away
        return run(s, ones, s.chance * np.exp(s.between(0.5, 3) * s.time), guess, guess, base=1)
    if kind == 2:  # a leap, then dead units: the loss of equal scores, a little above and below
        loss = s.chance * (1 + 0.02 * np.abs(s.rng.standard_normal(len(s.time))))
        loss[: 1 + int(s.rng.integers(4))] *= s.between(4, 100)
        return run(s, ones, loss, guess, guess, noisy=0.005, base=1)
    loss = s.chance * (0.4 + 0.6 * decay(s.time, 0.1, 4))  # learns, then loses all
    lost = s.time > s.between(0.3, 0.7)
    loss[lost] = s.chance * s.between(0.95, 1.3)
    return run(s, ones, loss, guess, guess, base=1)


def rate_too_low(seed: int) -> History:
    s = scene(seed)
    rates = constant(s) if seed % 2 else cosine(s)
    fall = s.between(0.005, 0.14)
    began = s.chance * s.between(1.01, 1.1)
    accuracy = 1 / s.classes + 0.6 * fall * flow(rates)
    noisy = s.between(0.004, 0.03)
    return run(s, rates, began * (1 - fall * flow(rates)), accuracy, accuracy, noisy=noisy, base=1e-6)


def flat_start(seed: int) -> History:
    s = scene(seed)
    if seed % 3 == 0:
        guess = np.full(len(s.time), 1 / s.classes)
        return run(s, annealed(s), s.chance * np.ones(len(s.time)), guess, guess, noisy=s.between(0, 0.002))
    begins = s.between(0.22, 0.5)
    left = np.where(s.time < begins, 1.0, decay(np.maximum(s.time - begins, 0), 0.04, 4))
    train = accuracies(s, left, 0.95)
    loss = s.chance * (0.12 + 0.88 * left)
    return run(s, constant(s), loss, train, train - 0.02 * (1 - left), noisy=s.between(0.005, 0.03))


def plateau(seed: int) -> History:
    s = scene(seed)
    left = decay(s.time, s.between(0.02, 0.06), 20)
    floor = s.between(0.25, 0.5)
    train = accuracies(s, left, s.between(0.75, 0.93))
    return run(
        s, constant(s), s.chance * (floor + (1.03 - floor) * left), train, train - s.between(0, 0.03) * (1 - left)
    )


def step_too_early(seed: int) -> History:
    s = scene(seed)
    at = s.between(0.15, 0.4)
    rates = stepped(s, at)
    left = decay(np.cumsum(rates) / len(rates), at * s.between(0.8, 1.6), 50)
    train = accuracies(s, left, 0.97)
    return run(s, rates, s.chance * (0.05 + 0.98 * left), train, train - 0.01 * (1 - left))


def still_rising(seed: int) -> History:
    s = scene(seed)
    left = decay(s.time, s.between(0.25, 0.6), 50)
    train = accuracies(s, left, s.between(0.95, 0.99))
    return run(s, constant(s), s.chance * (0.08 + 0.95 * left), train, train - 0.02 * (1 - left))


def overfitting(seed: int) -> History:
    s = scene(seed)
    rates = annealed(s) if seed % 2 else constant(s)
    left = decay(flow(rates), s.between(0.04, 0.07), 20)
    learnt = decay(flow(rates), 0.03, 50)
    best = s.between(0.93, 1.0)
    train = np.minimum(accuracies(s, left, best if seed % 2 else 0.999), 1)
    gap = s.between(0.14, 0.35)
    val = accuracies(s, learnt, max(best - gap, 1 / s.classes + 0.1))
    rises = 1 + s.between(0, 0.8) * s.time
    loss = s.chance * (0.02 + 1.01 * left)
    return run(s, rates, loss, train, val, val_loss=s.chance * (0.35 + 0.65 * learnt) * rises)


def underfitting(seed: int) -> History:
    s = scene(seed)
    rates = annealed(s)
    left = decay(flow(rates), s.between(0.02, 0.06), 20)
    floor = s.between(0.4, 0.75)
    best = 1 / s.classes + s.between(0.2, 0.7) * (1 - 1 / s.classes)
    train = accuracies(s, left, best)
    noisy = min(s.noise, 0.04)
    return run(s, rates, s.chance * (floor + (1.02 - floor) * left), train, train - s.between(-0.01, 0.01), noisy=noisy)


KINDS: dict[str, Callable[[int], History]] = {
    "healthy": healthy,
    "rate too high": rate_too_high,
    "flat start": flat_start,
    "rate too low": rate_too_low,
    "step too early": step_too_early,
    "overfitting": overfitting,
    "plateau": plateau,
    "still rising": still_rising,
    "underfitting": underfitting,
}
