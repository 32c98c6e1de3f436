"""One HTML file that tells the owner of the pictures how good the classifier is, where it fails and why."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, Literal

from graft.errors import shown
from graft.evaluate.intervals import Interval
from graft.evaluate.metrics import ClassScore, Scores
from graft.pages import charts
from graft.pages.advice import advised
from graft.pages.page import inline, jpeg, page, percent, points
from graft.strategy.advice import Advice

Severity = Literal["error", "warning", "note"]

SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "note")
WHOLE_MATRIX: Final = 30  # the most classes whose confusion is shown as a matrix, and drawn one by one
_FEW_PAIRS: Final = 8  # confused pairs listed beside a matrix; without one, WHOLE_MATRIX of them
_COLOURS: Final = 8  # parts of the time bar that can be told apart


@dataclass(frozen=True)
class ClassCounts:
    """How many pictures of one class each split holds."""

    name: str
    train: int
    validation: int
    test: int


@dataclass(frozen=True)
class Finding:
    """Something seen in the folder: how grave, in one line, how many pictures (0: not about some), a few names."""

    severity: Severity
    headline: str
    count: int
    examples: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(f"severity must be one of {', '.join(SEVERITIES)}, got {self.severity!r}")


@dataclass(frozen=True)
class PictureCard:
    """A thumbnail with the class its folder gives it, the class predicted, and that class's probability, 0–1."""

    jpeg: bytes
    given: str
    predicted: str
    probability: float
    path: str

    def __post_init__(self) -> None:
        if not self.jpeg.startswith(b"\xff\xd8"):
            raise ValueError(f"a thumbnail must be JPEG bytes, got {self.jpeg[:4]!r} for {shown(self.path)}")


@dataclass(frozen=True)
class Step:
    """A part of the run and its wall-clock seconds."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Strength:
    """One strength of the head's regularisation, above 0, with its cross-validated log-loss (nats) and accuracy."""

    value: float
    log_loss: float
    accuracy: float

    def __post_init__(self) -> None:
        if not self.value > 0:
            raise ValueError(f"a strength must be above 0 to stand on a logarithmic axis, got {self.value}")


@dataclass(frozen=True)
class Record:
    """What it takes to repeat the run. test_looks: how often the test split has been scored, this time included."""

    versions: tuple[tuple[str, str], ...]
    machine: str
    seed: int
    digest: str
    test_looks: int


@dataclass(frozen=True)
class Report:
    """All that the page says.

    made: ISO 8601 date. counts: one entry a class, in the order of the scores. without_leaks: scores on the test
    pictures with no near-duplicate in training. mistakes, doubted: cards, the surest first. limit_seconds: one decode
    and one forward pass of every picture, the least this machine could have taken. strengths: the search for the
    head's regularisation, ascending; chosen: the strength taken. curves: a picture (SVG) of a training run's losses,
    accuracies and rate; verdict: what they say. advice: why this strategy.
    """

    title: str
    made: str
    folder: str
    network: str
    strategy: str
    preprocessing: str
    counts: tuple[ClassCounts, ...]
    scores: Scores
    record: Record
    without_leaks: Scores | None = None
    findings: tuple[Finding, ...] = ()
    mistakes: tuple[PictureCard, ...] = ()
    doubted: tuple[PictureCard, ...] = ()
    steps: tuple[Step, ...] = ()
    limit_seconds: float | None = None
    strengths: tuple[Strength, ...] = ()
    chosen: float | None = None
    curves: str = ""
    advice: Advice | None = None
    verdict: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        counted, scored = len(self.counts), len(self.scores.per_class)
        if counted != scored:
            raise ValueError(f"a report needs counts for each scored class, got {counted} for {scored} classes")


@dataclass(frozen=True)
class ConfusedPair:
    """Pictures of class `true` called `predicted`: how many of the class's `n`, and the share with its interval."""

    true: str
    predicted: str
    count: int
    n: int
    share: Interval


def render(report: Report) -> str:
    """The page as HTML text."""
    return page("report.html.j2", title=report.title, **_parts(report))


def _parts(report: Report) -> dict[str, Any]:
    """What the template names, by its names."""
    scores, k = report.scores, len(report.scores.per_class)
    steps = merged_steps(report.steps)
    total = sum(step.seconds for step in steps)
    return {
        "report": report,
        "advised": advised(report.advice) if report.advice else None,
        "curves": inline(report.curves) if report.curves else "",
        "scores": scores,
        "verdict": verdict(scores),
        "meaning": meaning(scores, report.record.test_looks),
        "share_strip": charts.share_strip,
        "classes": sorted(scores.per_class, key=_weakness)[:WHOLE_MATRIX],
        "matrix": [_matrix_row(scores, i) for i in range(k)] if k <= WHOLE_MATRIX else [],
        "pairs": confused_pairs(scores, most=_FEW_PAIRS if k <= WHOLE_MATRIX else WHOLE_MATRIX),
        "whole_matrix": WHOLE_MATRIX,
        "mistakes": [_with_source(card) for card in report.mistakes],
        "doubted": [_with_source(card) for card in report.doubted],
        "findings": sorted(report.findings, key=lambda f: (SEVERITIES.index(f.severity), -f.count)),
        "sums": [sum(getattr(c, split) for c in report.counts) for split in ("train", "validation", "test")],
        "steps": steps,
        "total": total,
        "time_strip": charts.stacked_strip([s.seconds for s in steps], total=total, title="time") if total > 0 else "",
        "reliability": charts.reliability_chart(scores.reliability),
        "strength_charts": _strength_charts(report),
    }


def verdict(scores: Scores) -> str:
    """The whole report in one sentence."""
    right, always = scores.top1, scores.baseline
    return (
        f"Right on {percent(right.value)} of {scores.n:,} test pictures "
        f"(95 %: {100 * right.low:.1f}–{100 * right.high:.1f}); "
        f"always saying ‘{scores.majority}’ would be right on {percent(always.value)}."
    )


def meaning(scores: Scores, test_looks: int) -> list[str]:
    """What may, and may not, be concluded from the verdict: a few sober sentences."""
    gain = scores.gain
    if gain.low > 0:
        against = f"It beats that by {points(gain)} points on the same pictures."
    elif gain.high < 0:
        against = f"It is worse than that, by {points(gain)} points: do not use it."
    else:
        against = f"The difference, {points(gain)} points, is within the noise: this test does not show it has learnt."
    luck = (
        f"The interval allows for the luck of the draw: of 100 tests with {scores.n:,} other pictures taken like "
        "these, about 95 would give an interval that holds the true share. It does not allow for another camera, "
        "place or season, where the share may be lower."
    )
    said = [against, luck]
    if scores.effective_n < 0.995 * scores.n:
        said.append(
            f"Some test pictures are near-duplicates of each other; together they tell as much as "
            f"{scores.effective_n:,.0f} independent ones, and the intervals are as much wider."
        )
    if test_looks > 1:
        said.append(
            f"These test pictures have been scored {test_looks} times; whoever chooses by them makes the figure kinder "
            "than the truth."
        )
    return said


def confused_pairs(scores: Scores, *, most: int) -> list[ConfusedPair]:
    """The pairs of classes mistaken most often, by count and then by share."""
    wrong = [(count, true, predicted) for true, predicted, count in scores.cells if true != predicted]
    rows = scores.per_class
    worst = sorted(wrong, key=lambda w: (-w[0], -w[0] / rows[w[1]].n, w[1], w[2]))[:most]
    return [
        ConfusedPair(rows[true].name, rows[predicted].name, count, rows[true].n, scores.cell(true, predicted))
        for count, true, predicted in worst
    ]


def merged_steps(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """The steps in their order, the shortest put together where there are more than can be told apart by colour."""
    if len(steps) <= _COLOURS:
        return steps
    kept = set(sorted(range(len(steps)), key=lambda i: -steps[i].seconds)[: _COLOURS - 1])
    rest = sum(step.seconds for i, step in enumerate(steps) if i not in kept)
    return (*(step for i, step in enumerate(steps) if i in kept), Step("everything else", rest))


def _weakness(of_class: ClassScore) -> tuple[bool, float, int]:
    """Sorts classes by recall, the lowest first, classes without test pictures last."""
    return of_class.n == 0, of_class.recall.value if of_class.n else 0.0, -of_class.n


def _matrix_row(scores: Scores, true: int) -> list[dict[str, Any]]:
    """A row of the confusion matrix: count, its colour and how strong that is (0–1), and what the pointer is told."""
    row, names = scores.per_class[true], [c.name for c in scores.per_class]
    cells = []
    for predicted, count in enumerate(scores.confusion[true].tolist()):
        share = count / row.n if row.n else 0.0
        told = f"{names[true]}, called {names[predicted]}: {count} of {row.n}"
        if count:
            told += f", {scores.cell(true, predicted).percent()}"
        # Mistakes are few: the square root lets one in a hundred be seen.
        heat = 0.0 if count == 0 else 0.12 + 0.88 * (share if predicted == true else share**0.5)
        depth = "deep" if heat > 0.85 else "middling" if heat > 0.55 else ""
        tone = f"{'hit' if predicted == true else 'miss'} {depth}".strip() if count else "none"
        cells.append({"count": count, "tone": tone, "heat": round(heat, 2), "told": told})
    return cells


def _with_source(card: PictureCard) -> dict[str, Any]:
    return {"card": card, "source": jpeg(card.jpeg)}


def _strength_charts(report: Report) -> list[Any]:
    """Cross-validated log-loss and accuracy against strength; nothing for fewer than two different strengths."""
    tried = [next(same) for _, same in groupby(sorted(report.strengths, key=lambda s: s.value), lambda s: s.value)]
    if len(tried) < 2:
        return []
    x = charts.Axis("strength of the regularisation", tried[0].value, tried[-1].value, log=True)
    chosen = next((i for i, s in enumerate(tried) if s.value == report.chosen), None)
    loss, accuracy = [s.log_loss for s in tried], [s.accuracy for s in tried]
    values = [s.value for s in tried]
    return [
        charts.line_chart(
            x,
            charts.around("log-loss, nats: lower is better", loss),
            list(zip(values, loss, strict=True)),
            chosen=chosen,
            title="cross-validated log-loss against strength",
        ),
        charts.line_chart(
            x,
            charts.around("accuracy: higher is better", accuracy, percent=True),
            list(zip(values, accuracy, strict=True)),
            chosen=chosen,
            title="cross-validated accuracy against strength",
        ),
    ]
