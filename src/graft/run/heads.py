"""The head of a model on a trunk, frozen or tuned: how it is chosen, and how it becomes a part of the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from graft.evaluate.calibration import inverse_temperature
from graft.evaluate.intervals import Interval
from graft.features.rows import Rows
from graft.features.trunk import TOP, Trunk
from graft.heads.choose import FEWEST_TO_COMPARE, Choice, HeadTrial, choose_head, gain
from graft.heads.head import NAMES, Head, logits
from graft.progress import Progress
from graft.run.ground import Ground
from graft.run.learnt import class_weights
from graft.run.settings import TrainSettings
from graft.runtime.attach import with_head
from graft.strategy.advice import standing_on

CALIBRATED: Final = "temperature, folded into the head"


@dataclass(frozen=True, eq=False)
class Planted:
    """A head on a trunk, as a model has it. arguments: what `rebuild` needs to know beyond the head's kind."""

    graph: bytes
    tensors: dict[str, NDArray[Any]]
    arguments: dict[str, str]


@dataclass(frozen=True, eq=False)
class LastHead:
    """The head that a tuned network ends with.

    rungs: of its ladder, where it stands. reason: a sentence with numbers. calibration: the method, for the manifest.
    gain: of the head that was tried over the network's own, on the validation pictures, and trials, those among which
    it was chosen; None and empty where none was tried.
    """

    head: Head
    rungs: tuple[str, ...]
    reason: str
    calibration: str = "none"
    gain: Interval | None = None
    trials: tuple[HeadTrial, ...] = ()


def rows_of(ground: Ground, which: NDArray[np.int64], rungs: Sequence[str]) -> Rows:
    """The features of some pictures, of the rungs that a head stands on."""
    return ground.gathered.features.rows(which, tuple(ground.trunk.columns(rung) for rung in rungs))


def choose_on(ground: Ground, rungs: Sequence[str], settings: TrainSettings, progress: Progress) -> Choice:
    """The head on some rungs that the training pictures support."""
    gathered, chosen = ground.gathered, ground.gathered.indices("train")
    labels, classes = gathered.labels[chosen], len(gathered.collection.classes)
    return choose_head(
        rows_of(ground, chosen, rungs), labels, ground.fold, num_classes=classes,
        class_weights=class_weights(labels, classes, settings.class_weights), groups=gathered.groups[chosen],
        progress=progress,
    )  # fmt: skip


def last_head(
    ground: Ground, own: Head, rungs: tuple[str, ...], settings: TrainSettings, progress: Progress
) -> LastHead:
    """One chosen anew on `rungs` of the tuned network's ladder, or its own, where that is right as often or more.

    ground: with the tuned trunk and its features. Judged on the validation pictures that are no near-duplicates of
    training pictures, on which the winner's temperature is set as well; where they are too few to judge, the new head
    it is, for the probes chose where it stands, and few pictures hardly train one by gradients. A head that is fitted
    anew sees features that were tuned on the same pictures, so its cross-validation flatters it; the validation
    pictures do not. A gain within noise is taken too, for neither head costs more than the other.
    """
    gathered = ground.gathered
    val = gathered.indices("val")
    val = val[~np.isin(gathered.groups[val], gathered.groups[gathered.indices("train")])]
    where = standing_on(rungs)
    choice = choose_on(ground, rungs, settings, progress)
    if len(val) < FEWEST_TO_COMPARE:
        few = f"{len(val)} validation pictures are too few to hold it against the network's own"
        calibration = "none" if choice.head.kind == "logistic" else CALIBRATED
        return LastHead(
            choice.head, rungs, f"a new head: {NAMES[choice.head.kind]} on {where}; {few}", calibration,
            trials=choice.trials,
        )  # fmt: skip
    labels = gathered.labels[val]
    own_logits, other_logits = logits(rows_of(ground, val, TOP), own), logits(rows_of(ground, val, rungs), choice.head)
    weights = class_weights(labels, len(gathered.collection.classes), settings.class_weights)
    gained = gain(
        other_logits.argmax(axis=1) == labels, own_logits.argmax(axis=1) == labels,
        None if weights is None else weights[labels], gathered.groups[val],
    )  # fmt: skip
    better = gained.value > 0
    chosen, at, said = (choice.head, rungs, other_logits) if better else (own, TOP, own_logits)
    factor = np.float32(inverse_temperature(said, labels))
    reason = (
        f"{'a new head' if better else 'the network keeps its own head'}: {NAMES[choice.head.kind]} on {where} gains "
        f"{gained.points()} on {len(val):,} validation pictures{'' if weights is None else ', classes weighed alike'}"
        f"{', within noise' if gained.low <= 0 <= gained.high else ''}"
    )
    return LastHead(
        replace(chosen, weight=chosen.weight * factor, bias=chosen.bias * factor), at, reason, CALIBRATED, gained,
        choice.trials,
    )  # fmt: skip


def plant(trunk: Trunk, head: Head, rungs: tuple[str, ...], classes: tuple[str, ...]) -> Planted:
    """The head on a trunk: graph and tensors."""
    from safetensors.numpy import load_file

    at_top = rungs == TOP
    graph = with_head(
        trunk.graph, head.weight, head.bias, classes, kernel=head.kernel,
        rungs=None if at_top else [trunk.rungs.index(rung) for rung in rungs],
    )  # fmt: skip
    tensors = load_file(trunk.weights)
    old = tensors[f"{trunk.head}.weight"]
    tensors |= head.tensors(trunk.head)
    if head.kernel is None and at_top:
        tensors[f"{trunk.head}.weight"] = head.weight.reshape(-1, *old.shape[1:])  # (K, D), or (K, D, 1, 1)
    return Planted(graph, tensors, {} if at_top else {"rungs": ",".join(rungs)})
