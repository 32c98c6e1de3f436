"""Which strategy of transfer the data supports: the lectures' table, and then what was measured on this data.

The table goes by how many pictures there are and how like the source's they are. It is a rule of thumb, so it is
checked: probes on every stage say which features a linear head should stand on and from where fine-tuning should begin,
and trials of fine-tuning, where there are any, whether it pays. Where table and measurement disagree, measurement wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from graft.evaluate.intervals import Interval, paired_difference
from graft.features.likeness import LIKE_FROM, UNLIKE_BELOW, Likeness
from graft.features.trunk import TOP
from graft.heads.stage_probes import StageScore, best, levelling_off, steadiest

Amount = Literal["little", "quite a lot", "a million"]
Column = Literal["similar", "different"]
Kind = Literal["probe", "finetune", "scratch"]
Advised = Literal[
    "probe the top", "probe earlier stages", "fine-tune a few", "fine-tune more", "fine-tune all", "scratch"
]

LITTLE_BELOW: Final = 500  # training pictures: the lectures say tens to hundreds, and then hundreds to thousands
MILLION_FROM: Final = 1_000_000
_MIDDLE: Final = (LIKE_FROM + UNLIKE_BELOW) / 2


@dataclass(frozen=True)
class Cell:
    """One cell of the table: what it advises, and in words."""

    amount: Amount
    column: Column
    advised: Advised
    words: str


TABLE: Final[tuple[Cell, ...]] = (
    Cell("little", "similar", "probe the top", "linear classifier on the top layer"),
    Cell("little", "different", "probe earlier stages", "linear classifiers on earlier stages"),
    Cell("quite a lot", "similar", "fine-tune a few", "fine-tune a few layers"),
    Cell("quite a lot", "different", "fine-tune more", "fine-tune more layers"),
    Cell("a million", "similar", "fine-tune all", "(nothing; we fine-tune all layers)"),
    Cell("a million", "different", "scratch", "train from scratch"),
)
"""The lectures' table. Its one empty cell is filled by us."""

PAIRS: Final = tuple(zip(TABLE[::2], TABLE[1::2], strict=True))
"""Its rows, each with its two columns, similar and different."""

ROWS: Final[dict[Amount, str]] = {
    "little": "little data (tens to hundreds)",
    "quite a lot": "quite a lot (hundreds to thousands)",
    "a million": "a million or more",
}


@dataclass(frozen=True)
class Strategy:
    """What to do with the trunk.

    probe: a new head that reads `reads`. finetune: train from the stage `cut` upwards, None for all of the
    network. scratch: train all from fresh weights.
    """

    kind: Kind
    reads: tuple[str, ...] = ()
    cut: str | None = None

    @property
    def words(self) -> str:
        """The strategy as a phrase."""
        if self.kind == "scratch":
            return "train from scratch"
        if self.kind == "finetune":
            return f"fine-tune from {self.cut} up" if self.cut else "fine-tune all of the network"
        return f"probe: a new head on {standing_on(self.reads)}"


@dataclass(frozen=True)
class Trial:
    """A strategy tried on this data. right: (n,) bool on held-out pictures, the same for all trials; seconds taken."""

    strategy: Strategy
    right: NDArray[np.bool_]
    seconds: float


@dataclass(frozen=True)
class Advice:
    """The strategy for this data and what it follows from.

    pictures: training pictures. cell: of the table. scores: of the probes. probe: where a head should stand.
    by_table, by_evidence: what either says; decision: what to do. reason: sentences, in order.
    """

    pictures: int
    classes: int
    likeness: Likeness
    cell: Cell
    scores: tuple[StageScore, ...]
    probe: Strategy
    by_table: Strategy
    by_evidence: Strategy
    decision: Strategy
    reason: tuple[str, ...]

    def lines(self) -> list[str]:
        """For the terminal: the table with its cell marked, the measurements, the decision and why."""
        return [*self._table(), "", *self._measured(), "", f"Advice: {self.decision.words}.", *self.reason]

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values; `lines` as a person reads it."""
        scores = [
            {"stage": s.stage, "reads": list(s.reads), "width": s.width, "accuracy": s.accuracy, "low": s.low,
             "high": s.high, "log_loss": s.log_loss, "strength": s.strength} for s in self.scores
        ]  # fmt: skip
        strategies = {
            name: {**asdict(strategy), "reads": list(strategy.reads), "words": strategy.words}
            for name, strategy in (
                ("probe", self.probe), ("by_table", self.by_table), ("by_evidence", self.by_evidence),
                ("decision", self.decision),
            )
        }  # fmt: skip
        return {
            "pictures": self.pictures, "classes": self.classes,
            "likeness": {**asdict(self.likeness), "word": self.likeness.word}, "cell": asdict(self.cell),
            "stages": scores, **strategies, "reason": list(self.reason), "lines": self.lines(),
        }  # fmt: skip

    def _table(self) -> list[str]:
        rows = [("", "similar to the source", "very different")]
        rows += [(ROWS[similar.amount], self._marked(similar), self._marked(other)) for similar, other in PAIRS]
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]

    def _marked(self, one: Cell) -> str:
        return f"[{one.words}]" if one == self.cell else one.words

    def _measured(self) -> list[str]:
        like = self.likeness
        taken = self.probe.reads
        wide = max(len(score.stage) for score in self.scores)
        return [
            f"{self.pictures:,} training pictures of {self.classes} classes",
            f"likeness to the source's pictures {like.value:.2f} ({like.low:.2f}–{like.high:.2f}): {like.word}",
            "",
            f"{'a linear head on'.ljust(wide)}  {'width':>6}  right, cross-validated",
            *(
                f"{score.stage.ljust(wide)}  {score.width:>6,}  {interval(score).percent()}"
                f"{'  ←' if score.reads == taken else ''}"
                for score in self.scores
            ),
        ]


def standing_on(reads: tuple[str, ...]) -> str:
    """What a head that reads these outputs stands on, as a phrase."""
    if reads == TOP:
        return "the top features"
    if len(reads) == 1:
        return f"the earlier stage {reads[0]}"
    return f"{len(reads)} stages together, {reads[0]} to {reads[-1]}"


def interval(score: StageScore) -> Interval:
    """A score's accuracy with its interval."""
    return Interval(score.accuracy, score.low, score.high)


def cell(pictures: int, like: Likeness) -> Cell:
    """The table's cell for so many training pictures, so like the source's."""
    amount: Amount = "little"
    if pictures >= LITTLE_BELOW:
        amount = "a million" if pictures >= MILLION_FROM else "quite a lot"
    column: Column = "similar" if like.value >= _MIDDLE else "different"
    return next(one for one in TABLE if (one.amount, one.column) == (amount, column))


def advise(counts: Sequence[int], like: Likeness, scores: Sequence[StageScore], stages: Sequence[str]) -> Advice:
    """What the table and the probes advise.

    counts: training pictures of each class. scores: as `probe_stages` gives them. stages: of the network, from the
    picture upwards.
    """
    pictures = int(sum(counts))
    found = cell(pictures, like)
    expected = expected_probe(found.column, scores)
    chosen = steadiest(scores, expected.reads)
    probe = Strategy("probe", chosen.reads)
    cut = _cut(levelling_off(scores), stages, found.advised)
    by_table = _by_table(found, expected, stages)
    if found.advised in ("probe the top", "probe earlier stages"):
        by_evidence = probe
        reason = [_first(found), _of_probes(by_table, chosen, scores)]
    elif found.advised in ("fine-tune a few", "fine-tune more"):
        by_evidence = Strategy("finetune", cut=cut)
        reason = [_first(found), _of_cut(by_table, cut, levelling_off(scores)), _until_tried(chosen)]
    else:
        by_evidence = by_table
        reason = [_first(found), "Probes cannot say whether all layers should be trained: the table stands."]
    if like.word == "in between":
        reason.insert(1, f"The likeness lies in between; it counts as {found.column}.")
    return Advice(
        pictures, len(counts), like, found, tuple(scores), probe, by_table, by_evidence, by_evidence, tuple(reason)
    )


def weigh(advice: Advice, trials: Sequence[Trial], groups: NDArray[np.int64] | None = None) -> Advice:
    """The advice once strategies were tried: the cheapest that the most accurate does not beat beyond noise.

    trials: one or more, right on the same pictures. groups: (n,), near-duplicates among them share one.
    """
    judge = max(trials, key=lambda trial: trial.right.mean())
    decided = judge
    for trial in sorted(trials, key=lambda trial: trial.seconds):
        gain = paired_difference(judge.right, trial.right, groups)
        if not gain.low > 0:
            decided = trial
            break
    share = [f"{t.strategy.words}: {100 * t.right.mean():.1f} % in {t.seconds:,.0f} s" for t in trials]
    sentences = [f"Tried on {len(judge.right):,} held-out pictures: {'; '.join(share)}."]
    others = [trial for trial in trials if trial is not decided]
    mine = decided.strategy.words[0].upper() + decided.strategy.words[1:]
    rival = max(others, key=lambda trial: trial.right.mean(), default=None)
    if rival is not None:
        gain = paired_difference(decided.right, rival.right, groups)
        by = f"by {gain.points()}"
        if gain.low > 0:
            sentences.append(f"{mine} beats {rival.strategy.words} {by}.")
        else:
            cheaper = ", and is the cheaper" if decided.seconds <= rival.seconds else ""
            sentences.append(f"{mine} differs from {rival.strategy.words} {by}: within noise{cheaper}.")
    if decided.strategy.kind != advice.by_table.kind:
        sentences.append(f"The table says otherwise ({advice.by_table.words}); measurement wins.")
    return replace(advice, by_evidence=decided.strategy, decision=decided.strategy, reason=(*advice.reason, *sentences))


def expected_probe(column: Column, scores: Sequence[StageScore]) -> Strategy:
    """The probe of the table's first row, for a column of it: on the top, or on the best of the earlier stages."""
    earlier = [score for score in scores if len(score.reads) == 1 and score.reads != TOP]
    return Strategy("probe", best(earlier).reads if column == "different" and earlier else TOP)


def _by_table(found: Cell, probe: Strategy, stages: Sequence[str]) -> Strategy:
    """The cell as a strategy; where it names no stage to begin with, a rule of thumb does."""
    if found.advised in ("probe the top", "probe earlier stages"):
        return probe
    if found.advised == "scratch":
        return Strategy("scratch")
    if found.advised == "fine-tune all":
        return Strategy("finetune")
    return Strategy("finetune", cut=stages[_start(len(stages), found.advised)])


def _start(stages: int, advised: Advised) -> int:
    """Where fine-tuning starts by rule: with the last third of the stages, or with the last two thirds."""
    return min(stages - 1, stages * 2 // 3 if advised == "fine-tune a few" else stages // 3)


def _cut(level: str, stages: Sequence[str], advised: Advised) -> str:
    """The stage from which fine-tuning begins: where probes level off, or by rule where that is lower for few layers.

    With little data noise hides what later stages gain, so a few layers never means more than half of them.
    """
    at = stages.index(level) if level in stages else len(stages) - 1
    if advised == "fine-tune more":
        return stages[min(at, _start(len(stages), advised))]
    return stages[max(at, len(stages) // 2)]


def _first(found: Cell) -> str:
    return f"The table, for {ROWS[found.amount]} and pictures that are {found.column}: {found.words}."


def _of_probes(by_table: Strategy, chosen: StageScore, scores: Sequence[StageScore]) -> str:
    share, words = interval(chosen).percent(), f"a linear head on {standing_on(chosen.reads)}"
    if chosen.reads == by_table.reads:
        return f"Measured: {words} is right on {share}, and no other choice of stages beats it beyond noise."
    other = next((score for score in scores if score.reads == by_table.reads), None)
    if other is None:
        return f"Measured: {words} is right on {share}."
    gain = paired_difference(chosen.right, other.right, chosen.groups)
    verdict = "measurement wins"
    if not gain.low > 0:
        one, several = "another beats the table's beyond noise", "where that is so, several stages together are taken"
        verdict = f"within noise, and {several if chosen.reads[1:] else one}"
    return (
        f"Measured: {words} is right on {share}, the table's choice, {by_table.reads[0]}, on "
        f"{interval(other).percent()}: {gain.points()}; {verdict}."
    )


def _of_cut(by_table: Strategy, cut: str, level: str) -> str:
    if cut == by_table.cut:
        return f"Measured: probes level off at {level}; table and measurement both begin at {cut}."
    return (
        f"Measured: probes level off at {level}, so fine-tuning begins at {cut}, not at {by_table.cut} as a rule of "
        "thumb for the table has it; measurement wins."
    )


def _until_tried(chosen: StageScore) -> str:
    share, where = interval(chosen).percent(), standing_on(chosen.reads)
    return f"Without fine-tuning, a linear head on {where} is right on {share}; a trial says whether more pays."
