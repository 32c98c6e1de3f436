"""How much of a probe's score is series: photos of one object, taken one after the other, on both sides of a split.

python -m benchmarks.series          (3 minutes on two cores)

TrashNet numbers its photos in the order they were taken. A fifth of each class is held out twice: drawn at random, and
as the last numbers, which cuts one series of a class at most. On both, logistic regression is compared with the head
that cross-validation chooses, on the top features and on all stages below them.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import DATA, keep
from graft.data.sources.scan import scan
from graft.disk.table import Store
from graft.features.extract import extract
from graft.features.trunk import FEATURES, open_trunk, runner
from graft.heads.choose import choose_head
from graft.models.weights import find_source

FOLDS: Final = 5


def main() -> None:
    """Score both heads on both splits and keep what came out."""
    with tempfile.TemporaryDirectory() as work:
        source = find_source("efficientnet-lite0", None)
        trunk = open_trunk(source, Path(work))
        features = extract(
            scan(DATA / "trashnet").samples, runner(trunk, source, "cpu"), trunk.preprocess("squash"),
            Store(Path(work) / "features"), trunk_key=trunk.key, width=trunk.row_width,
        )  # fmt: skip
        labels = np.array([sample.label for sample in features.samples])
        numbers = [int(re.sub(r"\D", "", Path(sample.path).stem)) for sample in features.samples]
        stages = tuple(trunk.columns(name) for name in trunk.outputs[:-1])
        found = {}
        for name, order in (("random", np.random.default_rng(0).permutation(len(labels))), ("last", np.array(numbers))):
            held_out = _last_fifth(labels, order)
            train, test = np.flatnonzero(~held_out), np.flatnonzero(held_out)
            fold = np.random.default_rng(1).integers(0, FOLDS, len(train))
            for kind, columns in (("top", (trunk.columns(FEATURES),)), ("stages", stages)):
                choice = choose_head(features.rows(train, columns), labels[train], fold, num_classes=labels.max() + 1)
                x = features.rows(test, columns).read(slice(None))
                plain = x @ choice.probe.weight.T + choice.probe.bias
                found[f"{name}, {kind}, logistic"] = _share(plain, labels[test])
                found[f"{name}, {kind}, {choice.head.kind} chosen"] = _share(choice.head.logits(x), labels[test])
    keep("series", {"accuracy_percent": {**found, "test_pictures": int(held_out.sum())}})


def _last_fifth(labels: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n,): the last fifth of each class in an order (n,)."""
    held_out = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        mine = mine[np.argsort(order[mine])]
        held_out[mine[-(len(mine) // 5) :]] = True
    return held_out


def _share(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    return round(100 * float((logits.argmax(axis=1) == labels).mean()), 1)


if __name__ == "__main__":
    main()
