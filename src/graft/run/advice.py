"""What the lectures' table and the probes of every stage advise for a data set that went through the trunk."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graft.features.likeness import Likeness, likeness, pretrained_head, sample
from graft.features.trunk import FEATURES, Trunk
from graft.heads.stage_probes import probe_stages
from graft.progress import Progress, silent
from graft.run.learnt import Gathered, class_weights
from graft.run.settings import TrainSettings
from graft.strategy import advice
from graft.strategy.advice import Advice


def advise_on(
    gathered: Gathered,
    trunk: Trunk,
    fold: NDArray[np.int64],
    settings: TrainSettings,
    *,
    progress: Progress = silent,
) -> Advice:
    """The advice for pictures that went through the trunk; only the training part is looked at.

    fold: (n,) for the training pictures, which part of the cross-validation holds each out.
    """
    chosen, classes = gathered.indices("train"), len(gathered.collection.classes)
    labels, groups = gathered.labels[chosen], gathered.groups[chosen]
    scores = probe_stages(
        gathered.features, trunk, chosen, labels, groups, fold, num_classes=classes,
        class_weights=class_weights(labels, classes, settings.class_weights), progress=progress,
    )  # fmt: skip
    counts = np.bincount(labels, minlength=classes).tolist()
    return advice.advise(counts, likeness_of(gathered, trunk, seed=settings.seed), scores, trunk.stages)


def likeness_of(gathered: Gathered, trunk: Trunk, *, seed: int) -> Likeness:
    """How like the source's pictures the training pictures are, from at most 512 of them."""
    chosen = gathered.indices("train")
    some = chosen[sample(gathered.labels[chosen])]
    features = gathered.features.rows(some, trunk.columns(FEATURES)).read(slice(None))
    return likeness(features, *pretrained_head(trunk), gathered.labels[some], gathered.groups[some], seed=seed)
