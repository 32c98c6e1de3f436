"""Fine-tuning as a part of a run: from the advice to a network that is exported whole, and checked.

What a stopped run needs to go on lies in one folder: which pictures it had, its plan, and the state of each phase. The
check: the finished network says of the validation pictures what its upper part says on their kept maps. In the end the
tuned network is a trunk like any other: every picture runs through it once, or through its upper part where the maps
below are kept, and a head is chosen on its stages.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from graft.classifier.manifest import HeadRecord
from graft.disk.table import KEY_BYTES, Store
from graft.errors import BadModel
from graft.features.extract import extract
from graft.features.trunk import TOP, runner, tuned_trunk
from graft.finetune.lower import Lower
from graft.finetune.maps import Maps, open_lower, seconds_per_view
from graft.finetune.phases import (
    Material,
    Plan,
    give_head,
    make_plan,
    small_side,
    tune_on_maps,
    tune_on_pictures,
    varied,
    with_batch,
)
from graft.finetune.tuned import remember_from_maps
from graft.heads.head import LOGISTIC, Head
from graft.heads.probe import fit_probe
from graft.models.build import build
from graft.models.network import Built, head, stage_names
from graft.run.learned import Learned, NetworkOf, phase_of
from graft.run.network import regularized
from graft.run.prepare import stage_above
from graft.run.probe import LastHead, last_head, with_its_head
from graft.run.resume import same_pictures
from graft.run.transfer import Transfer
from graft.strategy.advice import Advice, Strategy
from graft.training.checks.curves import verdict
from graft.training.loop.fit import Outcome
from graft.training.loop.history import read_history
from graft.training.recipe.settings import Recipe

_AGREEMENT: Final = 0.02  # of a probability: maps went through float16
_WEAKEST: Final = 100.0  # strength of the first head's penalty: long weights make large gradients below
_PLAN: Final = "plan.json"
_UPPER, _WHOLE, _TUNED = "upper", "whole", "tuned"  # folders: the phases' states, and what came of them


def tune(transfer: Transfer, advice: Advice, *, left: float | None) -> tuple[Learned, float]:
    """Fine-tune the network on the training pictures but for those of the comparison, which choose among its epochs.

    left: seconds that it may take, None for any number. Returns the classifier, and the seconds that it took. Raises
    GraftError where the loss stops being finite, BadModel where the finished network and its two parts disagree.
    """
    began = time.perf_counter()
    transfer = _with_comparison(transfer)
    dataset, trunk, read, place = transfer.dataset, transfer.trunk, transfer.read, transfer.workplace
    material = Material(
        dataset.collection.samples, dataset.labels, dataset.indices("train"), dataset.indices("val"),
        read.preprocess, place.store,
    )  # fmt: skip
    same_pictures(place.state, dataset, f"{trunk.key} {read.preprocess.geometry_digest()}", resume=place.resume)
    recipe = with_batch(transfer.recipe, len(material.train))
    built = build(read.weights)
    give_head(built.network, *_first_head(transfer))
    regularized(built.network, recipe)

    # Frozen stages run once, on a CPU; a whole network is tuned top-down, its upper half first.
    names = stage_names(built.network)
    lowest = _lowest(recipe.freeze, advice, names)
    whole = lowest == names[0]
    first = (advice.by_evidence.cut or names[len(names) // 2]) if whole else lowest
    lower = None
    if first != names[0] and place.device == "cpu":
        lower = open_lower(built, first, trunk.size, place.cache, trunk=trunk, progress=place.progress)
    side = None if lower is None else small_side(built, trunk.size)
    plan = _planned(place.state, material, lower, recipe, left, whole=whole, small=side is not None)
    small = None
    if side is not None and plan.small:
        small = open_lower(built, first, side, place.cache, progress=place.progress)
    outcomes: list[Outcome] = []
    kept = None
    if lower is not None:
        kept = tune_on_maps(
            built, first, lower, material, recipe, plan, small=small, folder=place.state / _UPPER,
            resume=place.resume, progress=place.progress, watch=place.watch,
        )  # fmt: skip
        outcomes.append(kept.outcome)
    if whole or lower is None:
        outcome = tune_on_pictures(
            built, lowest, material, recipe, plan, after=kept is not None, folder=place.state / _WHOLE,
            device=place.device, resume=place.resume, progress=place.progress, watch=place.watch,
        )  # fmt: skip
        outcomes.append(outcome)

    below = None if whole or kept is None else (first, kept.maps)
    tuned, own = _on_the_tuned(transfer, built, below), _own_head(built)
    if kept is not None and not whole:
        check_agreement(tuned.probabilities(dataset.indices("val"), own), kept.said)
    reads = advice.probe.reads
    if not {*names[names.index(lowest) :], *TOP} & {*reads}:  # else the head would have nothing of what was tuned
        reads = (*reads, *TOP)
    last = last_head(tuned, own, reads)
    maps: dict[str, Any] | None = None
    if kept is not None:
        maps = {
            "cut": first, "views": plan.views, "small": plan.small, "bytes": kept.bytes,
            "seconds": round(kept.seconds, 1),
        }  # fmt: skip
    strategy = Strategy("finetune", cut=None if whole else lowest)
    tuned = replace(tuned, recipe=recipe)
    return _learned(tuned, transfer, last, strategy, outcomes, maps, advice), time.perf_counter() - began


def check_agreement(whole: NDArray[np.float32], parts: NDArray[np.float32]) -> None:
    """Raise BadModel where a network, and its two parts through kept maps, say different things of the same pictures.

    whole, parts: (n, K) probabilities.
    """
    difference = float(np.abs(whole - parts).max(initial=0))
    if not difference <= _AGREEMENT:
        raise BadModel(
            f"the finished network and its two parts differ by {difference:.3f} of a probability, allowed is "
            f"{_AGREEMENT}; delete the cache and train again"
        )


def _with_comparison(transfer: Transfer) -> Transfer:
    """With a validation part: the one there is, else a part of the cross-validation."""
    if len(transfer.dataset.indices("val")):
        return transfer
    fold = np.where(transfer.fold > 0, transfer.fold - 1, transfer.fold)[transfer.fold != 0]
    return replace(transfer, dataset=transfer.dataset.with_validation(transfer.fold), fold=fold)


def _first_head(transfer: Transfer) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weight (K, D) and bias (K,) of logistic regression on the top features of the pictures that are learnt from."""
    dataset, chosen = transfer.dataset, transfer.dataset.indices("train")
    probe = fit_probe(
        transfer.rows(chosen, TOP), dataset.labels[chosen], transfer.fold, num_classes=len(dataset.classes),
        class_weights=dataset.class_weights(chosen, transfer.recipe.class_weights), weakest=_WEAKEST,
        progress=transfer.workplace.progress,
    )  # fmt: skip
    return probe.weight, probe.bias


def _lowest(freeze: str | None, advice: Advice, names: Sequence[str]) -> str:
    """The lowest stage that is tuned: as asked for, else as advised, else the first of the upper half."""
    if freeze is not None:
        return stage_above(freeze, tuple(names))
    for advised in (advice.by_evidence, advice.by_table):
        if advised.kind == "finetune":
            return advised.cut or names[0]
    return names[len(names) // 2]


def _planned(
    folder: Path,
    material: Material,
    lower: Lower | None,
    recipe: Recipe,
    left: float | None,
    *,
    whole: bool,
    small: bool,
) -> Plan:
    """The plan, as the stopped run had it where one is resumed."""
    note = folder / _PLAN
    if note.is_file():
        return Plan(**json.loads(note.read_text()))
    per_view, began = 0.0, time.perf_counter()
    if lower is not None and left is not None:
        samples = [material.samples[i] for i in material.train]
        per_view = seconds_per_view(samples, lower, material.preprocess, policy=varied(recipe))
        left -= time.perf_counter() - began
    plan = make_plan(recipe, left=left, per_view=per_view, whole=whole, small=small)
    note.write_text(json.dumps(asdict(plan)))
    return plan


def _on_the_tuned(transfer: Transfer, built: Built, below: tuple[str, Maps] | None) -> Transfer:
    """The same with the tuned network as its trunk, and what that makes of every picture.

    below: the lowest tuned stage and the training pictures' maps below it, where nothing below was tuned; their rows
    come from these. Network and features lie in the run's state: nobody needs them once the run is over.
    """
    place, dataset = transfer.workplace, transfer.dataset
    folder = place.state / _TUNED
    place.progress("exporting the tuned network", 0, 1)
    built.network.eval()
    trunk = tuned_trunk(built, transfer.trunk, folder)
    place.progress("exporting the tuned network", 1, 1)
    store, preprocess = Store(folder / "features"), transfer.read.preprocess
    store.make_room(len(dataset.labels) * (2 * trunk.row_width + KEY_BYTES), what="the features of the tuned network")
    if below is not None:
        keys, judged = dataset.features.keys, (*dataset.indices("val"), *dataset.indices("test"))
        whole = {keys[i] for i in judged}  # judged through the whole network, also where a copy was trained on
        which = np.array([-1 if keys[i] in whole else i for i in dataset.indices("train")])
        remember_from_maps(*below, dataset.features, which, trunk, preprocess, store, progress=place.progress)
    features = extract(
        dataset.collection.samples, runner(trunk, built, place.device), preprocess, store, trunk_key=trunk.key,
        width=trunk.row_width, on_gpu=place.device != "cpu", strict=True, progress=place.progress,
    )  # fmt: skip
    return replace(transfer, trunk=trunk, dataset=replace(dataset, features=features))


def _own_head(built: Built) -> Head:
    """The network's last layer."""
    last = head(built.network)
    return Head(LOGISTIC, last.weight.detach().numpy(), last.bias.detach().numpy())


def _learned(
    tuned: Transfer,
    before: Transfer,
    last: LastHead,
    strategy: Strategy,
    outcomes: Sequence[Outcome],
    maps: dict[str, Any] | None,
    advice: Advice,
) -> Learned:
    """The tuned network as a classifier. before: with the features it began from. maps: what is recorded of them."""
    recipe, dataset, read, end = tuned.recipe, before.dataset, tuned.read, outcomes[-1]
    graph, tensors = with_its_head(tuned.trunk, last.head, dataset.classes)
    history = read_history(end.history.parent)
    val = dataset.indices("val")
    return Learned(
        dataset=dataset,
        recipe=recipe,
        strategy=strategy,
        words=f"{strategy.words}: {sum(o.epochs for o in outcomes)} epochs with {recipe.optimizer}, the weights of "
        f"epoch {end.best_epoch} kept; {last.reason}",
        network=NetworkOf(read.weights.network, tuned.trunk.builder, tuned.trunk.architecture),
        preprocess=read.preprocess,
        head=HeadRecord(layer=tuned.trunk.head, kind=last.head.kind, reads=last.head.reads),
        calibration=last.calibration,
        graph=graph,
        tensors=tensors,
        answer=lambda which: tuned.probabilities(which, last.head),
        held_out={"val": tuned.probabilities(val, last.head)} if len(val) else {},
        limit=dataset.features.limit,
        history=end.history.read_bytes(),
        advice=advice,
        curves=history,
        record={
            "trunk": read.trunk.key,
            "stages": read.trunk.stages,
            "verdict": [f"{finding.name}: {finding.evidence}" for finding in verdict(history)],
            "cut": strategy.cut or "all",
            "head": last.reason,
            "head_gain": last.gain,
            "heads": [asdict(trial) for trial in last.trials],
            "phases": [phase_of(outcome) for outcome in outcomes],
            "maps": maps,
            "notices": [notice for outcome in outcomes for notice in outcome.notices],
        },
    )
