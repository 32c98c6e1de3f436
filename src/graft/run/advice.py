"""What the lectures' table and the probes of every stage advise for a data set that went through a trunk."""

from __future__ import annotations

import numpy as np

from graft.features.likeness import Likeness, likeness, pretrained_head, sample
from graft.features.trunk import FEATURES
from graft.heads.stage_probes import probe_stages
from graft.run.transfer import Transfer
from graft.strategy import advice
from graft.strategy.advice import Advice


def advise_on(transfer: Transfer) -> Advice:
    """The advice; only the training part is looked at."""
    dataset, chosen = transfer.dataset, transfer.dataset.indices("train")
    labels, groups, classes = dataset.labels[chosen], dataset.groups[chosen], len(dataset.classes)
    scores = probe_stages(
        dataset.features, transfer.trunk, chosen, labels, groups, transfer.fold, num_classes=classes,
        class_weights=dataset.class_weights(chosen, transfer.recipe.class_weights),
        progress=transfer.workplace.progress,
    )  # fmt: skip
    counts = np.bincount(labels, minlength=classes).tolist()
    return advice.advise(counts, likeness_of(transfer), scores, transfer.trunk.stages)


def likeness_of(transfer: Transfer) -> Likeness:
    """How like the source's pictures the training pictures are, from at most 512 of them."""
    dataset, trunk, chosen = transfer.dataset, transfer.trunk, transfer.dataset.indices("train")
    some = chosen[sample(dataset.labels[chosen])]
    labels, groups = dataset.labels[some], dataset.groups[some]
    features = transfer.rows(some, (FEATURES,)).read(slice(None))
    return likeness(features, *pretrained_head(trunk), labels, groups, seed=transfer.recipe.seed)
