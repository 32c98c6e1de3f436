"""`graft train --strategy scratch`: a whole network from fresh weights, and the same model folder at the end.

The pictures are decoded once, into the store; the network is checked by the gate, trained by the loop, exported, and
scored on the test pictures through the exported graph, the one that is shipped. What a stopped run needs to go on lies
in the folder OUT.training, which is removed when the model is whole.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from graft.classifier.artefact import MANIFEST, SCHEMA, Manifest, preprocess_fields, save, seal
from graft.data.preprocess import Fit, Preprocess
from graft.data.sources.opened import opened
from graft.disk.cache import cache_folder
from graft.disk.output import new_folder
from graft.disk.table import Store
from graft.errors import GraftError, shown
from graft.evaluate.metrics import to_json
from graft.features.extract import decode_once
from graft.models.fresh import Plan, plan
from graft.progress import Progress
from graft.run.clock import Clock
from graft.run.learnt import (
    Gathered,
    data_record,
    gather,
    golden,
    judged,
    run_record,
    samples_csv,
    test_scores,
)
from graft.run.report import page
from graft.run.scratch_network import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    graph_of,
    head_name,
    network_for,
    normalization_for,
    preprocess_of,
    tensors_of,
)
from graft.run.settings import TrainingSettings, TrainSettings
from graft.run.state import Watch, run_state, same_pictures, told, with_validation_of
from graft.runtime.device import choose_device
from graft.runtime.export import LUMA
from graft.runtime.onnx import OnnxRunner
from graft.runtime.stream import ordered_map
from graft.training.checks.curves import verdict
from graft.training.loop.history import HISTORY, History, read_history
from graft.training.loop.pictures import Pictures
from graft.training.recipe.normalize import Normalization

if TYPE_CHECKING:
    from graft.training.loop.fit import Outcome

RANDOM_SEARCH: Final = "random-search"  # learns nothing by heart, so the gate has nothing to ask of it


def run(
    folder: Path, out: Path, settings: TrainSettings, *, force: bool, progress: Progress, watch: Watch | None = None
) -> Manifest:
    """What `train` does for the strategy `scratch`, up to the finished folder; returns its manifest.

    watch: gets the history as it is written; without it, `progress` does. Raises GraftError when the gate finds that
    training would be in vain, or the loss stops being finite.
    """
    from graft.training.loop.fit import fit

    clock = Clock()
    training = settings.training or TrainingSettings(seed=settings.seed, class_weights=settings.class_weights)  # type: ignore[arg-type]
    planned = plan(settings.network, side=settings.size)
    device = choose_device(settings.device)
    cache = cache_folder(settings.cache)
    state = out.absolute().with_name(f"{out.name}.training")
    store = Store(cache / "features")
    with (
        new_folder(out, source=folder, force=force, mark=MANIFEST) as partial,
        opened(folder, cache, csv=settings.csv, follow_links=settings.follow_links, progress=progress) as collection,
        run_state(state, out, resume=settings.resume, force=force),
    ):
        seen = Preprocess(planned.side, cast(Fit, settings.fit), "bilinear", IMAGENET_MEAN, IMAGENET_STD)
        with clock.step("decoding"):
            features = decode_once(
                collection.samples, seen, store, strict=settings.on_bad_image == "strict", progress=progress
            )
        with clock.step("audit and split"):
            gathered = with_validation_of(
                gather(collection, features, source=folder, test_fraction=settings.test_fraction, seed=settings.seed),
                settings.seed,
            )
        classes = gathered.collection.classes
        train, val = (_pictures(gathered, part, planned) for part in ("train", "val"))
        same_pictures(state, gathered, repr(planned), resume=settings.resume)
        normalization = normalization_for(train, training.normalization, settings.fit)
        preprocess = preprocess_of(seen, normalization)
        network, published = network_for(planned, len(classes), training)
        checks: dict[str, Any] = {}
        if settings.gate and not settings.resume and training.optimizer != RANDOM_SEARCH:
            with clock.step("gate"):
                checks = _gate(planned, len(classes), training, train, normalization, progress)
        with clock.step("training"):
            outcome = fit(
                network, train, val if len(val) else None, training, normalization=normalization, folder=state,
                resume=settings.resume, watch=watch or told(progress), device=device,
            )  # fmt: skip
        clock.seconds["training"] = max(clock.seconds["training"], outcome.seconds)  # and before it was stopped
        if outcome.why == "not finite":
            raise GraftError(
                f"training stopped at a loss that is not finite: {outcome.reason}; the last good weights are in "
                f"{shown(state)}, begin anew with --force"
            )
        with clock.step("model"):
            graph = graph_of(network, preprocess, normalization, classes)
        with clock.step("test"):
            started = time.perf_counter()
            said = {part: _probabilities(gathered, part, graph, progress) for part in ("val", "test")}
            run_once = (time.perf_counter() - started) * len(gathered.labels) / sum(map(len, said.values()))
            scores, unleaked = test_scores(gathered, said["test"])
        known = judged(gathered, {part: rows for part, rows in said.items() if len(rows)})
        pictures = golden(gathered, preprocess, graph, said["test"])
        limit = features.limit + run_once
        history = read_history(state)
        record = {**_record(settings, training, outcome, history, device), **checks}
        strategy = (
            f"from scratch: {outcome.epochs} epochs with {training.optimizer}, the weights of epoch "
            f"{outcome.best_epoch} kept"
        )
        with clock.step("report"):
            html = page(
                known, scores, unleaked, strategy=strategy, probe=None, record=record, seconds=clock.seconds,
                limit=limit, network=planned.network, preprocess=preprocess, title=out.name,
                history=history,
            )  # fmt: skip
        with clock.step("writing"):
            others = {
                "report.html": html.encode(),
                "samples.csv": samples_csv(known),
                HISTORY: (state / HISTORY).read_bytes(),
                "settings.toml": training.to_toml().encode(),
            }
            tensors = tensors_of(network, published, normalization)
            files = save(partial, tensors=tensors, graph=graph, golden=pictures, others=others)
        manifest = Manifest(
            schema=SCHEMA, graft=version("graft"), network=planned.network, builder=planned.builder,
            architecture=planned.architecture, arguments=_arguments(training),
            head=head_name(network, published), classes=classes,
            preprocess=preprocess_fields(preprocess), calibration={"method": "none"}, strategy="scratch",
            seed=settings.seed, data=data_record(gathered, folder), test=to_json(scores),
            test_without_leaks=to_json(unleaked) if unleaked else None, looks=1,
            seconds={**clock.seconds, "total": clock.total(), "limit": limit}, record=record, files=files,
        )  # fmt: skip
        seal(partial, manifest)
    shutil.rmtree(state, ignore_errors=True)
    store.trim()
    return manifest


def _pictures(gathered: Gathered, part: str, planned: Plan) -> Pictures:
    """One part of the split as the loop takes it; their numbers are their places in the whole collection."""
    which = gathered.indices(part)
    read = gathered.features.pixels(which)
    if planned.channels == 1:
        luma, colour = np.array(LUMA, np.float32), read
        read = lambda wanted: np.rint(colour(wanted) @ luma)[..., None].astype(np.uint8)  # noqa: E731
    return Pictures(gathered.labels[which], which, (planned.side, planned.side, planned.channels), read)


def _probabilities(gathered: Gathered, part: str, graph: bytes, progress: Progress) -> NDArray[np.float32]:
    """(n, K) of one part's pictures, as they were decoded, through the finished graph, one at a time in every core."""
    which = gathered.indices(part)
    read, run_graph, rows = gathered.features.pixels(which), OnnxRunner(graph), []
    for number, row in enumerate(ordered_map(lambda i: run_graph(read(np.array([i])))[0], range(len(which))), 1):
        rows.append(row)
        progress(f"scoring the {part} pictures", number, len(which))
    return np.stack(rows) if rows else np.empty((0, len(gathered.collection.classes)), np.float32)


def _gate(
    planned: Plan,
    num_classes: int,
    training: TrainingSettings,
    train: Pictures,
    normalization: Normalization,
    progress: Progress,
) -> dict[str, Any]:
    """What the checks before training found, for the record. Raises GraftError, with the causes, when one fails."""
    from graft.training.checks.gate import gate
    from graft.training.recipe.losses import loss_function
    from graft.training.recipe.optimizers import find, optimizer, parameter_groups

    progress("checking the set-up before training", 0, 1)
    unregularised = replace(training, dropout=None, dropconnect=None, stochastic_depth=None)
    report = gate(
        lambda: network_for(planned, num_classes, unregularised)[0],
        loss_function(training.loss, smoothing=training.label_smoothing),
        train,
        num_classes=num_classes,
        normalization=normalization,
        make_optimizer=lambda network, rate: optimizer(
            training.optimizer, parameter_groups(network, 0.0), rate=rate, momentum=training.momentum
        ),
        rate=training.rate or find(training.optimizer).rate,
        seed=training.seed,
    )
    progress("checking the set-up before training", 1, 1)
    failed = [check for check in report.checks if check.status == "failed"]
    if failed:
        said = "; ".join(f"{check.name}: {check.found} (likely {', or '.join(check.causes)})" for check in failed)
        raise GraftError(f"training was not begun, for a check failed: {said}; mend it, or go on with --no-gate")
    return {"gate": [asdict(check) for check in report.checks]}


def _record(
    settings: TrainSettings, training: TrainingSettings, outcome: Outcome, history: History, device: str
) -> dict[str, Any]:
    return {
        **run_record(device, "torch"),
        "verdict": [f"{finding.name}: {finding.evidence}" for finding in verdict(history)],
        "settings": {
            "fit": settings.fit, "test_fraction": settings.test_fraction, "class_weights": settings.class_weights,
            "seed": settings.seed, "on_bad_image": settings.on_bad_image,
        },
        "training": asdict(training),
        "epochs": outcome.epochs,
        "best_epoch": outcome.best_epoch,
        "ended": outcome.why,
        "precision": outcome.precision,
        "batch": outcome.batch,
        "pictures_per_second": round(outcome.pictures_per_second, 1),
        "notices": list(outcome.notices),
    }  # fmt: skip


def _arguments(training: TrainingSettings) -> dict[str, str]:
    return {"activation": training.activation} if training.activation else {}
