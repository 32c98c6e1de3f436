"""Fine-tuning as a part of `graft train`: from the advice to a network that is exported whole, and checked.

What a stopped run needs to go on lies in one folder: which pictures it had, its plan, and the state of each phase. The
check: the finished network says of the validation pictures what its upper part says on their kept maps.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from graft.data.decode import decode, read_picture
from graft.data.preprocess import Preprocess, fit_picture
from graft.errors import BadModel, UsageError
from graft.jobs.ground import Ground, Grown, Tuned, stage_above
from graft.jobs.learnt import Gathered, class_weights, through, with_validation
from graft.jobs.scratch_network import graph_of, head_name, regularized, tensors_of
from graft.jobs.settings import TrainingSettings, TrainSettings, finetuning
from graft.jobs.state import PICTURES, Watch, told
from graft.models.build import build
from graft.models.network import Built, stage_names
from graft.progress import Progress
from graft.runtime.lower import Lower
from graft.training.curves import verdict
from graft.training.history import read_history
from graft.training.loop import Outcome
from graft.transfer.advice import Advice, Strategy
from graft.transfer.finetune import (
    Material,
    Plan,
    give_head,
    make_plan,
    normalization_of,
    tune_on_maps,
    tune_on_pictures,
    varied,
    with_batch,
)
from graft.transfer.maps import open_lower, seconds_per_view
from graft.transfer.probe import fit_probe
from graft.transfer.trunk import FEATURES

_AGREEMENT: Final = 0.02  # of a probability: maps went through float16
_WEAKEST: Final = 100.0  # strength of the first head's penalty: long weights make large gradients below
_PLAN: Final = "plan.json"
_UPPER, _WHOLE = "upper", "whole"  # folders of the phases' states


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
    gathered = _with_comparison(ground)
    material = Material(
        gathered.collection.samples, gathered.labels, gathered.indices("train"), gathered.indices("val"),
        ground.preprocess, ground.store,
    )  # fmt: skip
    _note(folder, gathered, ground, resume=settings.resume)
    training = settings.training or finetuning(seed=settings.seed, class_weights=settings.class_weights)
    training = with_batch(training, len(material.train))
    built = build(ground.source)
    weight, bias = _probe(ground, gathered, settings, progress)
    give_head(built.network, weight, bias)
    regularized(built.network, training)

    # Frozen stages run once, on a CPU; a whole network is tuned top-down, its upper half first.
    names = stage_names(built.network)
    lowest = _lowest(settings.freeze, advice, names)
    whole = lowest == names[0]
    first = (advice.by_evidence.cut or names[len(names) // 2]) if whole else lowest
    lower = None
    if first != names[0] and ground.device == "cpu":
        lower = open_lower(built, first, ground.trunk.size, ground.cache, trunk=ground.trunk, progress=progress)
    plan = _planned(folder, material, lower, training, left, whole=whole)
    tell = watch or told(progress)
    outcomes: list[Outcome] = []
    kept = None
    if lower is not None:
        kept = tune_on_maps(
            built, first, lower, material, training, plan, folder=folder / _UPPER, resume=settings.resume,
            progress=progress, watch=tell,
        )  # fmt: skip
        outcomes.append(kept.outcome)
    if whole or lower is None:
        outcome = tune_on_pictures(
            built, lowest, material, training, plan, after=kept is not None, folder=folder / _WHOLE,
            device=ground.device, resume=settings.resume, progress=progress, watch=tell,
        )  # fmt: skip
        outcomes.append(outcome)

    graph = graph_of(built.network, ground.preprocess, normalization_of(built), gathered.collection.classes)
    said = {part: _probabilities(gathered, part, graph, ground.preprocess, progress) for part in ("val", "test")}
    if kept is not None and not whole:
        check_agreement(said["val"], kept.said)
    maps: dict[str, Any] = {}
    if kept is not None:
        maps = {"cut": first, "views": plan.views, "bytes": kept.bytes, "seconds": round(kept.seconds, 1)}
    strategy = Strategy("finetune", cut=None if whole else lowest)
    return Tuned(_grown(built, strategy, training, gathered, graph, said, outcomes, maps), time.perf_counter() - began)


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


def _with_comparison(ground: Ground) -> Gathered:
    """The split with a validation part: the one there is, else a part of the cross-validation."""
    gathered = ground.gathered
    if len(gathered.indices("val")):
        return gathered
    held_out = np.zeros(len(gathered.labels), np.bool_)
    held_out[gathered.indices("train")[ground.fold == 0]] = True
    return with_validation(gathered, held_out)


def _note(folder: Path, gathered: Gathered, ground: Ground, *, resume: bool) -> None:
    """Write down what the run learns from; raises UsageError when a resumed run had something else."""
    digest = hashlib.sha256(f"{ground.trunk.key} {ground.preprocess.geometry_digest()}".encode())
    for part in ("train", "val"):
        which = gathered.indices(part)
        digest.update(b"".join(gathered.features.keys[i] for i in which) + gathered.labels[which].tobytes())
    note = folder / PICTURES
    if not resume:
        note.write_text(digest.hexdigest())
    elif note.read_text() != digest.hexdigest():
        raise UsageError("the stopped run had other pictures or another network; begin anew with --force")


def _probe(
    ground: Ground, gathered: Gathered, settings: TrainSettings, progress: Progress
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weight (K, D) and bias (K,) of logistic regression on the top features of the pictures that are learnt from."""
    chosen, classes = gathered.indices("train"), len(gathered.collection.classes)
    labels, fold = gathered.labels[chosen], ground.fold
    if len(chosen) < len(fold):  # one part of the cross-validation is kept back for the comparison
        fold = np.where(fold > 0, fold - 1, fold)[fold != 0]
    probe = fit_probe(
        gathered.features.rows(chosen, ground.trunk.columns(FEATURES)), labels, fold, num_classes=classes,
        class_weights=class_weights(labels, classes, settings.class_weights),
        weakest=_WEAKEST, progress=progress,
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
    plan = make_plan(training, left=left, per_view=per_view, whole=whole)
    note.write_text(json.dumps(asdict(plan)))
    return plan


def _probabilities(
    gathered: Gathered, part: str, graph: bytes, preprocess: Preprocess, progress: Progress
) -> NDArray[np.float32]:
    """(n, K) of one part's pictures, decoded again, through the finished graph."""
    paths = [gathered.collection.samples[i].path for i in gathered.indices(part)]

    def pixels(i: int) -> NDArray[np.uint8]:
        image = decode(read_picture(paths[i]), name=paths[i], shortest=preprocess.size).image
        return fit_picture(image, preprocess)

    return through(graph, gathered, part, pixels, progress)


def _grown(
    built: Built,
    strategy: Strategy,
    training: TrainingSettings,
    gathered: Gathered,
    graph: bytes,
    said: dict[str, NDArray[np.float32]],
    outcomes: Sequence[Outcome],
    maps: dict[str, Any],
) -> Grown:
    """The tuned network as a model. maps: what there is to say of kept ones."""
    last = outcomes[-1]
    history = read_history(last.history.parent)
    return Grown(
        strategy=strategy,
        words=f"{strategy.words}: {sum(o.epochs for o in outcomes)} epochs with {training.optimizer}, the weights of "
        f"epoch {last.best_epoch} kept",
        graph=graph,
        tensors=tensors_of(built.network, built.published, normalization_of(built)),
        gathered=gathered,
        said=said,
        history=last.history.read_bytes(),
        head=head_name(built.network, built.published),
        curves=history,
        record={
            "verdict": [f"{finding.name}: {finding.evidence}" for finding in verdict(history)],
            "training": asdict(training),
            "cut": strategy.cut or "all",
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
