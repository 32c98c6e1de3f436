"""A new head on a network, frozen or tuned: how it is chosen, and how it becomes a part of the network."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from graft.classifier.manifest import HeadRecord
from graft.evaluate.calibration import inverse_temperature
from graft.evaluate.intervals import Interval
from graft.features.trunk import TOP, Trunk
from graft.heads.choose import FEWEST_TO_COMPARE, NAMES, Choice, HeadTrial, choose_head, gain
from graft.heads.head import LOGISTIC, Head, logits
from graft.run.learned import Learned, NetworkOf
from graft.run.transfer import FOLDS, Transfer
from graft.runtime.graph import with_head
from graft.strategy.advice import Advice, Strategy, standing_on

CALIBRATED: Final = "temperature, folded into the head"


@dataclass(frozen=True, eq=False)
class LastHead:
    """The head that a tuned network ends with.

    reason: a sentence with numbers. calibration: the method, for the manifest.
    gain: of the head that was tried over the network's own, on the validation pictures, and trials, those among which
    it was chosen; None and empty where none was tried.
    """

    head: Head
    reason: str
    calibration: str = "none"
    gain: Interval | None = None
    trials: tuple[HeadTrial, ...] = ()


def choose_on(transfer: Transfer, reads: tuple[str, ...]) -> Choice:
    """The head on some features that the training pictures support; it names what it reads."""
    dataset, chosen = transfer.dataset, transfer.dataset.indices("train")
    choice = choose_head(
        transfer.rows(chosen, reads), dataset.labels[chosen], transfer.fold, num_classes=len(dataset.classes),
        class_weights=dataset.class_weights(chosen, transfer.recipe.class_weights), groups=dataset.groups[chosen],
        progress=transfer.workplace.progress,
    )  # fmt: skip
    return replace(choice, head=replace(choice.head, reads=reads))


def probe_of(transfer: Transfer, strategy: Strategy, choice: Choice, advice: Advice | None) -> Learned:
    """The chosen head on the frozen network, as a classifier."""
    read, dataset, head = transfer.read, transfer.dataset, choice.head
    with transfer.workplace.clock.step("model"):
        graph, tensors = with_its_head(transfer.trunk, head, dataset.classes)
    return Learned(
        dataset=dataset,
        recipe=transfer.recipe,
        strategy=strategy,
        words=f"{strategy.words}; {choice.reason}",
        network=NetworkOf(read.weights.network, read.trunk.builder, read.trunk.architecture),
        preprocess=read.preprocess,
        head=HeadRecord(layer=transfer.trunk.head, kind=head.kind, reads=head.reads),
        calibration="none" if head.kind == LOGISTIC else CALIBRATED,
        graph=graph,
        tensors=tensors,
        answer=lambda which: transfer.probabilities(which, head),
        held_out={"train": choice.held_out},
        limit=dataset.features.limit,
        history=_search(choice),
        advice=advice,
        probe=choice.probe,
        record={
            "trunk": read.trunk.key,
            "stages": read.trunk.stages,
            "strength": choice.probe.strength,
            "folds": FOLDS,
            "head": choice.reason,
            "heads": [asdict(trial) for trial in choice.trials],
        },
    )


def last_head(transfer: Transfer, own: Head, reads: tuple[str, ...]) -> LastHead:
    """One chosen anew on the features `reads` of a tuned network, or its own, where that is right as often or more.

    transfer: with the tuned trunk and its features. Judged on the validation pictures that are no near-duplicates of
    training pictures, on which the winner's temperature is set as well; where they are too few to judge, the new head
    it is, for the probes chose what it reads, and few pictures hardly train one by gradients. A head that is fitted
    anew sees features that were tuned on the same pictures, so its cross-validation flatters it; the validation
    pictures do not. A gain within noise is taken too, for neither head costs more than the other.
    """
    dataset = transfer.dataset
    val = dataset.indices("val")
    val = val[~np.isin(dataset.groups[val], dataset.groups[dataset.indices("train")])]
    where = standing_on(reads)
    choice = choose_on(transfer, reads)
    if len(val) < FEWEST_TO_COMPARE:
        few = f"{len(val)} validation pictures are too few to hold it against the network's own"
        calibration = "none" if choice.head.kind == LOGISTIC else CALIBRATED
        return LastHead(
            choice.head, f"a new head: {NAMES[choice.head.kind]} on {where}; {few}", calibration,
            trials=choice.trials,
        )  # fmt: skip
    labels = dataset.labels[val]
    own_logits = logits(transfer.rows(val, own.reads), own)
    other_logits = logits(transfer.rows(val, reads), choice.head)
    weights = dataset.class_weights(val, transfer.recipe.class_weights)
    gained = gain(
        other_logits.argmax(axis=1) == labels, own_logits.argmax(axis=1) == labels,
        None if weights is None else weights[labels], dataset.groups[val],
    )  # fmt: skip
    better = gained.value > 0
    chosen, given = (choice.head, other_logits) if better else (own, own_logits)
    factor = np.float32(inverse_temperature(given, labels))
    reason = (
        f"{'a new head' if better else 'the network keeps its own head'}: {NAMES[choice.head.kind]} on {where} gains "
        f"{gained.points()} on {len(val):,} validation pictures{'' if weights is None else ', classes weighed alike'}"
        f"{', within noise' if gained.low <= 0 <= gained.high else ''}"
    )
    return LastHead(
        replace(chosen, weight=chosen.weight * factor, bias=chosen.bias * factor), reason, CALIBRATED, gained,
        choice.trials,
    )  # fmt: skip


def with_its_head(trunk: Trunk, head: Head, classes: tuple[str, ...]) -> tuple[bytes, dict[str, NDArray[Any]]]:
    """The network with a head in place of its last layer: the ONNX file's bytes, and all tensors by published names."""
    from safetensors.numpy import load_file

    at_top = head.reads == TOP
    numbers = None if at_top else [trunk.outputs.index(name) for name in head.reads]
    tensors = load_file(trunk.weights)
    old = tensors[f"{trunk.head}.weight"]
    tensors |= head.tensors(trunk.head)
    if head.transform is None and at_top:
        tensors[f"{trunk.head}.weight"] = head.weight.reshape(-1, *old.shape[1:])  # (K, D), or (K, D, 1, 1)
    return with_head(trunk.graph, head, classes, reads=numbers), tensors


def _search(choice: Choice) -> bytes:
    """The search for the head's strength, a JSON object a line."""
    lines = (
        json.dumps(
            {"strength": t.strength, "cross_validated_log_loss": t.log_loss, "cross_validated_accuracy": t.accuracy}
        )
        for t in choice.probe.trials
    )
    return ("\n".join(lines) + "\n").encode()
