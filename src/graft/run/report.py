"""What a run found out, put into the report's own terms."""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from graft.classifier.record import RunRecord
from graft.data.decode import decode, read_picture
from graft.errors import BadPicture
from graft.pages.report import ClassCounts, Finding, PictureCard, Record, Report, Step, Strength, render
from graft.run.judged import Judged, Tested
from graft.run.learned import Learned
from graft.run.prepare import Dataset
from graft.runtime.stream import ordered_map
from graft.training.checks.curves import verdict
from graft.training.loop.history import History

_CARDS: Final = 18  # pictures in each gallery
_THUMBNAIL: Final = 160  # longest side, pixels
_EXAMPLES: Final = 6


def report_of(
    learned: Learned, judged: Judged, tested: Tested, record: RunRecord, *, seconds: dict[str, float], title: str
) -> str:
    """The report as HTML text. seconds: by step, so far."""
    dataset, preprocess, history = learned.dataset, learned.preprocess, learned.curves
    parts = ("train", "val", "test")
    counts = [
        ClassCounts(name, *(int((dataset.split.parts[dataset.labels == i] == part).sum()) for part in parts))
        for i, name in enumerate(dataset.classes)
    ]
    trials = learned.probe.trials if learned.probe else ()
    versions = tuple(record.versions.items())
    report = Report(
        title=title,
        made=record.made[:10],
        folder=dataset.collection.root.rstrip("/").rsplit("/", 1)[-1],
        network=learned.network.network,
        strategy=learned.words,
        preprocessing=f"{preprocess.fit} to {preprocess.size} × {preprocess.size} pixels, {preprocess.interpolation}",
        counts=tuple(counts),
        scores=tested.scores,
        record=Record(versions, record.machine, learned.recipe.seed, record.trunk, 1),
        without_leaks=tested.unleaked,
        findings=_findings(dataset),
        mistakes=_cards(judged, _surest_mistakes(judged)),
        doubted=_cards(
            judged,
            most_doubted(judged.probability, judged.predicted, dataset.labels, among=dataset.split.parts != "test"),
        ),
        steps=tuple(Step(name, value) for name, value in seconds.items()),
        limit_seconds=learned.limit,
        strengths=tuple(sorted((Strength(t.strength, t.log_loss, t.accuracy) for t in trials), key=lambda s: s.value)),
        chosen=learned.probe.strength if learned.probe else None,
        curves=_curves(history) if history else "",
        verdict=_verdict(history) if history else (),
        advice=learned.advice,
    )
    return render(report)


def most_doubted(
    probability: NDArray[np.float32],
    predicted: NDArray[np.int64],
    labels: NDArray[np.int64],
    *,
    among: NDArray[np.bool_],
    most: int = _CARDS,
) -> NDArray[np.int64]:
    """Indices of the pictures whose label a fit that never saw them finds least probable, the least probable first.

    probability: (n,) of the given label. Only pictures for which that fit prefers another class are named.
    """
    doubted = np.flatnonzero(among & (predicted >= 0) & (predicted != labels))
    return doubted[np.argsort(probability[doubted], kind="stable")][:most]


def _surest_mistakes(judged: Judged) -> NDArray[np.int64]:
    """Test pictures called something else, the surest of it first."""
    wrong = np.flatnonzero((judged.dataset.split.parts == "test") & (judged.predicted != judged.dataset.labels))
    return wrong[np.argsort(-judged.confidence[wrong], kind="stable")][:_CARDS]


def _cards(judged: Judged, which: NDArray[np.int64]) -> tuple[PictureCard, ...]:
    dataset = judged.dataset
    classes, samples = dataset.classes, dataset.collection.samples

    def card(i: int) -> PictureCard | None:
        path = samples[i].path
        try:
            picture = decode(read_picture(path), name=path, shortest=_THUMBNAIL // 2).image
        except BadPicture:  # removed since it was read: the gallery does without it
            return None
        picture.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BILINEAR)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=82)
        shown_path = path.removeprefix(dataset.collection.root).lstrip("/\\")
        return PictureCard(
            buffer.getvalue(),
            classes[dataset.labels[i]],
            classes[judged.predicted[i]],
            float(judged.confidence[i]),
            shown_path,
        )

    return tuple(made for made in ordered_map(card, [int(i) for i in which]) if made is not None)


def _findings(dataset: Dataset) -> tuple[Finding, ...]:
    audited = [
        Finding(
            f.severity, f.message, len(f.items),
            tuple(" = ".join(item.paths) + (f" ({item.note})" if item.note else "") for item in f.items[:_EXAMPLES]),
        )
        for f in dataset.found.findings
    ]  # fmt: skip
    return (*audited, *(Finding("note", note, 0) for note in dataset.split.notes))


def _curves(history: History) -> str:
    from graft.pages.curves import Drawn, curves_svg

    return curves_svg([Drawn("this run", history, ())])


def _verdict(history: History) -> tuple[Finding, ...]:
    return tuple(Finding(f.severity, f"{f.name}: {f.evidence} {f.advice}", 0) for f in verdict(history))
