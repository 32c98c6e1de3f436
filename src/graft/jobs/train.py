"""`graft train`: from a folder of labelled pictures to a model folder, with an honest score."""

from __future__ import annotations

import csv as csv_module
import io
import json
import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from graft.classifier import SCHEMA, Golden, Manifest, load, preprocess_fields, save, seal
from graft.data.audit import Audit, audit
from graft.data.decode import decode, read_picture
from graft.data.duplicates import near_groups
from graft.data.preprocess import FITS, Fit, Preprocess, fit_picture
from graft.data.scan import Collection
from graft.data.split import Split, assign_folds, assign_splits
from graft.errors import BadFolder, BadModel, UsageError, nearest, shown
from graft.evaluate.metrics import Scores, score, to_json
from graft.jobs.cache import cache_folder
from graft.jobs.clock import Clock
from graft.jobs.model import Model
from graft.jobs.output import new_folder
from graft.jobs.page import page
from graft.jobs.source import opened
from graft.models.weights import DEFAULT_NETWORK, find_source
from graft.progress import Progress, silent
from graft.runtime.attach import with_head
from graft.runtime.device import choose_device
from graft.runtime.onnx import OnnxRunner
from graft.store.table import Store
from graft.transfer.features import Features, extract
from graft.transfer.logistic import Rows
from graft.transfer.probe import Probe, fit_probe, softmax
from graft.transfer.trunk import Trunk, open_trunk, runner

FOLDS: Final = 5
_GOLDEN: Final = 8
_GOLDEN_TOLERANCE: Final = 5e-3  # of a probability: the features of the probe went through float16


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides a run, besides the pictures. `graft train --help` says what each is."""

    csv: Path | None = None
    network: str = DEFAULT_NETWORK
    weights: Path | None = None
    fit: str = "squash"
    test_fraction: float = 0.2
    class_weights: str = "none"
    on_bad_image: str = "skip"
    follow_links: bool = False
    seed: int = 0
    cache: Path | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        for option, value, allowed in (
            ("--fit", self.fit, FITS),
            ("--class-weights", self.class_weights, ("none", "balanced")),
            ("--on-bad-image", self.on_bad_image, ("skip", "strict")),
        ):
            if value not in allowed:
                raise UsageError(
                    f"{option} must be one of {', '.join(allowed)}, got {shown(value)!r}{nearest(value, allowed)}"
                )
        if not 0 < self.test_fraction < 1:
            raise UsageError(f"--test-fraction must lie between 0 and 1, got {self.test_fraction}; 0.2 is usual")


@dataclass(frozen=True)
class Learnt:
    """The pictures, in the order of the features, with all that the run found out about each.

    groups: near-duplicates share one. predicted: (n,) the class preferred by a fit that never saw the picture, −1
    where there is none. confidence, probability: (n,) what that fit gives that class and the picture's own label.
    """

    collection: Collection
    features: Features
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    split: Split
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float32]
    probability: NDArray[np.float32]


def train(
    folder: str | Path,
    out: str | Path,
    *,
    settings: TrainSettings | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> Model:
    """Learn to tell the classes of a folder of pictures apart, write the model folder `out`, and open it.

    folder: class folders, ready splits of them, or a zip of either. settings: everything else, see TrainSettings.
    force: replace the model at `out`. Raises GraftError or one of its kinds, with one line that says what to do.
    """
    manifest = run(Path(folder), Path(out), settings or TrainSettings(), force=force, progress=progress)
    assert manifest.files
    return Model(load(Path(out)), device=(settings or TrainSettings()).device)


def run(
    folder: Path, out: Path, settings: TrainSettings, *, force: bool = False, progress: Progress = silent
) -> Manifest:
    """What `train` does, up to the finished folder; returns its manifest. Imports no torch once the trunk is cached."""
    clock = Clock()
    device = choose_device(settings.device)
    source = find_source(settings.network, settings.weights)
    cache = cache_folder(settings.cache)
    with (
        new_folder(out, source=folder, force=force) as partial,
        opened(folder, cache, csv=settings.csv, follow_links=settings.follow_links) as collection,
    ):
        with clock.step("network"):
            trunk = open_trunk(source, cache, progress=progress)
            forward = runner(trunk, source, device)
        preprocess = trunk.preprocess(cast(Fit, settings.fit))
        store = Store(cache / "features")
        with clock.step("features"):
            features = extract(
                collection.samples, forward, preprocess, store, trunk_key=trunk.key, width=trunk.width,
                on_gpu=device != "cpu", strict=settings.on_bad_image == "strict", progress=progress,
            )  # fmt: skip
        collection = _readable(collection, features)
        labels = np.array([sample.label for sample in collection.samples], np.int64)
        with clock.step("audit and split"):
            groups = near_groups(features.facts)
            found = audit(collection, features.facts, groups)
            given = [sample.split for sample in collection.samples]
            split = assign_splits(
                labels, groups, features.key_array(), classes=collection.classes, given=given if any(given) else None,
                test_fraction=settings.test_fraction, seed=settings.seed,
            )  # fmt: skip
        in_train, in_test = split.indices("train"), split.indices("test")
        fold = assign_folds(
            labels[in_train], groups[in_train], features.key_array()[in_train], folds=FOLDS, seed=settings.seed
        )
        if not len(in_test) or len(np.unique(labels[in_train])) < 2 or fold.max(initial=-1) < 1:
            raise BadFolder(
                f"{shown(folder)} is too small to learn from and to test: it needs two pictures that differ in each of "
                f"two classes, got {len(in_train)} for training and {len(in_test)} for the test; add pictures"
            )
        with clock.step("head"):
            probe = fit_probe(
                features.rows(in_train), labels[in_train], fold, num_classes=len(collection.classes),
                class_weights=_class_weights(labels[in_train], len(collection.classes), settings), progress=progress,
            )  # fmt: skip
        with clock.step("test"):
            probabilities = _probabilities(features.rows(in_test), probe)
            majority = int(np.bincount(labels[in_train]).argmax())
            scores = score(
                probabilities, labels[in_test], classes=collection.classes, majority=majority, groups=groups[in_test]
            )
            clean = ~np.isin(groups[in_test], groups[split.parts != "test"])
            unleaked = (
                score(
                    probabilities[clean], labels[in_test][clean], classes=collection.classes, majority=majority,
                    groups=groups[in_test][clean],
                )
                if clean.any() and not clean.all()
                else None
            )  # fmt: skip
        learnt = _learnt(collection, features, labels, groups, split, probe, probabilities)
        with clock.step("model"):
            graph = with_head(trunk.graph, probe.weight, probe.bias, collection.classes)
            golden = _golden(learnt, preprocess, graph, probabilities)
            tensors = _tensors(trunk, probe)
        looks = 1
        record = _record(settings, trunk, probe, device)
        with clock.step("report"):
            html = page(
                learnt, found, scores, unleaked, probe, record=record, seconds=clock.seconds, limit=features.limit,
                network=settings.network, preprocess=preprocess, looks=looks, title=out.name,
            )  # fmt: skip
        with clock.step("writing"):
            others = {
                "report.html": html.encode(),
                "samples.csv": _samples_csv(learnt),
                "history.jsonl": _history(probe),
            }
            files = save(partial, tensors=tensors, graph=graph, golden=golden, others=others)
        manifest = Manifest(
            schema=SCHEMA, graft=version("graft"), network=source.network, builder=trunk.builder,
            architecture=trunk.architecture, head=trunk.head, classes=collection.classes,
            preprocess=preprocess_fields(preprocess), calibration={"method": "none"},
            strategy="probe", seed=settings.seed, data=_data(learnt, found, folder), test=to_json(scores),
            test_without_leaks=to_json(unleaked) if unleaked else None, looks=looks,
            seconds={**clock.seconds, "total": clock.total(), "limit": features.limit}, record=record, files=files,
        )  # fmt: skip
        seal(partial, manifest)
    store.trim()
    return manifest


def summary(manifest: Manifest, out: Path) -> str:
    """The last lines that a person reads after training."""
    assert manifest.test is not None
    top1, baseline = manifest.test["top1"], manifest.test["baseline"]
    seconds = manifest.seconds
    lines = [
        (
            f"Right on {100 * top1['value']:.1f} % of {manifest.test['n']:,} test pictures "
            f"(95 % interval {100 * top1['low']:.1f}–{100 * top1['high']:.1f}); "
            f"always saying {manifest.test['majority']!r} would be right on {100 * baseline['value']:.1f} %."
        ),
        *_without_leaks(manifest),
        *manifest.data["notes"],
        (
            f"{seconds['total']:.1f} seconds, {seconds['total'] / max(seconds['limit'], 1e-9):.2f} times what decoding "
            "and running every picture once takes on this machine."
        ),
        f"Report: {out / 'report.html'}",
        f"Try it: graft predict {out} PICTURE",
    ]
    return "\n".join(lines)


def _without_leaks(manifest: Manifest) -> list[str]:
    """A line on the score without test pictures that have a near-duplicate in training, if there are any."""
    clean, test = manifest.test_without_leaks, manifest.test
    if clean is None or test is None:
        return []
    top1 = clean["top1"]
    leaked = f"{test['n'] - clean['n']:,} test pictures have a near-duplicate in training; without them it is right on "
    return [
        leaked + f"{100 * top1['value']:.1f} % of {clean['n']:,} ({100 * top1['low']:.1f}–{100 * top1['high']:.1f})."
    ]


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


def _class_weights(labels: NDArray[np.int64], num_classes: int, settings: TrainSettings) -> NDArray[np.float32] | None:
    """(K,) weights that make every class count alike, or None for the classes as they come."""
    if settings.class_weights == "none":
        return None
    counts = np.maximum(np.bincount(labels, minlength=num_classes), 1)
    return (len(labels) / (num_classes * counts)).astype(np.float32)


def _probabilities(rows: Rows, probe: Probe) -> NDArray[np.float32]:
    """(N, D) features → (N, K) probabilities."""
    return np.concatenate(list(rows.each(lambda _, x: softmax(x @ probe.weight.T + probe.bias), len(probe.bias))))


def _learnt(
    collection: Collection,
    features: Features,
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    split: Split,
    probe: Probe,
    probabilities: NDArray[np.float32],
) -> Learnt:
    """Put what cross-validation and the test say of each picture beside it."""
    probability, confidence = (np.full(len(labels), np.nan, np.float32) for _ in range(2))
    predicted = np.full(len(labels), -1, np.int64)
    for part, rows in (("train", probe.held_out), ("test", probabilities)):
        which = np.flatnonzero(split.parts == part)
        confidence[which] = rows.max(axis=1)
        probability[which] = rows[np.arange(len(which)), labels[which]]
        predicted[which] = np.where(np.isnan(rows[:, 0]), -1, rows.argmax(axis=1))
    return Learnt(collection, features, labels, groups, split, predicted, confidence, probability)


def _golden(
    learnt: Learnt, preprocess: Preprocess, graph: bytes, probabilities: NDArray[np.float32]
) -> tuple[Golden, ...]:
    """A few test pictures of different classes through the finished graph, checked against the probe's own answer."""
    in_test = np.flatnonzero(learnt.split.parts == "test")
    _, first = np.unique(learnt.labels[in_test], return_index=True)
    run_graph, golden = OnnxRunner(graph), []
    for position in first[:_GOLDEN]:
        path = learnt.collection.samples[in_test[position]].path
        pixels = fit_picture(decode(read_picture(path), name=path, shortest=preprocess.size).image, preprocess)
        given = run_graph(pixels[None])[0]
        if float(np.abs(given - probabilities[position]).max()) > _GOLDEN_TOLERANCE:
            raise BadModel(
                f"the finished model and the features disagree on {shown(path)}; delete the cache and train again"
            )
        golden.append(Golden(pixels, given))
    return tuple(golden)


def _tensors(trunk: Trunk, probe: Probe) -> dict[str, NDArray[Any]]:
    """The whole network's weights by their published names, the new head in place of the old."""
    from safetensors.numpy import load_file

    tensors = load_file(trunk.weights)
    old = tensors[f"{trunk.head}.weight"]
    tensors[f"{trunk.head}.weight"] = probe.weight.reshape(-1, *old.shape[1:])  # (K, D), or (K, D, 1, 1)
    tensors[f"{trunk.head}.bias"] = probe.bias
    return tensors


def _data(learnt: Learnt, found: Audit, folder: Path) -> dict[str, Any]:
    parts, counts = learnt.split.parts, {}
    for label, name in enumerate(learnt.collection.classes):
        mine = parts[learnt.labels == label]
        counts[name] = {part: int((mine == part).sum()) for part in ("train", "val", "test")}
    return {
        "source": folder.name,
        "pictures": len(parts),
        "computed": learnt.features.computed,
        "set_aside": len(learnt.collection.problems),
        "near_duplicate_groups": int((np.bincount(learnt.groups) > 1).sum()),
        "counts": counts,
        "notes": list(learnt.split.notes),
        "findings": [{"severity": f.severity, "kind": f.kind, "message": f.message} for f in found.findings],
    }


def _record(settings: TrainSettings, trunk: Trunk, probe: Probe, device: str) -> dict[str, Any]:
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "device": device,
        "versions": {
            name: version(name) for name in ("graft", "numpy", "onnxruntime", "pillow")
        } | {"python": platform.python_version()},
        "trunk": trunk.key,
        "stages": list(trunk.stages),
        "settings": {
            "fit": settings.fit, "test_fraction": settings.test_fraction, "class_weights": settings.class_weights,
            "seed": settings.seed, "on_bad_image": settings.on_bad_image,
        },
        "strength": probe.strength,
        "folds": FOLDS,
    }  # fmt: skip


def _history(probe: Probe) -> bytes:
    """The search for the head's strength, a JSON object a line."""
    lines = (
        json.dumps(
            {"strength": t.strength, "cross_validated_log_loss": t.log_loss, "cross_validated_accuracy": t.accuracy}
        )
        for t in probe.trials
    )
    return ("\n".join(lines) + "\n").encode()


def _samples_csv(learnt: Learnt) -> bytes:
    """Every picture: path, label, part, digest, and what a fit that never saw it says of its label."""
    buffer = io.StringIO(newline="")
    writer = csv_module.writer(buffer, lineterminator="\n")
    writer.writerow(["path", "label", "part", "key", "predicted", "probability_of_label"])
    classes, root = learnt.collection.classes, learnt.collection.root
    for i, sample in enumerate(learnt.collection.samples):
        said = learnt.predicted[i] >= 0
        writer.writerow([
            os.path.relpath(sample.path, root), classes[sample.label], learnt.split.parts[i],
            learnt.features.keys[i].hex(),
            classes[learnt.predicted[i]] if said else "", f"{learnt.probability[i]:.4f}" if said else "",
        ])  # fmt: skip
    return buffer.getvalue().encode("utf-8", "surrogateescape")


__all__ = ["Learnt", "Scores", "TrainSettings", "run", "summary", "train"]
