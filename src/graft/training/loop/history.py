"""What a training run writes while it works, `history.jsonl`, read back: a JSON object a line, `start` first.

The loop writes the file, line by line; this is the only reader. A run that is still working may have half a line at
the end of its file, which is left out.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetPydanticSchema,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
)
from pydantic_core.core_schema import no_info_wrap_validator_function as wrap_validator

from graft.errors import BadModel, nearest, shown

HISTORY: Final = "history.jsonl"

Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""A float that need not be finite: a loss may have overflowed, and JSON has only null for that."""
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Plan:
    """The settings of a run that its curves are read by. epochs: how many were asked for. budget: seconds, or None."""

    epochs: int | None = None
    budget: float | None = None
    optimizer: str = "sgd"
    schedule: str = "constant"
    loss: str = "cross-entropy"


@dataclass(frozen=True)
class Start:
    """What a run began with.

    classes: K, None where the task has none. train, val: pictures of each split. parameters: weights of the network.
    """

    kind: Literal["start"]
    settings: Plan
    classes: Annotated[int, Field(ge=2)] | None
    train: Count
    val: Count
    parameters: Count
    device: str


@dataclass(frozen=True)
class Step:
    """One look at the training loss. epoch: where in the run, 0.5 being half of the first. seconds: since the start."""

    kind: Literal["step"]
    step: Count
    epoch: float
    loss: Number
    rate: float
    pictures_per_second: Number
    seconds: float


@dataclass(frozen=True)
class Score:
    """Mean loss of a split, and the means of what the objective counts, by name, each 0–1."""

    loss: float
    values: dict[str, float]

    @property
    def accuracy(self) -> float:
        """The share of samples that were right, 0–1; nan where the objective does not count them."""
        return self.values.get("accuracy", math.nan)

    def line(self) -> dict[str, float]:
        """As it stands in a line of the history."""
        return {"loss": self.loss, **self.values}


class _Loss(BaseModel):
    """The form of a score in a line: a loss, and shares by any name."""

    model_config = ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: dict[str, Share]

    loss: Number


def _score(value: Any, read: ValidatorFunctionWrapHandler) -> Score:
    """A score from its line."""
    if isinstance(value, Score):
        return value
    line = read(value)
    return Score(line.loss, dict(line.__pydantic_extra__ or {}))


ScoreLine = Annotated[Score, GetPydanticSchema(lambda _type, handler: wrap_validator(_score, handler(_Loss)))]


@dataclass(frozen=True)
class Epoch:
    """The end of an epoch. epoch: from 1. val: None without a validation split. best: whether it beat all before."""

    kind: Literal["epoch"]
    epoch: Count
    step: Count
    rate: float
    seconds: float
    train: ScoreLine
    val: ScoreLine | None
    best: bool


@dataclass(frozen=True)
class End:
    """Why a run stopped: "epochs", "budget", "patience", "not finite" …"""

    kind: Literal["end"]
    why: str
    best_epoch: int | None
    seconds: float


@dataclass(frozen=True)
class History:
    """A run as it was written. end: None while the run works, or when it was killed."""

    start: Start
    steps: tuple[Step, ...]
    epochs: tuple[Epoch, ...]
    end: End | None


Event = Start | Step | Epoch | End
_EVENT: Final[TypeAdapter[Event]] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])


def line_of(event: Event) -> dict[str, Any]:
    """An event as its line has it, before it becomes JSON."""
    line = asdict(event)
    if isinstance(event, Epoch):
        line |= {"train": event.train.line(), "val": event.val and event.val.line()}
    return line


def read_history(path: Path) -> History:
    """The history of a run. path: its folder, or the `history.jsonl` in it.

    A run that was resumed may have written some steps twice; the later ones count.
    Raises BadModel, in one line, when there is no such file, it is of another kind, or a line of it is wrong.
    """
    file = path / HISTORY if path.is_dir() else path
    lines, half = _lines(file)
    events = [_event(line, f"{shown(file)}, line {number}") for number, line in enumerate(lines, start=1)]
    if half:
        events += _half_written(half)
    if not events:
        raise BadModel(f"{shown(file)} is empty: its run has only begun; wait for the first lines")
    start, *rest = events
    if not isinstance(start, Start):
        raise BadModel(f"{shown(file)}, line 1, must say how the run started, got kind {start.kind!r}; start it anew")
    return _gathered(start, rest)


def _lines(file: Path) -> tuple[list[bytes], bytes]:
    """The whole lines of a file, and what stands behind the last of them."""
    try:
        *lines, half = file.read_bytes().split(b"\n")
    except FileNotFoundError:
        asked = file.parent if file.name == HISTORY else file
        near = nearest(
            asked.name, [each.name for each in asked.absolute().parent.glob("*") if each != asked.absolute()]
        )
        raise BadModel(
            f"curves need the folder of a run, with its {HISTORY}, and there is no {shown(file)}{shown(near)}; "
            "check the path"
        ) from None
    except OSError as error:
        raise BadModel(f"{shown(file)} cannot be read: {error.strerror or error}; check the file") from error
    return lines, half


def _event(line: bytes, where: str) -> Event:
    """One line as what it says. Raises BadModel with `where`."""
    try:
        return _EVENT.validate_json(line, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "union_tag_not_found" and b'"strength"' in line:
            raise BadModel(
                f"{where}, is a step of the search for a probe's head: this model was not trained by the loop, so it "
                "has no curves; give a run of graft train --strategy scratch"
            ) from None
        field = ".".join(str(part) for part in first["loc"][1:])  # after the kind
        what = f"{field}: {first['msg']}" if field else first["msg"]
        raise BadModel(
            f"{where}, is not a line that the training loop writes ({shown(what)}); get a sound copy or train again"
        ) from None


def _half_written(line: bytes) -> list[Event]:
    """The event of a last line without its newline, if all of it has been written."""
    try:
        return [_EVENT.validate_json(line, strict=True)]
    except ValidationError:
        return []


def _gathered(start: Start, events: list[Event]) -> History:
    """The events by kind, without those that a resumed run wrote again."""
    steps: list[Step] = []
    epochs: list[Epoch] = []
    end: End | None = None
    for event in events:
        if isinstance(event, End):
            end = event
            continue
        end = None  # the run went on
        if isinstance(event, Start):
            start = event
        elif isinstance(event, Step):
            while steps and steps[-1].step >= event.step:
                steps.pop()
            while epochs and epochs[-1].step > event.step:
                epochs.pop()
            steps.append(event)
        else:
            while epochs and epochs[-1].epoch >= event.epoch:
                epochs.pop()
            epochs.append(event)
    return History(start, tuple(steps), tuple(epochs), end)
