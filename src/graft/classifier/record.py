"""What a model folder says of how its model was made: written and read by these types, and by nothing else.

All of them refuse fields that they do not know, and what is None or empty is left out of the file.
"""

from __future__ import annotations

from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from graft.evaluate.intervals import Interval

Scalar = bool | int | float | str | None


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class PartCounts(_Part):
    """How many pictures of a class each part of the split holds."""

    train: int
    val: int
    test: int


class FindingRecord(_Part):
    """One finding of the audit: how grave it is, of which kind, and in a sentence."""

    severity: str
    kind: str
    message: str


class DataRecord(_Part):
    """The pictures that a model learnt from.

    source: the folder's name. computed: pictures that went through the network in this run. set_aside: files that could
    not be read. counts: by class.
    """

    source: str
    pictures: int
    computed: int
    set_aside: int
    near_duplicate_groups: int
    counts: dict[str, PartCounts]
    notes: tuple[str, ...]
    findings: tuple[FindingRecord, ...]


class StrategyRecord(_Part):
    """A strategy: its kind, what its head reads, the stage that fine-tuning begins at, and all of it in words."""

    kind: str
    reads: tuple[str, ...] = Field(validation_alias=AliasChoices("reads", "rungs"))
    cut: str | None
    words: str


class LikenessRecord(_Part):
    """How like the source's pictures these are, 0–1, with its 95 % interval, and how many were looked at."""

    value: float
    low: float
    high: float
    pictures: int
    word: str


class CellRecord(_Part):
    """The cell of the lectures' table that these pictures fall into."""

    amount: str
    column: str
    advised: str
    words: str


class StageRecord(_Part):
    """A probe's cross-validated score, 0–1, on one stage or on several together."""

    stage: str
    reads: tuple[str, ...] = Field(validation_alias=AliasChoices("reads", "rungs"))
    width: int
    accuracy: float
    low: float
    high: float
    log_loss: float
    strength: float


class AdviceRecord(_Part):
    """Why this strategy: what the table and the measurements say, and the lines that a person was shown."""

    pictures: int
    classes: int
    likeness: LikenessRecord
    cell: CellRecord
    stages: tuple[StageRecord, ...]
    probe: StrategyRecord
    by_table: StrategyRecord
    by_evidence: StrategyRecord
    decision: StrategyRecord
    reason: tuple[str, ...]
    lines: tuple[str, ...]


class HeadTrialRecord(_Part):
    """One kind of head that was tried or skipped: held-out accuracy (0–1), log loss (nats), its gain, and seconds."""

    kind: str
    seconds: float
    accuracy: float | None = None
    log_loss: float | None = None
    gain: Interval | None = None
    settings: str = ""
    note: str = ""


class PhaseRecord(_Part):
    """One run of the training loop. ended: why. best_epoch: from 1, None without validation pictures."""

    epochs: int
    best_epoch: int | None
    ended: str
    precision: str
    batch: int
    seconds: float = 0.0
    pictures_per_second: float


class MapsRecord(_Part):
    """The maps that fine-tuning was done on. cut: the stage above them. small: how many of the views were small."""

    cut: str
    views: int
    small: int
    bytes: int
    seconds: float


class CheckRecord(_Part):
    """One check before training: its status, what was found, the likely causes, and its seconds."""

    name: str
    status: str
    found: str
    causes: tuple[str, ...] = ()
    seconds: float = 0.0


class RunRecord(_Part):
    """How a model was made.

    made: when (ISO 8601, UTC). settings: the recipe, by name. trunk, stages: the pretrained network. head: why this
    head, in a sentence; heads: those that were tried; head_gain: of the new head over a tuned network's own. strength,
    folds: of the logistic regression and its cross-validation. cut: the lowest stage that was tuned. verdict: what the
    curves say.
    """

    made: str
    machine: str
    device: str
    versions: dict[str, str]
    settings: dict[str, Scalar] = Field(default_factory=dict)
    trunk: str = ""
    stages: tuple[str, ...] = ()
    advice: AdviceRecord | None = None
    head: str = ""
    heads: tuple[HeadTrialRecord, ...] = ()
    head_gain: Interval | None = None
    strength: float | None = None
    folds: int | None = None
    cut: str | None = None
    verdict: tuple[str, ...] = ()
    phases: tuple[PhaseRecord, ...] = ()
    maps: MapsRecord | None = None
    notices: tuple[str, ...] = ()
    gate: tuple[CheckRecord, ...] = ()

    @model_serializer(mode="wrap")
    def _without_what_is_empty(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in written(self).items() if value not in (None, "", (), [], {})}
