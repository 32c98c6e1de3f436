"""What every training run does before and after its own way of learning: gather the pictures, and put down the result.

Gathering: one pass over the pictures, the audit, and a split that keeps near-duplicates on one side. Putting down: the
scores on the test pictures, golden pictures, the table of samples, and the record of the run.
"""

from __future__ import annotations

import csv as csv_module
import io
import os
import platform
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from graft.classifier.artefact import Golden
from graft.data.audit import Audit, audit
from graft.data.decode import decode, read_picture
from graft.data.duplicates import near_groups
from graft.data.preprocess import Preprocess, fit_picture
from graft.data.sources.scan import Collection
from graft.data.split import Split, assign_splits
from graft.errors import BadFolder, BadModel, shown
from graft.evaluate.metrics import Scores, score
from graft.features.extract import Features
from graft.runtime.onnx import OnnxRunner

_GOLDEN: Final = 8
_GOLDEN_TOLERANCE: Final = 5e-3  # of a probability: the features of a probe went through float16


@dataclass(frozen=True)
class Gathered:
    """The pictures that could be read, in the order of the features, and how they are split.

    groups: near-duplicates share one.
    """

    collection: Collection
    features: Features
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    split: Split
    found: Audit

    def indices(self, part: str) -> NDArray[np.int64]:
        """The pictures of one part of the split: "train", "val" or "test"."""
        return self.split.indices(part)

    @property
    def majority(self) -> int:
        """The commonest class of the training pictures."""
        return int(np.bincount(self.labels[self.indices("train")]).argmax())


@dataclass(frozen=True)
class Learnt:
    """What a run's classifiers say of the pictures that they never saw.

    predicted: (n,) the class preferred by such a classifier, −1 where there is none. confidence, probability: (n,) what
    it gives that class and the picture's own label.
    """

    gathered: Gathered
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float32]
    probability: NDArray[np.float32]


def gather(collection: Collection, features: Features, *, source: Path, test_fraction: float, seed: int) -> Gathered:
    """Audit and split the pictures of which `features` knows.

    Raises BadFolder when too few are left of a class to learn from it and to test.
    """
    collection = _readable(collection, features)
    labels = np.array([sample.label for sample in collection.samples], np.int64)
    groups = near_groups(features.facts)
    found = audit(collection, features.facts, groups)
    given = [sample.split for sample in collection.samples]
    split = assign_splits(
        labels, groups, features.key_array(), classes=collection.classes, given=given if any(given) else None,
        test_fraction=test_fraction, seed=seed,
    )  # fmt: skip
    gathered = Gathered(collection, features, labels, groups, split, found)
    in_train, in_test = gathered.indices("train"), gathered.indices("test")
    if not len(in_test) or len(np.unique(labels[in_train])) < 2:
        raise too_small(source, gathered)
    return gathered


def too_small(source: Path, gathered: Gathered) -> BadFolder:
    """The error for a folder of which too little is left to learn from."""
    return BadFolder(
        f"{shown(source)} is too small to learn from and to test: it needs two pictures that differ in each of two "
        f"classes, got {len(gathered.indices('train'))} for training and {len(gathered.indices('test'))} for the test; "
        "add pictures"
    )


def with_validation(gathered: Gathered, held_out: NDArray[np.bool_]) -> Gathered:
    """The same with some of the training pictures, a mask over all pictures, kept back for validation."""
    parts = np.where(held_out, "val", gathered.split.parts)
    return replace(gathered, split=replace(gathered.split, parts=parts))


def class_weights(labels: NDArray[np.int64], num_classes: int, how: str) -> NDArray[np.float32] | None:
    """(K,) weights that make every class count alike ("balanced"), or None for the classes as they come ("none")."""
    if how == "none":
        return None
    counts = np.maximum(np.bincount(labels, minlength=num_classes), 1)
    return (len(labels) / (num_classes * counts)).astype(np.float32)


def judged(gathered: Gathered, said: dict[str, NDArray[np.float32]]) -> Learnt:
    """Put what classifiers say of a part's pictures beside them.

    said: by part, (n, K) probabilities from fits that never saw the pictures, NaN where there is none.
    """
    labels = gathered.labels
    probability, confidence = (np.full(len(labels), np.nan, np.float32) for _ in range(2))
    predicted = np.full(len(labels), -1, np.int64)
    for part, rows in said.items():
        which = gathered.indices(part)
        confidence[which] = rows.max(axis=1)
        probability[which] = rows[np.arange(len(which)), labels[which]]
        predicted[which] = np.where(np.isnan(rows[:, 0]), -1, rows.argmax(axis=1))
    return Learnt(gathered, predicted, confidence, probability)


def test_scores(gathered: Gathered, probabilities: NDArray[np.float32]) -> tuple[Scores, Scores | None]:
    """Scores on the test pictures; and without those that have a near-duplicate in training, where there are any.

    probabilities: (n, K) of the test pictures, in their order.
    """
    in_test, classes = gathered.indices("test"), gathered.collection.classes
    labels, groups, majority = gathered.labels[in_test], gathered.groups[in_test], gathered.majority
    scores = score(probabilities, labels, classes=classes, majority=majority, groups=groups)
    clean = ~np.isin(groups, gathered.groups[gathered.split.parts != "test"])
    if clean.all() or not clean.any():
        return scores, None
    unleaked = score(
        probabilities[clean], labels[clean], classes=classes, majority=majority, groups=groups[clean]
    )  # fmt: skip
    return scores, unleaked


def golden(
    gathered: Gathered, preprocess: Preprocess, graph: bytes, probabilities: NDArray[np.float32]
) -> tuple[Golden, ...]:
    """A few test pictures of different classes through the finished graph, checked against the run's own answer.

    probabilities: (n, K) of the test pictures. Raises BadModel when the graph says something else.
    """
    in_test = gathered.indices("test")
    _, first = np.unique(gathered.labels[in_test], return_index=True)
    run_graph, chosen = OnnxRunner(graph), []
    for position in first[:_GOLDEN]:
        path = gathered.collection.samples[in_test[position]].path
        pixels = fit_picture(decode(read_picture(path), name=path, shortest=preprocess.size).image, preprocess)
        given = run_graph(pixels[None])[0]
        if float(np.abs(given - probabilities[position]).max()) > _GOLDEN_TOLERANCE:
            raise BadModel(
                f"the finished model and the run disagree on {shown(path)}; delete the cache and train again"
            )
        chosen.append(Golden(pixels, given))
    return tuple(chosen)


def data_record(gathered: Gathered, source: Path) -> dict[str, Any]:
    """What the manifest says of the pictures."""
    parts, counts = gathered.split.parts, {}
    for label, name in enumerate(gathered.collection.classes):
        mine = parts[gathered.labels == label]
        counts[name] = {part: int((mine == part).sum()) for part in ("train", "val", "test")}
    return {
        "source": source.name,
        "pictures": len(parts),
        "computed": gathered.features.computed,
        "set_aside": len(gathered.collection.problems),
        "near_duplicate_groups": int((np.bincount(gathered.groups) > 1).sum()),
        "counts": counts,
        "notes": list(gathered.split.notes),
        "findings": [{"severity": f.severity, "kind": f.kind, "message": f.message} for f in gathered.found.findings],
    }


def run_record(device: str, *libraries: str) -> dict[str, Any]:
    """What the manifest says of the machine and the versions. libraries: further ones that the run used."""
    names = ("graft", "numpy", "onnxruntime", "pillow", *libraries)
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "device": device,
        "versions": {name: version(name) for name in names} | {"python": platform.python_version()},
    }


def samples_csv(known: Learnt) -> bytes:
    """Every picture: path, label, part, digest, and what a fit that never saw it says of its label."""
    gathered = known.gathered
    buffer = io.StringIO(newline="")
    writer = csv_module.writer(buffer, lineterminator="\n")
    writer.writerow(["path", "label", "part", "key", "predicted", "probability_of_label"])
    classes, root = gathered.collection.classes, gathered.collection.root
    for i, sample in enumerate(gathered.collection.samples):
        said = known.predicted[i] >= 0
        writer.writerow([
            os.path.relpath(sample.path, root), classes[sample.label], gathered.split.parts[i],
            gathered.features.keys[i].hex(),
            classes[known.predicted[i]] if said else "", f"{known.probability[i]:.4f}" if said else "",
        ])  # fmt: skip
    return buffer.getvalue().encode("utf-8", "surrogateescape")


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
