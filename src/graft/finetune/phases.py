"""Fine-tuning in two phases: the stages above a cut on kept maps of those below; then, where wanted, all on pictures.

The new head begins with the weights of a probe, so that no gradient of an untrained one runs through the network. What
is frozen runs once for every view of a picture. Both phases are the training loop's, and resume as it does.
On kept maps the first epochs are of small pictures: benchmarks/small_first.py measures what that saves.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from graft.data.augmentation.augment import Augmentation, policy
from graft.data.preprocess import Preprocess
from graft.data.sources.scan import Sample
from graft.disk.table import Store
from graft.errors import GraftError
from graft.evaluate.calibration import softmax
from graft.features.extract import decode_once
from graft.finetune.growing import Growing
from graft.finetune.lower import Lower
from graft.finetune.map_source import MapSource
from graft.finetune.maps import Maps, budgeted_views, keep_maps, maps_bytes
from graft.models.network import Built, cut, head, stage_names
from graft.progress import Progress, silent
from graft.training.loop.fit import Outcome, fit
from graft.training.loop.history import Event
from graft.training.loop.pictures import Pictures
from graft.training.loop.plan import pictures_per_step
from graft.training.loop.source import Source
from graft.training.recipe.normalize import Normalization
from graft.training.recipe.settings import Recipe

Watch = Callable[[Event], None]

VIEWS: Final = 4  # of each picture at most, the plain one among them
BATCH: Final = 32  # pictures at most, where the settings leave it open
SMALL_BATCH: Final = 8  # pictures at least, where there are as many
STEPS: Final = 32  # of an epoch of few pictures: the batch between both that gives so many
WHOLE_SHARE: Final = 1 / 3  # of the epochs or the time, in which the whole network is tuned
SMALL_SHARE: Final = 2 / 3  # of the views, and of the epochs, that are small: they come first
SMALL_SIDE: Final = 0.7  # side of small pictures, over the network's; they cost half as much
_SIDES: Final = 32  # what a side must be a multiple of, so that strides below meet no half pixel
_SMALLEST: Final = 96  # pixels of a side, at least
_LEAST_SECONDS: Final = 1.0  # for a phase, however little of a budget is left: at least one step is taken
_AT_ONCE: Final = 32  # pictures in a pass that scores them


@dataclass(frozen=True, eq=False)
class Material:
    """The pictures that a network is tuned on.

    samples, labels (N,): of the whole collection, labels 0 … K − 1. train, val: places in it of the pictures that are
    learnt from, and of those that choose among the epochs.
    """

    samples: Sequence[Sample]
    labels: NDArray[np.int64]
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    preprocess: Preprocess
    store: Store


@dataclass(frozen=True)
class Plan:
    """What the clock decides before the first step; a run that is resumed takes it over.

    views: of each picture whose maps are kept. on_maps, on_pictures: seconds for either phase, None without a budget.
    small: how many of the views are of small pictures, and come first.
    """

    views: int
    on_maps: float | None = None
    on_pictures: float | None = None
    small: int = 0


@dataclass(frozen=True, eq=False)
class OnMaps:
    """What the phase on kept maps gave. said: (n, K) probabilities of the validation pictures, by the upper part on
    their maps. maps: of the training pictures in full size. bytes: of all maps. seconds: that it took to make them."""

    outcome: Outcome
    said: NDArray[np.float32]
    maps: Maps
    bytes: int
    seconds: float


def give_head(network: nn.Module, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
    """Put a linear layer, weight (K, D) and bias (K,) on the features, in place of the network's last one."""
    linear = nn.Linear(head(network).in_features, len(bias))
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weight))
        linear.bias.copy_(torch.from_numpy(bias))
    classifier = network.classifier
    assert isinstance(classifier, nn.Sequential)
    classifier[-1] = linear


def with_batch(training: Recipe, pictures: int) -> Recipe:
    """The settings with a batch: theirs, else BATCH, or fewer where there are few pictures to learn from.

    Raises UsageError, before any map is made, for a batch that is larger than that.
    """
    if training.batch is None:
        few = min(BATCH, max(SMALL_BATCH, pictures // STEPS))
        training = replace(training, batch=max(1, min(few, pictures // training.accumulate)))
    pictures_per_step(training, pictures)
    return training


def varied(training: Recipe) -> tuple[Augmentation, ...]:
    """The augmentations that tell the views of a picture apart; maps are flipped as they are, so flips do not."""
    return tuple(each for each in policy(training.augment) if each.name != "flip")


def small_side(built: Built, size: int) -> int | None:
    """Side of the small pictures, pixels, that a network is tuned on before those of side `size`.

    None where they would be too small to gain by, or the network takes pictures of one size only.
    """
    side = _SIDES * round(SMALL_SIDE * size / _SIDES)
    if not _SMALLEST <= side < size:
        return None
    network = built.network.eval()
    try:
        with torch.inference_mode():
            network(torch.zeros(1, len(built.mean), side, side))
    except (AssertionError, RuntimeError, ValueError):  # such as of a linear layer on maps that lie flat
        return None
    return side


def make_plan(training: Recipe, *, left: float | None, per_view: float, whole: bool, small: bool) -> Plan:
    """How many views are kept, and how long the phases may take.

    left: seconds, all in all, None without a budget; where next to none are left, each phase still takes a step.
    per_view: seconds that a view of all pictures takes, 0 where no maps are kept. whole: whether all stages are tuned
    in the end. small: whether some views may be of small pictures; with a budget or patience none are, for the run
    might end before the full size comes.
    """
    if left is None:
        views = min(VIEWS, training.epochs) if varied(training) else 1
        small = small and views > 1 and training.patience is None
        return Plan(views, small=round(SMALL_SHARE * views) if small else 0)
    if not per_view:
        return Plan(1, on_pictures=max(left, _LEAST_SECONDS))
    views = budgeted_views(max(left, _LEAST_SECONDS), per_view, VIEWS) if varied(training) else 1
    rest = max(left - views * per_view, _LEAST_SECONDS)
    return Plan(views, rest * (1 - WHOLE_SHARE), rest * WHOLE_SHARE) if whole else Plan(views, rest)


def tune_on_maps(
    built: Built,
    stage: str,
    lower: Lower,
    material: Material,
    training: Recipe,
    plan: Plan,
    *,
    small: Lower | None = None,
    folder: Path,
    resume: bool = False,
    progress: Progress = silent,
    watch: Watch,
) -> OnMaps:
    """Tune the part of a network from `stage` up on kept maps of what is below; the network ends with the kept weights.

    lower: the part below. small: the same for small pictures, where the plan has any. folder: keeps the state. Raises
    GraftError where the maps do not fit the disk, or the loss stops being finite.
    """
    train, val = ([material.samples[i] for i in which] for which in (material.train, material.val))
    in_full = plan.views - plan.small
    full_bytes, val_bytes = maps_bytes(len(train), lower.shape, in_full), maps_bytes(len(val), lower.shape, 1)
    small_bytes, views = 0, f"{plan.views} views"
    if small is not None:
        small_bytes = maps_bytes(len(train), small.shape, plan.small)
        views += f", {plan.small} of {small.size}²"
    size = full_bytes + small_bytes + val_bytes
    progress(f"keeping {size / 1e6:,.0f} MB of maps below {stage} ({views})", 1, 1)

    def of_train(maps: Maps) -> MapSource:
        return MapSource(material.labels[material.train], material.train, maps, np.arange(len(train)))

    keep = partial(keep_maps, store=material.store, policy=varied(training), seed=training.seed, progress=progress)
    kept = keep(train, lower, material.preprocess, views=in_full, beside=small_bytes + val_bytes)
    source: Source = of_train(kept)
    seconds = kept.seconds
    if small is not None:
        smaller = replace(material.preprocess, size=small.size)
        first = keep(train, small, smaller, views=plan.small, plain=False, beside=val_bytes)
        source = Growing(of_train(first), source, until=round(training.epochs * plan.small / plan.views))
        seconds += first.seconds
    plain = keep_maps(val, lower, material.preprocess, material.store, progress=progress)
    judge = MapSource(material.labels[material.val], material.val, plain, np.arange(len(val)))
    _, upper = cut(built.network, stage)
    outcome = _fitted(
        upper, source, judge, replace(training, budget=plan.on_maps), None, _depths(built.network, upper), folder,
        resume=resume, watch=watch,
    )  # fmt: skip
    return OnMaps(outcome, softmax(_logits(upper, plain, len(val))), kept, size, seconds + plain.seconds)


def tune_on_pictures(
    built: Built,
    stage: str,
    material: Material,
    training: Recipe,
    plan: Plan,
    *,
    after: bool,
    folder: Path,
    device: str = "cpu",
    resume: bool = False,
    progress: Progress = silent,
    watch: Watch,
) -> Outcome:
    """Tune the part of a network from `stage` up on the pictures themselves; else as `tune_on_maps`.

    after: its upper stages have learnt before, so that a share of the epochs is enough.
    """
    decoded = decode_once(material.samples, material.preprocess, material.store, progress=progress)
    side = material.preprocess.size
    train, val = (
        Pictures(material.labels[which], which, (side, side, 3), decoded.pixels(which))
        for which in (material.train, material.val)
    )
    lower, _ = cut(built.network, stage)
    lower.requires_grad_(False)
    epochs = max(1, math.ceil(training.epochs * WHOLE_SHARE)) if after else training.epochs
    chosen = replace(training, epochs=epochs, budget=plan.on_pictures)
    return _fitted(
        built.network, train, val, chosen, normalization_of(built), _depths(built.network, built.network), folder,
        resume=resume, watch=watch, device=device,
    )  # fmt: skip


def normalization_of(built: Built) -> Normalization:
    """What the network's pictures are normalised by, 0–1."""
    return Normalization(np.array(built.mean, np.float32), np.array(built.std, np.float32))


def _fitted(
    network: nn.Module,
    train: Source,
    val: Source,
    training: Recipe,
    normalization: Normalization | None,
    depths: Mapping[str, int],
    folder: Path,
    *,
    resume: bool,
    watch: Watch,
    device: str = "cpu",
) -> Outcome:
    """The loop, from where it was stopped if that left a checkpoint; the network ends on the CPU."""
    begun = resume and any(folder.glob("checkpoint-*"))
    if not begun:
        shutil.rmtree(folder, ignore_errors=True)
    outcome = fit(
        network, train, val if len(val) else None, training, normalization=normalization, folder=folder, depths=depths,
        resume=begun, watch=watch, device=device,
    )  # fmt: skip
    if outcome.why == "not finite":
        raise GraftError(
            f"fine-tuning stopped at a loss that is not finite: {outcome.reason}; begin anew with --force and a lower "
            "--rate"
        )
    network.to(device="cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return outcome


def _depths(network: nn.Module, part: nn.Module) -> dict[str, int]:
    """How many stages each parameter of `part`, a part of `network`, is away from the head."""
    names = stage_names(network)
    assert isinstance(network.stages, nn.Module)
    at = {
        id(parameter): len(names) - place
        for place, name in enumerate(names)
        for parameter in network.stages.get_submodule(name).parameters()
    }
    return {name: at.get(id(parameter), 0) for name, parameter in part.named_parameters()}


def _logits(upper: nn.Module, maps: Maps, count: int) -> NDArray[np.float32]:
    """(count, K) of the plain views, by the upper part on their maps."""
    parts = np.array_split(np.arange(count), max(1, -(-count // _AT_ONCE)))
    with torch.inference_mode():
        return np.concatenate([upper(maps.plain(part)).numpy() for part in parts])
