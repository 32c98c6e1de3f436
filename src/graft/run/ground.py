"""What a run on a pretrained network stands on, and what grows on it: the classifier that is put into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from graft.data.preprocess import Fit, Preprocess
from graft.data.sources.scan import Collection
from graft.data.split import assign_folds
from graft.disk.cache import cache_folder
from graft.disk.table import Store
from graft.errors import UsageError, nearest, shown
from graft.features.extract import extract
from graft.features.trunk import TOP, Trunk, open_trunk, runner
from graft.heads.probe import Probe
from graft.models.weights import Source, find_source
from graft.progress import Progress
from graft.run.clock import Clock
from graft.run.learnt import Gathered, gather, too_small
from graft.run.settings import TrainSettings
from graft.run.state import with_validation_of
from graft.runtime.device import Device, choose_device
from graft.strategy.advice import Strategy
from graft.training.loop.history import History

FOLDS: Final = 5
NOTHING: Final = "none"
"""What `--freeze` says where no stage is to be frozen."""


@dataclass(frozen=True, eq=False)
class Ground:
    """What a run stands on once every picture went through the network, frozen or tuned.

    fold: (n,) for the training pictures, which part of the cross-validation holds each out, −1 where none does.
    asked: the rungs that a head was asked to stand on, None where evidence decides.
    """

    trunk: Trunk
    source: Source
    preprocess: Preprocess
    gathered: Gathered
    fold: NDArray[np.int64]
    store: Store
    cache: Path
    device: Device
    asked: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class Grown:
    """A classifier that is ready to be scored on the test pictures and put into a folder.

    said: (n, K) probabilities by part of the split, from fits that never saw the pictures (those of the validation
    part have chosen among fits). probe: the search for the
    head's strength, where there was one. record: what the manifest says of it, beside what it says of every run.
    """

    strategy: Strategy
    words: str
    graph: bytes
    tensors: dict[str, NDArray[Any]]
    gathered: Gathered
    said: dict[str, NDArray[np.float32]]
    history: bytes
    head: str
    head_kind: str
    calibration: str
    arguments: dict[str, str]
    probe: Probe | None = None
    curves: History | None = None
    record: dict[str, Any] = field(default_factory=dict)
    others: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Tuned:
    """A fine-tuned network as a model, and the seconds that it took."""

    grown: Grown
    seconds: float


def stage_above(freeze: str, stages: Sequence[str]) -> str:
    """The lowest stage that is tuned where `freeze` is the highest that is not.

    stages: of the network, from the picture upwards. Raises UsageError for a stage that is not there, or the last.
    """
    if freeze == NOTHING:
        return stages[0]
    if freeze not in stages[:-1]:
        raise UsageError(
            f"--freeze must be {NOTHING} or a stage below the last, {', '.join(stages[:-1])}, got {shown(freeze)!r}"
            f"{nearest(freeze, (NOTHING, *stages[:-1]))}"
        )
    return stages[stages.index(freeze) + 1]


def _asked_rungs(probe_on: str, trunk: Trunk) -> tuple[str, ...] | None:
    """The rungs that a probe was asked to stand on; None where the probes decide. Raises UsageError for another."""
    if probe_on == "auto":
        return None
    if probe_on == "top":
        return TOP
    names = [name.strip() for name in probe_on.split(",")]
    for name in names:
        if name not in trunk.rungs:
            raise UsageError(
                f"--probe-on must be auto, top or stages, {', '.join(trunk.rungs)}, got {shown(name)!r}"
                f"{nearest(name, ('auto', 'top', *trunk.rungs))}"
            )
    return tuple(rung for rung in trunk.rungs if rung in names)


def ground_of(
    collection: Collection, folder: Path, settings: TrainSettings, clock: Clock, progress: Progress
) -> Ground:
    """The frozen network, the features of every picture, the split, and parts for cross-validation.

    Raises BadFolder where too few pictures are left to learn from.
    """
    device = choose_device(settings.device)
    source = find_source(settings.network, settings.weights)
    cache = cache_folder(settings.cache)
    with clock.step("network"):
        trunk = open_trunk(source, cache, progress=progress)
        if settings.freeze is not None:
            stage_above(settings.freeze, trunk.stages)  # refused before any work
        asked = _asked_rungs(settings.probe_on, trunk)
        forward = runner(trunk, source, device)
    preprocess = trunk.preprocess(cast(Fit, settings.fit))
    store = Store(cache / "features")
    with clock.step("features"):
        features = extract(
            collection.samples, forward, preprocess, store, trunk_key=trunk.key, width=trunk.row_width,
            on_gpu=device != "cpu", strict=settings.on_bad_image == "strict", progress=progress,
        )  # fmt: skip
    with clock.step("audit and split"):
        gathered = gather(collection, features, source=folder, test_fraction=settings.test_fraction, seed=settings.seed)
        if settings.strategy == "finetune":
            gathered = with_validation_of(gathered, settings.seed)
        chosen = gathered.indices("train")
        fold = assign_folds(
            gathered.labels[chosen], gathered.groups[chosen], features.key_array()[chosen], folds=FOLDS,
            seed=settings.seed,
        )  # fmt: skip
    if fold.max(initial=-1) < 1:
        raise too_small(folder, gathered)
    return Ground(trunk, source, preprocess, gathered, fold, store, cache, device, asked)
