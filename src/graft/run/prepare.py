"""Prepare: pictures read once, audited, and split so that near-duplicates stay on one side.

One pass over the pictures gives what the recipe's strategy learns from: features of every stage of a pretrained
network, or pixels for one that is trained from scratch. The test split that is drawn here is touched by nobody before
`publish`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graft.data.audit import Audit, audit
from graft.data.duplicates import near_groups
from graft.data.preprocess import Preprocess
from graft.data.sources.scan import Collection
from graft.data.split import Split, assign_folds, assign_splits
from graft.errors import BadFolder, UsageError, nearest, shown
from graft.features.extract import Features, decode_once, extract
from graft.features.trunk import TOP, Trunk, open_trunk, runner
from graft.models.card import IMAGENET_MEAN, IMAGENET_STD
from graft.models.fresh import Plan, plan
from graft.models.weights import Source, find_source
from graft.run.workplace import Workplace
from graft.training.recipe.settings import Recipe

NOTHING: Final = "none"
"""What `freeze` says where no stage is to be frozen."""


@dataclass(frozen=True)
class Pretrained:
    """A pretrained network that pictures were read by, which gives the features of every stage.

    asked: what a head is to read, None where the probes decide.
    """

    weights: Source
    trunk: Trunk
    preprocess: Preprocess
    asked: tuple[str, ...] | None


@dataclass(frozen=True)
class Pixels:
    """Pictures that were read as pixels, at the size of a network that is to be trained from scratch."""

    planned: Plan
    preprocess: Preprocess


@dataclass(frozen=True)
class Dataset:
    """The pictures that could be read, in the order of the features, and how they are split.

    source: what the user named. labels: (n,) class numbers. groups: (n,), near-duplicates share one. read: what gave
    the features; reading: the settings of the recipe that decided it.
    """

    source: Path
    collection: Collection
    features: Features
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    split: Split
    found: Audit
    read: Pretrained | Pixels
    reading: tuple[object, ...]

    def indices(self, part: str) -> NDArray[np.int64]:
        """The pictures of one part of the split: "train", "val" or "test"."""
        return self.split.indices(part)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their numbers."""
        return self.collection.classes

    @property
    def majority(self) -> int:
        """The commonest class of the training pictures."""
        return int(np.bincount(self.labels[self.indices("train")]).argmax())

    def folds(self, parts: int, seed: int) -> NDArray[np.int64]:
        """(n,) for the training pictures: which part of a cross-validation holds each out, −1 where none does."""
        chosen = self.indices("train")
        keys = self.features.key_array()[chosen]
        return assign_folds(self.labels[chosen], self.groups[chosen], keys, folds=parts, seed=seed)

    def with_validation(self, fold: NDArray[np.int64]) -> Dataset:
        """The same with the training pictures of `fold` 0 kept back for validation. fold: as `folds` gives it."""
        parts = self.split.parts.copy()
        parts[self.indices("train")[fold == 0]] = "val"
        return replace(self, split=replace(self.split, parts=parts))

    def class_weights(self, which: NDArray[np.int64], how: str) -> NDArray[np.float32] | None:
        """(K,) weights that make every class of the pictures `which` count alike ("balanced"), or None ("none")."""
        if how == "none":
            return None
        counts = np.maximum(np.bincount(self.labels[which], minlength=len(self.classes)), 1)
        return (len(which) / (len(self.classes) * counts)).astype(np.float32)


def prepare(source: Path, collection: Collection, recipe: Recipe, workplace: Workplace) -> Dataset:
    """Read every picture of a collection once by what the recipe names, audit and split. source: what the user named.

    Raises BadFolder when too few are left of a class to learn from it and to test, BadPicture where an unreadable one
    shall stop the run, and UsageError for a network or stage that there is not.
    """
    read, features = _read(collection, recipe, workplace)
    with workplace.clock.step("audit and split"):
        collection = _readable(collection, features)
        labels = np.array([sample.label for sample in collection.samples], np.int64)
        groups = near_groups(features.facts)
        given = [sample.split for sample in collection.samples]
        split = assign_splits(
            labels, groups, features.key_array(), classes=collection.classes, given=given if any(given) else None,
            test_fraction=recipe.test_fraction, seed=recipe.seed,
        )  # fmt: skip
        found = audit(collection, features.facts, groups)
        dataset = Dataset(source, collection, features, labels, groups, split, found, read, _reading(recipe))
    if not len(dataset.indices("test")) or len(np.unique(labels[dataset.indices("train")])) < 2:
        raise too_small(dataset)
    return dataset


def read_as(dataset: Dataset, recipe: Recipe, workplace: Workplace) -> Dataset:
    """The same pictures in the same split, as `recipe` reads them: so recipes are compared on one data set."""
    if dataset.reading == _reading(recipe):
        return dataset
    read, features = _read(dataset.collection, recipe, workplace)
    assert features.keys == dataset.features.keys, "what could be read once can be read again"
    return replace(dataset, features=features, read=read, reading=_reading(recipe))


def too_small(dataset: Dataset) -> BadFolder:
    """The error for a folder of which too little is left to learn from."""
    return BadFolder(
        f"{shown(dataset.source)} is too small to learn from and to test: it needs two pictures that differ "
        f"in each of two classes, got {len(dataset.indices('train'))} for training and "
        f"{len(dataset.indices('test'))} for the test; add pictures"
    )


def stage_above(freeze: str, stages: tuple[str, ...]) -> str:
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


def _reading(recipe: Recipe) -> tuple[object, ...]:
    """The settings that decide how pictures are read."""
    from_scratch = recipe.strategy == "scratch"
    return from_scratch, recipe.network, recipe.weights, recipe.fit, recipe.size, recipe.probe_on


def _read(collection: Collection, recipe: Recipe, workplace: Workplace) -> tuple[Pretrained | Pixels, Features]:
    """Every picture through the one pass that the recipe's strategy needs."""
    strict = recipe.on_bad_image == "strict"
    if recipe.strategy == "scratch":
        planned = plan(recipe.network, side=recipe.size)
        preprocess = Preprocess(planned.side, recipe.fit, "bilinear", IMAGENET_MEAN, IMAGENET_STD)
        with workplace.clock.step("decoding"):
            features = decode_once(
                collection.samples, preprocess, workplace.store, strict=strict, progress=workplace.progress
            )
        return Pixels(planned, preprocess), features
    weights = find_source(recipe.network, recipe.weights)
    with workplace.clock.step("network"):
        trunk = open_trunk(weights, workplace.cache, progress=workplace.progress)
        if recipe.freeze is not None:
            stage_above(recipe.freeze, trunk.stages)  # refused before any work
        asked = _asked(recipe.probe_on, trunk)
        forward = runner(trunk, weights, workplace.device)
    preprocess = trunk.preprocess(recipe.fit)
    with workplace.clock.step("features"):
        features = extract(
            collection.samples, forward, preprocess, workplace.store, trunk_key=trunk.key, width=trunk.row_width,
            on_gpu=workplace.device != "cpu", strict=strict, progress=workplace.progress,
        )  # fmt: skip
    return Pretrained(weights, trunk, preprocess, asked), features


def _asked(probe_on: str, trunk: Trunk) -> tuple[str, ...] | None:
    """What a head was asked to read; None where the probes decide. Raises UsageError for another stage."""
    if probe_on == "auto":
        return None
    if probe_on == "top":
        return TOP
    names = [name.strip() for name in probe_on.split(",")]
    for name in names:
        if name not in trunk.outputs:
            raise UsageError(
                f"--probe-on must be auto, top or stages, {', '.join(trunk.outputs)}, got {shown(name)!r}"
                f"{nearest(name, ('auto', 'top', *trunk.outputs))}"
            )
    return tuple(name for name in trunk.outputs if name in names)


def _readable(collection: Collection, features: Features) -> Collection:
    """The collection without the pictures that could not be read, which join its problems."""
    left = np.bincount([sample.label for sample in features.samples], minlength=len(collection.classes))
    if not len(features.samples) or (left == 0).any():
        empty = [shown(name) for name, count in zip(collection.classes, left, strict=True) if not count]
        first = f"; the first: {features.problems[0].reason}" if features.problems else ""
        raise BadFolder(
            f"no picture of {', '.join(empty[:5])} could be read{first}; "
            "mend the files or remove the class (graft audit lists them all)"
        )
    problems = tuple(sorted((*collection.problems, *features.problems), key=lambda p: (p.path, p.reason)))
    return Collection(collection.root, collection.classes, features.samples, problems)
