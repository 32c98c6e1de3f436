"""How much each stage of a trunk knows of these classes: a linear probe on every output of it, and on several.

A probe is a logistic regression on a stage's maps, averaged over the picture; what it is right on, of pictures that its
fit never saw, says how far the classes can be told apart by a plane at that depth. Alain and Bengio, Understanding
intermediate layers using linear classifier probes, 2016, arXiv:1610.01644.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from graft.evaluate.intervals import grouped_proportion, paired_difference
from graft.features.extract import Features
from graft.features.rows import Floats, Rows
from graft.features.trunk import FEATURES, TOP, Trunk
from graft.heads.probe import CrossValidated, cross_validate
from graft.progress import Progress, silent
from graft.runtime.stream import ordered_map

_MOST_ROWS: Final = 4096  # more narrow the intervals to no purpose
_MOST_WORK: Final = 2**36  # rows × columns × the fewer of both: half a minute on a core; ResNet-50's stages all pass
_AT_ONCE: Final = 2  # probes, so that cores have work while one of them finds the eigenvectors, which takes one core
_COMPARED: Final = 64  # rows by which two outputs are known to hold the same numbers


@dataclass(frozen=True)
class StageScore:
    """A probe's score on rows that its fits never saw.

    reads: the outputs it reads, one or several, from the picture upwards. width: how many numbers a picture that is.
    accuracy, with its 95 % interval low–high: 0–1. log_loss: nats. strength: of the ridge penalty, as chosen.
    right: (n,) bool, which of the rows it was right on; the same rows in all scores of one call.
    """

    reads: tuple[str, ...]
    width: int
    accuracy: float
    low: float
    high: float
    log_loss: float
    strength: float
    right: NDArray[np.bool_] = field(repr=False, compare=False)
    groups: NDArray[np.int64] = field(repr=False, compare=False)

    @property
    def stage(self) -> str:
        """Its name: that of its only output, or the first and the last of several."""
        return self.reads[0] if len(self.reads) == 1 else f"{self.reads[0]} … {self.reads[-1]}"

    def beyond_noise(self, other: StageScore) -> bool:
        """Whether it is right more often than `other` on the same rows, by more than their 95 % interval."""
        return paired_difference(self.right, other.right, self.groups).low > 0


def probe_stages(
    features: Features,
    trunk: Trunk,
    which: NDArray[np.int64],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    fold: NDArray[np.int64],
    *,
    num_classes: int,
    class_weights: Floats | None = None,
    progress: Progress = silent,
) -> tuple[StageScore, ...]:
    """A cross-validated probe on every output, from the picture upwards, then on several together.

    which: (N,) the training pictures among `features`. labels, groups (near-duplicates share one), fold (as
    `cross_validate` takes it): (N,), theirs. At most 4,096 of them, evenly spread, are looked at. A stage that holds
    the same numbers as the features, such as the last of a network that only pools, is left out, and so is what is too
    large to be cross-validated.
    """
    spread = np.unique(np.linspace(0, len(which) - 1, min(len(which), _MOST_ROWS)).astype(np.int64))
    which, labels, groups, fold = which[spread], labels[spread], groups[spread], fold[spread]
    outputs = _distinct(features, trunk, which)
    tried = [(output,) for output in outputs] + _several(outputs, trunk, rows=len(which))

    def score(names: tuple[str, ...]) -> StageScore | None:
        rows = features.rows(which, tuple(trunk.columns(name) for name in names))
        probe = cross_validate(rows, labels, fold, num_classes=num_classes, class_weights=class_weights)
        return None if np.isnan(probe.held_out).all() else _score(names, rows, probe, labels, groups)

    widest_first = sorted(tried, key=lambda names: -sum(trunk.widths[trunk.outputs.index(name)] for name in names))
    scores: dict[tuple[str, ...], StageScore | None] = {}
    progress("probing stages", 0, len(tried))
    with threadpool_limits(limits=1, user_api="blas"):  # here, so that no probe that ends lifts it for the other
        for names, found in zip(widest_first, ordered_map(score, widest_first, threads=_AT_ONCE, ahead=1), strict=True):
            scores[names] = found
            progress("probing stages", len(scores), len(tried))
    return tuple(found for names in tried if (found := scores[names]) is not None)


def best(scores: Sequence[StageScore]) -> StageScore:
    """The one with the least log loss, which is less noisy than accuracy."""
    return min(scores, key=lambda score: score.log_loss)


def steadiest(scores: Sequence[StageScore], expected: tuple[str, ...] = TOP) -> StageScore:
    """The first that no other beats beyond noise: several stages together, fewest first, then one stage.

    expected: the outputs that come first among single ones; then comes the top, then the others by their log loss.
    Several go first because one pass gives all, few pictures cannot tell which single stage is best, and a ridge
    penalty finds the use of each (benchmarks/stages.py). A head on one low stage would predict faster; that is given
    up.
    """
    judge = max(scores, key=lambda score: score.accuracy)
    order = sorted(
        scores, key=lambda s: (len(s.reads) == 1, len(s.reads), s.reads != expected, s.reads != TOP, s.log_loss)
    )
    return next(score for score in order if not judge.beyond_noise(score))


def levelling_off(scores: Sequence[StageScore]) -> str:
    """The earliest stage that no later one beats beyond noise.

    From there on the layers gain nothing for these classes: they serve the source's, so fine-tuning begins with them.
    """
    single = [score for score in scores if len(score.reads) == 1]
    judge = max(single, key=lambda score: score.accuracy)
    return next(score.stage for score in single if not judge.beyond_noise(score))


def _distinct(features: Features, trunk: Trunk, which: NDArray[np.int64]) -> tuple[str, ...]:
    """The outputs but for those that equal the features on a few rows."""
    rows = features.rows(which[:_COMPARED]).read(slice(None))
    top = rows[:, trunk.columns(FEATURES)]
    return tuple(
        output
        for output in trunk.outputs
        if output == FEATURES or not np.array_equal(rows[:, trunk.columns(output)], top)
    )


def _several(outputs: tuple[str, ...], trunk: Trunk, *, rows: int) -> list[tuple[str, ...]]:
    """All stages below the features together, and these with the features, where that is not too much work."""
    widths = dict(zip(trunk.outputs, trunk.widths, strict=True))

    def work(names: tuple[str, ...]) -> int:
        columns = sum(widths[name] for name in names)
        return rows * columns * min(rows, columns)

    return [names for names in (outputs[:-1], outputs) if len(names) > 1 and work(names) <= _MOST_WORK]


def _score(
    names: tuple[str, ...], rows: Rows, probe: CrossValidated, labels: NDArray[np.int64], groups: NDArray[np.int64]
) -> StageScore:
    judged = ~np.isnan(probe.held_out[:, 0])
    right = probe.held_out[judged].argmax(axis=1) == labels[judged]
    interval = grouped_proportion(right, groups[judged])
    chosen = next(trial for trial in probe.trials if trial.strength == probe.strength)
    return StageScore(
        names, rows.width, interval.value, interval.low, interval.high, chosen.log_loss, probe.strength,
        right, groups[judged],
    )  # fmt: skip
