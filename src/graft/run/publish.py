"""Publish: score on the test pictures, write report and model folder, and seal it.

This is the one place where a run looks at its test pictures.
"""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graft.classifier.artefact import Golden, save, seal
from graft.classifier.manifest import SCHEMA, Calibration, Manifest
from graft.classifier.record import AdviceRecord, DataRecord, FindingRecord, PartCounts, RunRecord
from graft.classifier.samples import SampleRow, write_samples
from graft.data.decode import decode, read_picture
from graft.data.preprocess import fit_picture
from graft.errors import BadModel, shown
from graft.run.judged import Judged, judged_by, test_scores
from graft.run.learned import Learned
from graft.run.prepare import Dataset
from graft.run.report import report_of
from graft.run.workplace import Workplace
from graft.runtime.onnx import OnnxRunner
from graft.training.loop.history import HISTORY

_GOLDEN: Final = 8
_GOLDEN_TOLERANCE: Final = 5e-3  # of a probability: the features of a probe went through float16


def publish(learned: Learned, folder: Path, workplace: Workplace, *, title: str) -> Manifest:
    """Test the classifier, and write its model folder; returns the manifest.

    folder: exists and is empty. title: the name that the report gives it. Raises BadModel where the finished graph and
    the run disagree, GraftError where the folder cannot be written.
    """
    dataset, clock = learned.dataset, workplace.clock
    with clock.step("test"):
        answers = learned.answer(dataset.indices("test"))
        tested = test_scores(dataset, answers)
    judged = judged_by(dataset, {**learned.held_out, "test": answers})
    with clock.step("model"):
        golden = _golden(learned, answers)
    record = _record(learned, workplace)
    with clock.step("report"):
        page = report_of(learned, judged, tested, record, seconds=clock.seconds, title=title)
    with clock.step("writing"):
        others = {"report.html": page.encode(), "samples.csv": _samples(judged), HISTORY: learned.history}
        if learned.curves is not None:
            others["settings.toml"] = learned.recipe.to_toml().encode()
        files = save(folder, tensors=learned.tensors, graph=learned.graph, golden=golden, others=others)
    network = learned.network
    manifest = Manifest(
        schema=SCHEMA, graft=version("graft"), network=network.network, builder=network.builder,
        architecture=network.architecture, arguments=network.arguments, head=learned.head, classes=dataset.classes,
        preprocess=learned.preprocess, calibration=Calibration(method=learned.calibration),
        strategy=learned.strategy.kind, seed=learned.recipe.seed, data=_data(dataset), test=tested.scores,
        test_without_leaks=tested.unleaked, looks=1,
        seconds={**clock.seconds, "total": clock.total(), "limit": learned.limit}, record=record, files=files,
    )  # fmt: skip
    seal(folder, manifest)
    return manifest


def _golden(learned: Learned, answers: NDArray[np.float32]) -> tuple[Golden, ...]:
    """A few test pictures of different classes through the finished graph, checked against the run's own answers.

    answers: (n, K) probabilities of the test pictures. Raises BadModel when the graph says something else.
    """
    dataset, preprocess = learned.dataset, learned.preprocess
    in_test = dataset.indices("test")
    _, first = np.unique(dataset.labels[in_test], return_index=True)
    run_graph, chosen = OnnxRunner(learned.graph), []
    for position in first[:_GOLDEN]:
        path = dataset.collection.samples[in_test[position]].path
        pixels = fit_picture(decode(read_picture(path), name=path, shortest=preprocess.size).image, preprocess)
        given = run_graph(pixels[None])[0]
        if float(np.abs(given - answers[position]).max()) > _GOLDEN_TOLERANCE:
            raise BadModel(
                f"the finished model and the run disagree on {shown(path)}; delete the cache and train again"
            )
        chosen.append(Golden(pixels, given))
    return tuple(chosen)


def _record(learned: Learned, workplace: Workplace) -> RunRecord:
    """How the model was made, on which machine, by which versions."""
    names = ("graft", "numpy", "onnxruntime", "pillow", *(() if learned.curves is None else ("torch",)))
    advice = None if learned.advice is None else AdviceRecord.model_validate(learned.advice.to_json())
    return RunRecord(
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        device=workplace.device,
        versions={name: version(name) for name in names} | {"python": platform.python_version()},
        settings=learned.recipe.recorded(),
        advice=advice,
        **learned.record,
    )


def _data(dataset: Dataset) -> DataRecord:
    """What the manifest says of the pictures."""
    parts, counts = dataset.split.parts, {}
    for label, name in enumerate(dataset.classes):
        mine = parts[dataset.labels == label]
        train, val, test = (int((mine == part).sum()) for part in ("train", "val", "test"))
        counts[name] = PartCounts(train=train, val=val, test=test)
    return DataRecord(
        source=dataset.source.name,
        pictures=len(parts),
        computed=dataset.features.computed,
        set_aside=len(dataset.collection.problems),
        near_duplicate_groups=int((np.bincount(dataset.groups) > 1).sum()),
        counts=counts,
        notes=dataset.split.notes,
        findings=tuple(
            FindingRecord(severity=f.severity, kind=f.kind, message=f.message) for f in dataset.found.findings
        ),
    )


def _samples(judged: Judged) -> bytes:
    """Every picture: path, label, part, digest, and what a fit that never saw it says of its label."""
    dataset = judged.dataset
    root, classes = dataset.collection.root, dataset.classes

    def row(i: int) -> SampleRow:
        known = judged.predicted[i] >= 0
        return SampleRow(
            os.path.relpath(dataset.collection.samples[i].path, root), classes[dataset.labels[i]],
            str(dataset.split.parts[i]), dataset.features.keys[i].hex(),
            classes[judged.predicted[i]] if known else "", float(judged.probability[i]) if known else None,
        )  # fmt: skip

    return write_samples(map(row, range(len(dataset.labels))))
