"""Which head a probe ends with: the simplest that no other beats beyond noise, on rows that their fits never saw.

The measure is accuracy, because that is what the owner of a classifier reads and pays for, and because two heads can be
compared row by row: McNemar's table of who alone was right, with Tango's interval for the difference. Log loss, which
is less noisy, chooses the settings of each head; but it would choose between heads by how they say what they know:
ridge regression, whose scores are bounded, may be right more often and yet less sure.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from graft.evaluate.calibration import log_loss, softmax
from graft.evaluate.intervals import Interval, effective_number, tango
from graft.features.rows import Floats, Rows
from graft.heads import lda, rbf
from graft.heads.folds import Labels
from graft.heads.head import LOGISTIC, Fitted, Head
from graft.heads.lda import fit_lda
from graft.heads.probe import Probe, fit_probe
from graft.heads.rbf import fit_rbf
from graft.progress import Progress, silent

FEWEST_TO_COMPARE: Final = 40  # held-out rows; with fewer, a difference that matters is within noise


@dataclass(frozen=True)
class HeadKind:
    """A kind of head that is tried beside logistic regression.

    name: in the manifest. words: for people. fit: takes rows, labels and fold, and the rest by name, as `fit_lda` does.
    too_much: why it is not tried on so many rows, or None where it is.
    """

    name: str
    words: str
    fit: Callable[..., Fitted]
    too_much: Callable[[Rows], str | None]


KINDS: Final = (
    HeadKind("lda", "linear discriminant analysis", fit_lda, lda.too_much),
    HeadKind("rbf", "the RBF machine", fit_rbf, rbf.too_much),
)
"""The kinds of heads, simplest first; logistic regression comes before all of them."""

NAMES: Final = {LOGISTIC: "logistic regression"} | {kind.name: kind.words for kind in KINDS}
"""What people call each kind."""


@dataclass(frozen=True)
class HeadTrial:
    """One kind of head, tried or skipped.

    accuracy (0–1) and log_loss (nats) on held-out rows; gain: its accuracy over logistic regression's on the same rows,
    with the 95 % interval. They are None for logistic regression itself where not measured, and for a head that was
    skipped, whose `note` says why. settings: what cross-validation chose in it. seconds: to choose and fit it.
    """

    kind: str
    seconds: float
    accuracy: float | None = None
    log_loss: float | None = None
    gain: Interval | None = None
    settings: str = ""
    note: str = ""


@dataclass(frozen=True)
class Choice:
    """The head for the model and what it was chosen by.

    held_out: (N, K) its probabilities from fits that never saw the row; NaN where there are none. trials: one of each
    kind, simplest first. reason: a sentence with numbers. probe: the logistic regression, whichever head was chosen.
    """

    head: Head
    held_out: Floats
    trials: tuple[HeadTrial, ...]
    reason: str
    probe: Probe


def choose_head(
    rows: Rows,
    labels: Labels,
    fold: Labels,
    *,
    num_classes: int,
    class_weights: Floats | None = None,
    groups: NDArray[Any] | None = None,
    progress: Progress = silent,
) -> Choice:
    """Fit logistic regression, shrinkage LDA and an RBF machine, and take the simplest that no other clearly beats.

    rows: (N, D) features. labels: (N,), 0 … K − 1. fold: (N,), which part of the cross-validation holds a row out, −1
    for rows that none does. class_weights: (K,), or None for 1 each; they also weigh the comparison. groups: (N,),
    equal for near-duplicates, which widens its intervals. Deterministic, but for the seconds.
    """
    with threadpool_limits(limits=1, user_api="blas"):  # as in fit_probe: our threads share the work
        started = time.perf_counter()
        probe = fit_probe(rows, labels, fold, num_classes=num_classes, class_weights=class_weights, progress=progress)
        logistic = Head(LOGISTIC, probe.weight, probe.bias)
        seconds = time.perf_counter() - started
        judged = (fold >= 0) & ~np.isnan(probe.held_out).any(axis=1)
        if (why := _too_small_or_large(judged, labels, fold, num_classes)) is not None:
            skipped = (HeadTrial(LOGISTIC, seconds), *(HeadTrial(kind.name, 0, note=why) for kind in KINDS))
            return Choice(
                logistic, probe.held_out, skipped, f"logistic regression: no other head was tried, {why}", probe
            )

        def right(held_out: Floats) -> NDArray[np.bool_]:
            return np.asarray(held_out[judged].argmax(axis=1) == labels[judged])

        weight = None if class_weights is None else class_weights[labels[judged]]
        near = None if groups is None else groups[judged]
        usual = right(probe.held_out)
        first = log_loss(np.log(np.maximum(probe.held_out[judged], 1e-30)), labels[judged])
        trials = [HeadTrial(LOGISTIC, seconds, _share(usual, weight), first, settings=f"strength {probe.strength:g}")]
        chosen, held_out, best = logistic, probe.held_out, usual
        for kind in KINDS:
            if (too_much := kind.too_much(rows)) is not None:
                trials.append(HeadTrial(kind.name, 0, note=too_much))
                continue
            progress(f"fitting {kind.words}", 0, 1)
            started = time.perf_counter()
            found = kind.fit(
                rows, labels, fold, num_classes=num_classes, class_weights=class_weights, progress=progress
            )
            progress(f"fitting {kind.words}", 1, 1)
            own = right(found.held_out)
            seconds, loss = time.perf_counter() - started, log_loss(found.held_out[judged], labels[judged])
            over = gain(own, usual, weight, near)
            trials.append(HeadTrial(kind.name, seconds, _share(own, weight), loss, over, found.settings))
            if gain(own, best, weight, near).low > 0:
                chosen, held_out, best = found.head, softmax(found.held_out), own
    return Choice(chosen, held_out, tuple(trials), _reason(chosen.kind, tuple(trials), int(judged.sum())), probe)


def gain(
    right_a: NDArray[np.bool_], right_b: NDArray[np.bool_], weight: Floats | None, groups: NDArray[Any] | None
) -> Interval:
    """How much more often A is right than B on the same rows (N,), with Tango's 95 % interval, as fractions.

    weight: (N,) what each row counts for; the interval is that of as many rows as would be this uncertain, (Σw)²/Σw²
    (Kish). groups: (N,), equal for near-duplicates, which lowers that number again.
    """
    w = np.ones(len(right_a)) if weight is None else weight.astype(np.float64)
    difference = right_a.astype(np.float64) - right_b
    number = float(w.sum() ** 2 / np.square(w).sum())
    if groups is not None:
        number *= effective_number(difference, groups) / len(w)
    only_a, only_b = (float(w[difference == sign].sum() / w.sum()) for sign in (1, -1))
    low, high = tango(number * only_a, number * only_b, number)
    return Interval(only_a - only_b, float(low), float(high))


def _share(right: NDArray[np.bool_], weight: Floats | None) -> float:
    return float(np.average(right, weights=weight))


def _too_small_or_large(judged: NDArray[np.bool_], labels: Labels, fold: Labels, num_classes: int) -> str | None:
    """Why heads cannot be compared, or None where they can."""
    held_out = int((fold >= 0).sum())
    if held_out < FEWEST_TO_COMPARE:
        return f"{held_out} held-out pictures are too few to tell heads apart"
    if not judged.any():
        return f"{len(labels):,} pictures of {num_classes:,} classes are too many to hold each out"
    for part in range(int(fold.max()) + 1):
        if (np.bincount(labels[fold != part], minlength=num_classes) == 0).any():
            return "a class has all its pictures in one part of the cross-validation"
    return None


def _reason(kind: str, trials: tuple[HeadTrial, ...], count: int) -> str:
    """The sentence: who was compared on what, and why this one."""
    usual = trials[0].accuracy
    assert usual is not None
    compared = [trial for trial in trials if trial.gain is not None]
    skipped = "".join(f"; {NAMES[trial.kind]} was not tried, {trial.note}" for trial in trials if trial.note)
    against = f"logistic regression, right on {100 * usual:.1f} % of {count:,} held-out pictures"
    differences = {trial.kind: f"{NAMES[trial.kind]} {trial.gain.points()}" for trial in compared if trial.gain}
    if kind == LOGISTIC:
        listed = " and ".join(differences.values())
        return f"{against}: beside it {listed}, which is within noise or worse, and the simplest head stays{skipped}"
    rest = [text for other, text in differences.items() if other != kind]
    beside = f" ({rest[0]})" if rest else ""
    return f"{differences[kind]} beside {against}: more than noise{beside}{skipped}"
