"""`graft train`: from a folder of labelled pictures to a model folder, with an honest score."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from graft.classifier import SCHEMA, Manifest, load, preprocess_fields, save, seal
from graft.data.preprocess import Fit
from graft.data.split import assign_folds
from graft.evaluate.metrics import to_json
from graft.jobs.cache import cache_folder
from graft.jobs.clock import Clock
from graft.jobs.learnt import (
    class_weights,
    data_record,
    gather,
    golden,
    judged,
    run_record,
    samples_csv,
    test_scores,
    too_small,
)
from graft.jobs.model import Model
from graft.jobs.output import new_folder
from graft.jobs.page import page
from graft.jobs.settings import TrainSettings
from graft.jobs.source import opened
from graft.models.weights import find_source
from graft.progress import Progress, silent
from graft.runtime.attach import with_head
from graft.runtime.device import choose_device
from graft.store.table import Store
from graft.transfer.features import extract
from graft.transfer.logistic import Rows
from graft.transfer.probe import Probe, fit_probe, softmax
from graft.transfer.trunk import Trunk, open_trunk, runner

if TYPE_CHECKING:
    from graft.jobs.scratch import Watch

FOLDS: Final = 5
_GOLDEN: Final = 8
_GOLDEN_TOLERANCE: Final = 5e-3  # of a probability: the features of the probe went through float16


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
    folder: Path,
    out: Path,
    settings: TrainSettings,
    *,
    force: bool = False,
    progress: Progress = silent,
    watch: Watch | None = None,
) -> Manifest:
    """What `train` does, up to the finished folder; returns its manifest.

    watch: gets the history of a network that is trained from scratch, line by line. A probe imports no torch once its
    trunk is cached.
    """
    if settings.strategy == "scratch":
        from graft.jobs import scratch

        return scratch.run(folder, out, settings, force=force, progress=progress, watch=watch)
    clock = Clock()
    device = choose_device(settings.device)
    source = find_source(settings.network, settings.weights)
    cache = cache_folder(settings.cache)
    with (
        new_folder(out, source=folder, force=force) as partial,
        opened(folder, cache, csv=settings.csv, follow_links=settings.follow_links, progress=progress) as collection,
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
        with clock.step("audit and split"):
            gathered = gather(
                collection, features, source=folder, test_fraction=settings.test_fraction, seed=settings.seed
            )
        labels, classes = gathered.labels, collection.classes
        in_train, in_test = gathered.indices("train"), gathered.indices("test")
        fold = assign_folds(
            labels[in_train], gathered.groups[in_train], features.key_array()[in_train], folds=FOLDS, seed=settings.seed
        )
        if fold.max(initial=-1) < 1:
            raise too_small(folder, gathered)
        with clock.step("head"):
            probe = fit_probe(
                features.rows(in_train), labels[in_train], fold, num_classes=len(classes),
                class_weights=class_weights(labels[in_train], len(classes), settings.class_weights), progress=progress,
            )  # fmt: skip
        with clock.step("test"):
            probabilities = _probabilities(features.rows(in_test), probe)
            scores, unleaked = test_scores(gathered, probabilities)
        known = judged(gathered, {"train": probe.held_out, "test": probabilities})
        with clock.step("model"):
            graph = with_head(trunk.graph, probe.weight, probe.bias, classes)
            pictures = golden(gathered, preprocess, graph, probabilities)
            tensors = _tensors(trunk, probe)
        record = _record(settings, trunk, probe, device)
        strategy = f"probe: logistic regression on the frozen trunk's features, strength {probe.strength:g}"
        with clock.step("report"):
            html = page(
                known, scores, unleaked, strategy=strategy, probe=probe, record=record, seconds=clock.seconds,
                limit=features.limit, network=settings.network, preprocess=preprocess, title=out.name,
            )  # fmt: skip
        with clock.step("writing"):
            others = {"report.html": html.encode(), "samples.csv": samples_csv(known), "history.jsonl": _history(probe)}
            files = save(partial, tensors=tensors, graph=graph, golden=pictures, others=others)
        manifest = Manifest(
            schema=SCHEMA, graft=version("graft"), network=source.network, builder=trunk.builder,
            architecture=trunk.architecture, head=trunk.head, classes=classes,
            preprocess=preprocess_fields(preprocess), calibration={"method": "none"},
            strategy="probe", seed=settings.seed, data=data_record(gathered, folder), test=to_json(scores),
            test_without_leaks=to_json(unleaked) if unleaked else None, looks=1,
            seconds={**clock.seconds, "total": clock.total(), "limit": features.limit}, record=record, files=files,
        )  # fmt: skip
        seal(partial, manifest)
    store.trim()
    return manifest


def summary(manifest: Manifest, out: Path) -> str:
    """The last lines that a person reads after training."""
    assert manifest.test is not None
    top1, baseline = manifest.test["top1"], manifest.test["baseline"]
    lines = [
        (
            f"Right on {100 * top1['value']:.1f} % of {manifest.test['n']:,} test pictures "
            f"(95 % interval {100 * top1['low']:.1f}–{100 * top1['high']:.1f}); "
            f"always saying {manifest.test['majority']!r} would be right on {100 * baseline['value']:.1f} %."
        ),
        *_without_leaks(manifest),
        *manifest.data["notes"],
        *(f"The curves: {finding}" for finding in manifest.record.get("verdict", ())),
        _took(manifest),
        f"Report: {out / 'report.html'}",
        f"Try it: graft predict {out} PICTURE",
    ]
    return "\n".join(lines)


def _took(manifest: Manifest) -> str:
    total, limit = manifest.seconds["total"], max(manifest.seconds["limit"], 1e-9)
    if manifest.strategy == "scratch":
        return f"{total:.1f} seconds, {manifest.seconds['training']:.1f} of them for training."
    return (
        f"{total:.1f} seconds, {total / limit:.2f} times what decoding and running every picture once takes on this "
        "machine."
    )


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


def _probabilities(rows: Rows, probe: Probe) -> NDArray[np.float32]:
    """(N, D) features → (N, K) probabilities."""
    return np.concatenate(list(rows.each(lambda _, x: softmax(x @ probe.weight.T + probe.bias), len(probe.bias))))


def _tensors(trunk: Trunk, probe: Probe) -> dict[str, NDArray[Any]]:
    """The whole network's weights by their published names, the new head in place of the old."""
    from safetensors.numpy import load_file

    tensors = load_file(trunk.weights)
    old = tensors[f"{trunk.head}.weight"]
    tensors[f"{trunk.head}.weight"] = probe.weight.reshape(-1, *old.shape[1:])  # (K, D), or (K, D, 1, 1)
    tensors[f"{trunk.head}.bias"] = probe.bias
    return tensors


def _record(settings: TrainSettings, trunk: Trunk, probe: Probe, device: str) -> dict[str, Any]:
    return {
        **run_record(device),
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


__all__ = ["TrainSettings", "run", "summary", "train"]
