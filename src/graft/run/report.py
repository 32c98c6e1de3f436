"""What a training run found out, put into the report's own terms."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from graft.data.decode import decode, read_picture
from graft.data.preprocess import Preprocess
from graft.errors import BadPicture
from graft.evaluate.metrics import Scores
from graft.heads.probe import Probe
from graft.pages.advice import advice_section
from graft.pages.report import ClassCounts, Finding, PictureCard, Record, Report, Step, Strength, render
from graft.runtime.stream import ordered_map
from graft.strategy.advice import Advice
from graft.training.checks.curves import verdict
from graft.training.loop.history import History

if TYPE_CHECKING:
    from graft.run.learnt import Gathered, Learnt

_CARDS: Final = 18  # pictures in each gallery
_THUMBNAIL: Final = 160  # longest side, pixels
_EXAMPLES: Final = 6


def page(
    known: Learnt,
    scores: Scores,
    unleaked: Scores | None,
    *,
    strategy: str,
    probe: Probe | None,
    record: dict[str, Any],
    seconds: dict[str, float],
    limit: float,
    network: str,
    preprocess: Preprocess,
    title: str,
    history: History | None = None,
    advice: Advice | None = None,
) -> str:
    """The report as HTML text. seconds: by step, so far. limit: seconds of one decode and one forward pass of all.

    probe: the search for the head's strength, where the strategy has one. history: of a network that was trained.
    advice: why this strategy, where it was chosen.
    """
    gathered = known.gathered
    parts = ("train", "val", "test")
    counts = [
        ClassCounts(name, *(int((gathered.split.parts[gathered.labels == i] == part).sum()) for part in parts))
        for i, name in enumerate(gathered.collection.classes)
    ]
    trials = probe.trials if probe else ()
    versions = tuple((name, str(value)) for name, value in record["versions"].items())
    report = Report(
        title=title,
        made=record["made"][:10],
        folder=gathered.collection.root.rstrip("/").rsplit("/", 1)[-1],
        network=network,
        strategy=strategy,
        preprocessing=f"{preprocess.fit} to {preprocess.size} × {preprocess.size} pixels, {preprocess.interpolation}",
        counts=tuple(counts),
        scores=scores,
        record=Record(versions, record["machine"], record["settings"]["seed"], record.get("trunk", ""), 1),
        without_leaks=unleaked,
        findings=_findings(gathered),
        mistakes=_cards(known, _surest_mistakes(known)),
        doubted=_cards(
            known,
            most_doubted(known.probability, known.predicted, gathered.labels, among=gathered.split.parts != "test"),
        ),
        steps=tuple(Step(name, value) for name, value in seconds.items()),
        limit_seconds=limit,
        strengths=tuple(sorted((Strength(t.strength, t.log_loss, t.accuracy) for t in trials), key=lambda s: s.value)),
        chosen=probe.strength if probe else None,
        curves=_curves(history) if history else "",
        verdict=_verdict(history) if history else (),
        advice=advice_section(advice) if advice else "",
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


def _surest_mistakes(known: Learnt) -> NDArray[np.int64]:
    """Test pictures called something else, the surest of it first."""
    wrong = np.flatnonzero((known.gathered.split.parts == "test") & (known.predicted != known.gathered.labels))
    return wrong[np.argsort(-known.confidence[wrong], kind="stable")][:_CARDS]


def _cards(known: Learnt, which: NDArray[np.int64]) -> tuple[PictureCard, ...]:
    gathered = known.gathered
    classes, samples = gathered.collection.classes, gathered.collection.samples

    def card(i: int) -> PictureCard | None:
        path = samples[i].path
        try:
            picture = decode(read_picture(path), name=path, shortest=_THUMBNAIL // 2).image
        except BadPicture:  # removed since it was read: the gallery does without it
            return None
        picture.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BILINEAR)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=82)
        shown_path = path.removeprefix(gathered.collection.root).lstrip("/\\")
        return PictureCard(
            buffer.getvalue(),
            classes[gathered.labels[i]],
            classes[known.predicted[i]],
            float(known.confidence[i]),
            shown_path,
        )

    return tuple(made for made in ordered_map(card, [int(i) for i in which]) if made is not None)


def _findings(gathered: Gathered) -> tuple[Finding, ...]:
    audited = [
        Finding(
            f.severity, f.message, len(f.items),
            tuple(" = ".join(item.paths) + (f" ({item.note})" if item.note else "") for item in f.items[:_EXAMPLES]),
        )
        for f in gathered.found.findings
    ]  # fmt: skip
    return (*audited, *(Finding("note", note, 0) for note in gathered.split.notes))


def _curves(history: History) -> str:
    from graft.pages.curves import Drawn, curves_svg

    picture = curves_svg([Drawn("this run", history, ())])
    return picture[picture.index("<svg") :]


def _verdict(history: History) -> tuple[Finding, ...]:
    return tuple(Finding(f.severity, f"{f.name}: {f.evidence} {f.advice}", 0) for f in verdict(history))
