"""What a training run found out, put into the report's own terms."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from graft.data.audit import Audit
from graft.data.decode import decode, read_picture
from graft.data.preprocess import Preprocess
from graft.errors import BadPicture
from graft.evaluate.metrics import Scores
from graft.report.page import ClassCounts, Finding, PictureCard, Record, Report, Step, Strength, render
from graft.runtime.stream import ordered_map
from graft.transfer.probe import Probe

if TYPE_CHECKING:
    from graft.jobs.train import Learnt

_CARDS: Final = 18  # pictures in each gallery
_THUMBNAIL: Final = 160  # longest side, pixels
_EXAMPLES: Final = 6


def page(
    learnt: Learnt,
    found: Audit,
    scores: Scores,
    unleaked: Scores | None,
    probe: Probe,
    *,
    record: dict[str, Any],
    seconds: dict[str, float],
    limit: float,
    network: str,
    preprocess: Preprocess,
    looks: int,
    title: str,
) -> str:
    """The report as HTML text. seconds: by step, so far. limit: seconds of one decode and one forward pass of all."""
    parts = ("train", "val", "test")
    counts = [
        ClassCounts(name, *(int((learnt.split.parts[learnt.labels == i] == part).sum()) for part in parts))
        for i, name in enumerate(learnt.collection.classes)
    ]
    versions = tuple((name, str(value)) for name, value in record["versions"].items())
    report = Report(
        title=title,
        made=record["made"][:10],
        folder=learnt.collection.root.rstrip("/").rsplit("/", 1)[-1],
        network=network,
        strategy=f"probe: logistic regression on the frozen trunk's features, strength {probe.strength:g}",
        preprocessing=f"{preprocess.fit} to {preprocess.size} × {preprocess.size} pixels, {preprocess.interpolation}",
        counts=tuple(counts),
        scores=scores,
        record=Record(versions, record["machine"], record["settings"]["seed"], record["trunk"], looks),
        without_leaks=unleaked,
        findings=_findings(learnt, found),
        mistakes=_cards(learnt, _surest_mistakes(learnt)),
        doubted=_cards(
            learnt,
            most_doubted(learnt.probability, learnt.predicted, learnt.labels, among=learnt.split.parts == "train"),
        ),
        steps=tuple(Step(name, value) for name, value in seconds.items()),
        limit_seconds=limit,
        strengths=tuple(
            sorted((Strength(t.strength, t.log_loss, t.accuracy) for t in probe.trials), key=lambda s: s.value)
        ),
        chosen=probe.strength,
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


def _surest_mistakes(learnt: Learnt) -> NDArray[np.int64]:
    """Test pictures called something else, the surest of it first."""
    wrong = np.flatnonzero((learnt.split.parts == "test") & (learnt.predicted != learnt.labels))
    return wrong[np.argsort(-learnt.confidence[wrong], kind="stable")][:_CARDS]


def _cards(learnt: Learnt, which: NDArray[np.int64]) -> tuple[PictureCard, ...]:
    classes, samples = learnt.collection.classes, learnt.collection.samples

    def card(i: int) -> PictureCard | None:
        path = samples[i].path
        try:
            picture = decode(read_picture(path), name=path, shortest=_THUMBNAIL // 2).image
        except BadPicture:  # removed since it was read: the gallery does without it
            return None
        picture.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BILINEAR)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=82)
        shown_path = path.removeprefix(learnt.collection.root).lstrip("/\\")
        return PictureCard(
            buffer.getvalue(),
            classes[learnt.labels[i]],
            classes[learnt.predicted[i]],
            float(learnt.confidence[i]),
            shown_path,
        )

    return tuple(made for made in ordered_map(card, [int(i) for i in which]) if made is not None)


def _findings(learnt: Learnt, found: Audit) -> tuple[Finding, ...]:
    audited = [
        Finding(
            f.severity, f.message, len(f.items),
            tuple(" = ".join(item.paths) + (f" ({item.note})" if item.note else "") for item in f.items[:_EXAMPLES]),
        )
        for f in found.findings
    ]  # fmt: skip
    return (*audited, *(Finding("note", note, 0) for note in learnt.split.notes))
