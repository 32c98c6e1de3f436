"""What the curves of a training run say, in words: the cases of the lectures, each with its evidence.

`verdict` reads a run's history. What makes all else unreadable (a loss that is not finite, a run that never learnt) is
said alone; a run may otherwise have several findings. Chance is the loss and the accuracy of equal scores for all
classes: ln K and 1/K.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from graft.training.checks.trend import Curve, Trend, moving_average, noise, trend
from graft.training.loop.history import Epoch, History, Score

Name = Literal[
    "rate too high", "flat start", "rate too low", "step too early", "overfitting", "plateau", "still rising",
    "underfitting", "healthy", "too early to tell",
]  # fmt: skip
Severity = Literal["error", "warning", "note"]

FEWEST_RECORDS: Final = 8  # of the loss: thirds of fewer are single points
LEARNT: Final = 0.1  # share of the loss at chance that must go before a run counts as falling
SPIKE: Final = 2.0  # times the loss at chance: no batch of an untrained network is that much worse than its neighbours
RISEN: Final = 1.05  # times the loss it began with; what weight noise alone does stays below
UNDONE: Final = 0.5  # share of all progress lost again: diverging, not a bounce of one epoch
BOUNCE: Final = (
    0.01  # of the validation loss, an epoch, back and forth: the pictures are the same, so the steps are large
)
AT_CHANCE: Final = 0.005  # of ln K: scores that differ by 0.15 between classes cost 0.01, so these differ by less
FLAT_SHARE: Final = 0.15  # of the run until a tenth of the fall is done; a straight line needs 0.1, a usual curve 0.02
SLOW_FALL: Final = 0.2  # of the loss at chance: a rate in the right decade takes more than that off in its first epochs
STRAIGHT: Final = 0.4  # last third's slope over the first's; a curve that bends towards its floor is below 0.2
STEP: Final = 3.0  # a rate that falls by this at once, and is constant before and after, was stepped
STEEP: Final = 0.25  # of the fall so far, still falling at that pace over the last third: far from the floor
STALLED: Final = 0.25  # slope after the step over the one before: the step of 0.1 stopped the fall
FLAT_FALL: Final = 0.03  # of the whole fall, over the last third: nothing more comes at this rate
SOLVED: Final = 0.98  # skill on the training split from which a flat loss is the end and no plateau
ANNEALED: Final = 0.2  # of the highest rate; below it, another step of the rate has little left to give
RISING: Final = 0.15  # of the remaining error, gained over the last third: another run as long would gain much of it
LEAST_GAIN: Final = 0.005  # of accuracy: half a point is less than what another seed changes
WIDE_GAP: Final = 0.1  # of accuracy between training and validation: ten points, wide by anybody's eye
GAP: Final = 0.05  # is enough where the validation loss has turned as well; below it, there is no gap to speak of
TURNED: Final = 1.1  # times its minimum: the validation loss has turned upwards
LOW_SKILL: Final = 0.8  # on the training split: a fifth of its own pictures wrong is a network that cannot fit them
SIGMAS: Final = 3.0  # of sampling noise before a difference counts
SURE: Final = 2.0  # of noise before a slope counts: what it must be besides is large already


@dataclass(frozen=True)
class Finding:
    """One thing that the curves say. evidence: a sentence with its numbers; advice: what to do, most likely first."""

    name: Name
    severity: Severity
    evidence: str
    advice: str


@dataclass(frozen=True)
class _Run:
    """The curves of a run as the rules look at them.

    epoch, loss, rate: (n,) of each record of the loss. flow: (n,) the sum of rates so far over the whole, 0–1, which is
    the time that gradient descent itself sees. start, end: levels of the loss. train, val: (E,) accuracies 0–1; val is
    empty without a validation split. held_out_loss: (E,) of validation, or else of training. chance_loss, chance: of
    equal scores for all classes. pictures: how many the last accuracy was measured on.
    """

    epoch: Curve
    loss: Curve
    rate: Curve
    flow: Curve
    smooth: Curve
    noise: float
    start: float
    end: float
    chance_loss: float
    chance: float
    train: Curve
    val: Curve
    held_out_loss: Curve
    pictures: int

    @property
    def fall(self) -> float:
        """How far the loss has come down."""
        return self.start - self.end

    def accuracy_noise(self, accuracy: float) -> float:
        """The standard error of an accuracy measured on the validation split, or else on the training split."""
        return math.sqrt(accuracy * (1 - accuracy) / max(self.pictures, 1))

    def skill(self, accuracy: float) -> float:
        """An accuracy counted from chance: 0 for guessing, 1 for all right."""
        return (accuracy - self.chance) / (1 - self.chance)


def verdict(history: History) -> tuple[Finding, ...]:
    """What a run's curves say, most serious first; at least one finding.

    Source: the cases of the lectures; how each is told from the others is ours, and stated beside the constants above.
    """
    if broken := _not_finite(history):
        return (broken,)
    run = _run(history)
    if run is None:
        return (_too_early(history),)
    for rule in _ALONE:
        if found := rule(run):
            return (found,)
    overfitting, rising = _overfitting(run), _still_rising(run)
    plateau = None if overfitting or rising else _plateau(run)
    found_here = tuple(finding for finding in (overfitting, plateau, rising) if finding)
    return found_here or (_underfitting(run) or _healthy(run),)


def _run(history: History) -> _Run | None:
    """The curves to look at: of the steps, or of the epochs where those are more. None for too few of both."""
    by_step = len(history.steps) >= len(history.epochs)
    records = [(s.epoch, s.loss, s.rate, s.step) for s in history.steps]
    if not by_step:
        records = [(float(e.epoch), e.train.loss, e.rate, e.step) for e in history.epochs]
    if len(records) < FEWEST_RECORDS:
        return None
    epoch, loss, rate, step = np.array(records, np.float64).T
    flow = np.cumsum(rate * np.diff(step, prepend=0.0))
    few = max(3, len(loss) // 50)
    classes = history.start.classes
    scored = [e.val for e in history.epochs if e.val]
    begins = float(np.median(loss[:few]))
    by_chance = begins  # where no classes are told apart, there is no other loss to compare with
    if classes is not None:
        by_chance = math.log(classes) if history.start.settings.loss == "cross-entropy" else float(classes - 1)
    return _Run(
        epoch=epoch, loss=loss, rate=rate, flow=flow / max(flow[-1], 1e-300), smooth=moving_average(loss, few),
        noise=noise(loss), start=begins, end=float(np.median(loss[-max(5, len(loss) // 10) :])),
        chance_loss=by_chance, chance=1 / classes if classes else 0.0,
        train=_accuracies([e.train for e in history.epochs]), val=_accuracies(scored),
        held_out_loss=np.array([score.loss for score in scored] or [e.train.loss for e in history.epochs]),
        pictures=history.start.val if scored else history.start.train,
    )  # fmt: skip


def _accuracies(scores: Sequence[Score]) -> Curve:
    """Of the scores that have one."""
    return np.array([score.accuracy for score in scores if not math.isnan(score.accuracy)])


def _not_finite(history: History) -> Finding | None:
    first = next((s for s in history.steps if not math.isfinite(s.loss)), None)
    losses = [(e, loss) for e in history.epochs for loss in (e.train.loss, e.val.loss if e.val else 0.0)]
    epoch: Epoch | None = next((e for e, loss in losses if not math.isfinite(loss)), None)
    stopped = history.end is not None and history.end.why == "not finite"
    if first is None and epoch is None and not stopped:
        return None
    where = (
        f"at step {first.step:,}" if first else f"by the end of epoch {epoch.epoch}" if epoch else "at its last step"
    )
    finite = [s for s in history.steps if math.isfinite(s.loss) and (first is None or s.step < first.step)]
    before = f"after {finite[-1].loss:.3g} at step {finite[-1].step:,}" if finite else "from the first"
    rate = max((s.rate for s in history.steps), default=epoch.rate if epoch else math.nan)
    return Finding(
        "rate too high", "error",
        f"the loss was not a finite number {where}, {before}; the highest rate was {rate:.3g}",
        f"{_lower(rate)}; if that does not help, look for bad pictures with graft audit",
    )  # fmt: skip


def _rate_too_high(run: _Run) -> Finding | None:
    lowest = float(np.min(run.smooth))
    level = max(run.start, run.chance_loss)
    never = run.end > (1 - LEARNT) * min(run.start, run.chance_loss)
    risen = run.end > RISEN * level + SIGMAS * run.noise / math.sqrt(5)
    undone = run.end > lowest + UNDONE * (run.start - lowest) + SIGMAS * run.noise and lowest < (1 - LEARNT) * run.start
    bounce = _bounce(run)
    highest = float(np.max(run.loss))
    spiked = never and highest > SPIKE * run.chance_loss
    if not (risen or undone or spiked or (never and bounce > BOUNCE)):
        return None
    what = f"the loss began at {run.start:.3g} and ended at {run.end:.3g}"
    if risen or undone:
        evidence = f"{what}, above the {lowest:.3g} it had reached"
    elif spiked:
        evidence = (
            f"{what}, after a peak of {highest:.3g}; equal scores for all classes would give {run.chance_loss:.3g}"
        )
    else:
        evidence = f"{what}, and jumped up and down by {100 * bounce:.0f} % from one epoch to the next"
    rate = float(run.rate.max())
    return Finding("rate too high", "error", f"{evidence}; the highest rate was {rate:.3g}", _lower(rate))


def _bounce(run: _Run) -> float:
    """How far the held-out loss goes back and forth, an epoch, as a share of its level; 0 for under three epochs, and
    for a loss of 0."""
    changes, level = np.diff(run.held_out_loss), float(np.median(run.held_out_loss))
    if len(changes) < 2 or not level > 0:
        return 0.0
    back_and_forth = float(np.abs(changes).sum() - abs(changes.sum()))
    return back_and_forth / len(changes) / level


def _lower(rate: float) -> str:
    return (
        f"lower the rate ten times (--rate {rate / 10:.2g}), or start with warm-up (--warmup 1) or clipping (--clip 1)"
    )


def _flat_start(run: _Run) -> Finding | None:
    """A loss that stays where it began: for all of the run at chance, or for a good part of it before it falls."""
    advice = (
        "change how the weights start (--initialization he for ReLU, xavier-normal for tanh), or add batch norm; "
        "where that does not help, a higher rate or warm-up"
    )
    near = abs(run.end / run.chance_loss - 1) < AT_CHANCE and abs(np.median(run.loss) / run.chance_loss - 1) < AT_CHANCE
    if near and _guesses(run):
        return Finding(
            "flat start", "error",
            f"the loss stayed at {run.end:.4g} through all {run.epoch[-1]:.3g} epochs, where equal scores for all "
            f"classes give {run.chance_loss:.4g}: the network says the same of every picture",
            advice,
        )  # fmt: skip
    if run.fall < SLOW_FALL * run.start:
        return None
    warm = int(np.argmax(run.rate >= run.rate.max() / 2))  # before that, the rate itself explains a flat loss
    begun = int(np.argmax(moving_average(run.loss, 5) < run.start - LEARNT * run.fall))
    flat = (run.epoch[begun] - run.epoch[warm]) / max(run.epoch[-1] - run.epoch[warm], 1e-9)
    if flat < FLAT_SHARE:
        return None
    return Finding(
        "flat start", "warning",
        f"the loss stayed near {run.start:.3g} until epoch {run.epoch[begun]:.2g} of {run.epoch[-1]:.3g}, "
        f"and only then fell, to {run.end:.3g}",
        advice,
    )  # fmt: skip


def _guesses(run: _Run) -> bool:
    """Whether the accuracy, where one was measured, ends within sampling noise of chance."""
    accuracy = run.val if len(run.val) else run.train
    return not len(accuracy) or abs(float(accuracy[-1]) - run.chance) <= SIGMAS * run.accuracy_noise(run.chance)


def _rate_too_low(run: _Run) -> Finding | None:
    """A loss that hardly falls, and does so in a straight line over the flow rather than towards a floor."""
    share = (max(run.start, run.chance_loss) - run.end) / run.chance_loss
    if share >= SLOW_FALL:
        return None
    whole = trend(run.flow, run.loss)
    if whole.falls and _third(run, last=True).low > STRAIGHT * _third(run, last=False).slope:
        return None  # it bends: it has reached what this network can do
    rate = float(run.rate.max())
    return Finding(
        "rate too low", "error",
        f"in {run.epoch[-1]:.3g} epochs the loss only went from {run.start:.4g} to {run.end:.4g}, without bending to a "
        f"floor; equal scores for all classes give {run.chance_loss:.4g}, and the highest rate was {rate:.3g}",
        f"raise the rate ten times (--rate {rate * 10:.2g}): a good one lets the loss fall within 100 steps",
    )  # fmt: skip


def _third(run: _Run, *, last: bool) -> Trend:
    """The loss over the flow, in its first or last third."""
    part = run.flow >= 2 / 3 if last else run.flow <= 1 / 3
    if part.sum() < 2:
        part = np.zeros(len(run.flow), bool)
        part[-len(part) // 3 :] = last
        part[: len(part) // 3] |= not last
    return trend(run.flow[part], run.loss[part])


def _step_too_early(run: _Run) -> Finding | None:
    """A step of the rate while the loss was still falling fast, after which it hardly fell any more."""
    rate = run.rate
    for at in range(4, len(rate) - 4):
        stepped = rate[at] * STEP <= rate[at - 1]
        if not stepped or abs(rate[at - 3] / rate[at - 1] - 1) > 0.05 or abs(rate[at + 3] / rate[at] - 1) > 0.05:
            continue
        changes = np.flatnonzero(np.abs(rate[at + 1 :] / rate[at] - 1) > 0.05)
        stop = at + 1 + int(changes[0]) if len(changes) else len(rate)
        first, settled = at - max(4, 2 * at // 5), at + max(1, (stop - at) // 5)
        before = trend(run.epoch[first:at], run.loss[first:at])
        after = trend(run.epoch[settled:stop], run.loss[settled:stop]) if stop - settled >= 4 else None
        fallen = run.start - float(np.median(run.loss[at - 3 : at]))
        pace = -before.slope * (run.epoch[at - 1] - run.epoch[0])
        if after and before.falls and pace > STEEP * fallen > 0 and after.slope > STALLED * before.slope:
            return Finding(
                "step too early", "warning",
                f"the rate was stepped from {rate[at - 1]:.3g} to {rate[at]:.3g} at epoch {run.epoch[at]:.3g}, while "
                f"the loss still fell by {-before.slope:.2g} an epoch; after it, by {max(-after.slope, 0):.2g}",
                "keep the higher rate until the loss is flat: a later step, --schedule plateau, or cosine",
            )  # fmt: skip
    return None


_ALONE: Final[tuple[Callable[[_Run], Finding | None], ...]] = (
    _rate_too_high, _flat_start, _rate_too_low, _step_too_early,
)  # fmt: skip
"""Rules whose finding makes the others unreadable, in the order they are asked."""


def _overfitting(run: _Run) -> Finding | None:
    if not len(run.val):
        return None
    last = max(1, len(run.val) // 5)
    train, val = float(np.median(run.train[-last:])), float(np.median(run.val[-last:]))
    lowest, end = float(np.min(run.held_out_loss)), float(np.median(run.held_out_loss[-last:]))
    wide = train - val >= WIDE_GAP or (train - val >= GAP and end > TURNED * lowest)
    if not wide or train - val < SIGMAS * run.accuracy_noise(val):
        return None
    best = int(np.argmin(run.held_out_loss)) + 1
    turned = f"; the validation loss was {lowest:.3g} at epoch {best} and is {end:.3g}" if end > TURNED * lowest else ""
    return Finding(
        "overfitting", "warning",
        f"right on {100 * train:.1f} % of the training pictures and {100 * val:.1f} % of the validation pictures, "
        f"{100 * (train - val):.1f} points apart{turned}",
        "more pictures, or stronger regularisation: --augment strong, --weight-decay, --dropout, --mixup; "
        "or a smaller network, or a pretrained one",
    )  # fmt: skip


def _plateau(run: _Run) -> Finding | None:
    window = run.epoch >= run.epoch[-1] - (run.epoch[-1] - run.epoch[0]) / 3
    rates = run.rate[window]
    constant = float(np.ptp(rates)) <= 0.1 * rates[-1] and rates[-1] > ANNEALED * run.rate.max()
    solved = bool(len(run.train)) and run.skill(float(run.train[-1])) > SOLVED
    if not constant or solved or window.sum() < FEWEST_RECORDS // 2:
        return None
    epochs = float(np.ptp(run.epoch[window]))
    late = trend(run.epoch[window], run.loss[window])
    falling = -late.slope * epochs
    if late.falls and falling > FLAT_FALL * run.fall:
        return None
    return Finding(
        "plateau", "warning",
        f"over the last {epochs:.2g} epochs the loss fell by {max(falling, 0):.2g}, after {run.fall:.3g} in all, "
        f"while the rate stayed at {rates[-1]:.3g}",
        "step the rate down by ten from here: --schedule plateau does it by itself, step or cosine by plan",
    )  # fmt: skip


def _still_rising(run: _Run) -> Finding | None:
    which, accuracy = ("validation", run.val) if len(run.val) else ("training", run.train)
    last = max(3, math.ceil(len(accuracy) / 3))
    if len(accuracy) < last:
        return None
    now = float(accuracy[-1])
    gain = trend(np.arange(last, dtype=np.float64), accuracy[-last:]).slope * (last - 1)
    by_noise = run.accuracy_noise(now) * math.sqrt(12 * (last - 1) / (last * (last + 1)))  # of the least-squares gain
    if gain < max(LEAST_GAIN, RISING * (1 - now), SURE * by_noise):
        return None
    return Finding(
        "still rising", "warning",
        f"the {which} accuracy still rose by {100 * gain:.1f} points over the last {last} epochs, to {100 * now:.1f} %",
        f"train longer: --epochs {2 * len(accuracy)}",
    )  # fmt: skip


def _underfitting(run: _Run) -> Finding | None:
    if not len(run.train):
        return None
    last = max(1, len(run.train) // 5)
    train = float(np.median(run.train[-last:]))
    val = float(np.median(run.val[-last:])) if len(run.val) else train
    if run.skill(max(train, val)) >= LOW_SKILL or train - val >= GAP:
        return None
    return Finding(
        "underfitting", "warning",
        f"right on only {100 * train:.1f} % of the training pictures, and no better place in sight: validation is at "
        f"{100 * val:.1f} %, so there is no gap, and neither rises any more",
        "a larger network, longer training, or weaker regularisation: --augment light, less --weight-decay",
    )  # fmt: skip


def _healthy(run: _Run) -> Finding:
    scores = f"training accuracy ended at {100 * run.train[-1]:.1f} %" if len(run.train) else "no epoch has ended yet"
    gap = f", validation at {100 * run.val[-1]:.1f} %" if len(run.val) else ""
    return Finding(
        "healthy", "note", f"the loss fell from {run.start:.3g} to {run.end:.3g}; {scores}{gap}", "nothing to mend here"
    )


def _too_early(history: History) -> Finding:
    records = max(len(history.steps), len(history.epochs))
    return Finding(
        "too early to tell", "note",
        f"losses on record so far: {records}; curves are read from {FEWEST_RECORDS} on",
        "wait for more of the run" if history.end is None else "train for more epochs",
    )  # fmt: skip
