"""Fine-tuning as a part of `graft train`: from the advice to a network that is exported whole, and checked.

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
from graft.heads.head import Head, probabilities
from graft.heads.probe import fit_probe
from graft.models.build import build
from graft.models.network import Built, head, stage_names
from graft.progress import Progress
from graft.run.ground import Ground, Grown, Tuned, stage_above
from graft.run.heads import LastHead, last_head, plant, rows_of
from graft.run.learnt import Gathered, class_weights, with_validation
from graft.run.scratch_network import regularized
from graft.run.settings import TrainingSettings, TrainSettings, finetuning
from graft.run.state import Watch, same_pictures, told
from graft.strategy.advice import Advice, Strategy
from graft.training.checks.curves import verdict
from graft.training.loop.fit import Outcome
from graft.training.loop.history import read_history

_AGREEMENT: Final = 0.02  # of a probability: maps went through float16
_WEAKEST: Final = 100.0  # strength of the first head's penalty: long weights make large gradients below
_PLAN: Final = "plan.json"
_UPPER, _WHOLE, _TUNED = "upper", "whole", "tuned"  # folders: the phases' states, and what came of them


def tune(
    ground: Ground,
    advice: Advice,
    settings: TrainSettings,
    *,
    left: float | None,
    folder: Path,
    progress: Progress,
    watch: Watch | None,
) -> Tuned:
    """Fine-tune the network on the training pictures but for those of the comparison, which choose among its epochs.

    left: seconds that it may take, None for any number. folder: keeps the state, so that a stopped run goes on from
    there. Raises GraftError where the loss stops being finite, BadModel where the finished network and its two parts
    disagree.
    """
    began = time.perf_counter()
    ground = _with_comparison(ground)
    gathered, trunk = ground.gathered, ground.trunk
    material = Material(
        gathered.collection.samples, gathered.labels, gathered.indices("train"), gathered.indices("val"),
        ground.preprocess, ground.store,
    )  # fmt: skip
    same_pictures(folder, gathered, f"{trunk.key} {ground.preprocess.geometry_digest()}", resume=settings.resume)
    training = settings.training or finetuning(seed=settings.seed, class_weights=settings.class_weights)
    training = with_batch(training, len(material.train))
    built = build(ground.source)
    give_head(built.network, *_probe(ground, settings, progress))
    regularized(built.network, training)

    # Frozen stages run once, on a CPU; a whole network is tuned top-down, its upper half first.
    names = stage_names(built.network)
    lowest = _lowest(settings.freeze, advice, names)
    whole = lowest == names[0]
    first = (advice.by_evidence.cut or names[len(names) // 2]) if whole else lowest
    lower = None
    if first != names[0] and ground.device == "cpu":
        lower = open_lower(built, first, trunk.size, ground.cache, trunk=trunk, progress=progress)
    side = None if lower is None else small_side(built, trunk.size)
    plan = _planned(folder, material, lower, training, left, whole=whole, small=side is not None)
    small = None
    if side is not None and plan.small:
        small = open_lower(built, first, side, ground.cache, progress=progress)
    tell = watch or told(progress)
    outcomes: list[Outcome] = []
    kept = None
    if lower is not None:
        kept = tune_on_maps(
            built, first, lower, material, training, plan, small=small, folder=folder / _UPPER,
            resume=settings.resume, progress=progress, watch=tell,
        )  # fmt: skip
        outcomes.append(kept.outcome)
    if whole or lower is None:
        outcome = tune_on_pictures(
            built, lowest, material, training, plan, after=kept is not None, folder=folder / _WHOLE,
            device=ground.device, resume=settings.resume, progress=progress, watch=tell,
        )  # fmt: skip
        outcomes.append(outcome)

    below = None if whole or kept is None else (first, kept.maps)
    tuned, own = _tuned_ground(ground, built, below, folder / _TUNED, progress), _own_head(built)
    if kept is not None and not whole:
        val = rows_of(tuned, gathered.indices("val"), TOP)
        check_agreement(probabilities(val, own), kept.said)
    rungs = advice.probe.rungs
    if not {*names[names.index(lowest) :], *TOP} & {*rungs}:  # else the head would have nothing of what was tuned
        rungs = (*rungs, *TOP)
    last = last_head(tuned, own, rungs, settings, progress)
    maps: dict[str, Any] = {}
    if kept is not None:
        maps = {
            "cut": first, "views": plan.views, "small": plan.small, "bytes": kept.bytes,
            "seconds": round(kept.seconds, 1),
        }  # fmt: skip
    strategy = Strategy("finetune", cut=None if whole else lowest)
    return Tuned(_grown(tuned, gathered, last, strategy, training, outcomes, maps), time.perf_counter() - began)


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


def _with_comparison(ground: Ground) -> Ground:
    """With a validation part: the one there is, else a part of the cross-validation."""
    gathered = ground.gathered
    if len(gathered.indices("val")):
        return ground
    held_out = np.zeros(len(gathered.labels), np.bool_)
    held_out[gathered.indices("train")[ground.fold == 0]] = True
    fold = np.where(ground.fold > 0, ground.fold - 1, ground.fold)[ground.fold != 0]
    return replace(ground, gathered=with_validation(gathered, held_out), fold=fold)


def _probe(
    ground: Ground, settings: TrainSettings, progress: Progress
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weight (K, D) and bias (K,) of logistic regression on the top features of the pictures that are learnt from."""
    gathered, chosen = ground.gathered, ground.gathered.indices("train")
    labels, classes = gathered.labels[chosen], len(gathered.collection.classes)
    probe = fit_probe(
        rows_of(ground, chosen, TOP), labels, ground.fold, num_classes=classes,
        class_weights=class_weights(labels, classes, settings.class_weights), weakest=_WEAKEST, progress=progress,
    )  # fmt: skip
    return probe.weight, probe.bias


def _lowest(freeze: str | None, advice: Advice, names: Sequence[str]) -> str:
    """The lowest stage that is tuned: as asked for, else as advised, else the first of the upper half."""
    if freeze is not None:
        return stage_above(freeze, names)
    for advised in (advice.by_evidence, advice.by_table):
        if advised.kind == "finetune":
            return advised.cut or names[0]
    return names[len(names) // 2]


def _planned(
    folder: Path,
    material: Material,
    lower: Lower | None,
    training: TrainingSettings,
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
        per_view = seconds_per_view(samples, lower, material.preprocess, policy=varied(training))
        left -= time.perf_counter() - began
    plan = make_plan(training, left=left, per_view=per_view, whole=whole, small=small)
    note.write_text(json.dumps(asdict(plan)))
    return plan


def _tuned_ground(
    ground: Ground, built: Built, below: tuple[str, Maps] | None, folder: Path, progress: Progress
) -> Ground:
    """The same with the tuned network as its trunk, and what that makes of every picture.

    below: the lowest tuned stage and the training pictures' maps below it, where nothing below was tuned; their rows
    come from these. folder: for the network and its features, which nobody needs once the run is over.
    """
    progress("exporting the tuned network", 0, 1)
    built.network.eval()
    trunk = tuned_trunk(built, ground.trunk, folder)
    progress("exporting the tuned network", 1, 1)
    store, gathered = Store(folder / "features"), ground.gathered
    row_bytes = 2 * trunk.row_width + KEY_BYTES
    store.make_room(len(gathered.labels) * row_bytes, what="the features of the tuned network")
    if below is not None:
        keys, judged = gathered.features.keys, (*gathered.indices("val"), *gathered.indices("test"))
        whole = {keys[i] for i in judged}  # judged through the whole network, also where a copy was trained on
        which = np.array([-1 if keys[i] in whole else i for i in gathered.indices("train")])
        remember_from_maps(*below, gathered.features, which, trunk, ground.preprocess, store, progress=progress)
    features = extract(
        gathered.collection.samples, runner(trunk, built, ground.device), ground.preprocess, store,
        trunk_key=trunk.key, width=trunk.row_width, on_gpu=ground.device != "cpu", strict=True, progress=progress,
    )  # fmt: skip
    return replace(ground, trunk=trunk, gathered=replace(gathered, features=features))


def _own_head(built: Built) -> Head:
    """The network's last layer."""
    last = head(built.network)
    return Head("logistic", last.weight.detach().numpy(), last.bias.detach().numpy())


def _grown(
    tuned: Ground,
    gathered: Gathered,
    last: LastHead,
    strategy: Strategy,
    training: TrainingSettings,
    outcomes: Sequence[Outcome],
    maps: dict[str, Any],
) -> Grown:
    """The tuned network as a model. gathered: with the features it began from. maps: what there is to say of them."""
    end = outcomes[-1]
    planted = plant(tuned.trunk, last.head, last.rungs, gathered.collection.classes)
    history = read_history(end.history.parent)
    return Grown(
        strategy=strategy,
        words=f"{strategy.words}: {sum(o.epochs for o in outcomes)} epochs with {training.optimizer}, the weights of "
        f"epoch {end.best_epoch} kept; {last.reason}",
        graph=planted.graph,
        tensors=planted.tensors,
        gathered=gathered,
        said={
            part: probabilities(rows_of(tuned, gathered.indices(part), last.rungs), last.head)
            for part in ("val", "test")
            if len(gathered.indices(part))
        },
        history=end.history.read_bytes(),
        head=tuned.trunk.head,
        head_kind=last.head.kind,
        calibration=last.calibration,
        arguments=planted.arguments,
        curves=history,
        record={
            "verdict": [f"{finding.name}: {finding.evidence}" for finding in verdict(history)],
            "training": asdict(training),
            "cut": strategy.cut or "all",
            "head": last.reason,
            "head_gain": None if last.gain is None else asdict(last.gain),
            "heads": [asdict(trial) for trial in last.trials],
            "phases": [
                {"epochs": o.epochs, "best_epoch": o.best_epoch, "ended": o.why, "precision": o.precision,
                 "batch": o.batch, "seconds": round(o.seconds, 1),
                 "pictures_per_second": round(o.pictures_per_second, 1)} for o in outcomes
            ],
            "maps": maps,
            "notices": [notice for o in outcomes for notice in o.notices],
        },
        others={"settings.toml": training.to_toml().encode()},
    )  # fmt: skip
