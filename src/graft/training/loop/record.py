"""Writing `history.jsonl` while a run works, a JSON object a line, and the same for TensorBoard where it is asked for.

`graft.training.loop.history` reads it back.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from graft.disk.files import whole_file
from graft.errors import UsageError
from graft.training.loop.history import HISTORY, Epoch, Event, Start, Step, line_of
from graft.training.loop.history import Plan as Asked
from graft.training.loop.plan import Plan
from graft.training.loop.source import Source
from graft.training.recipe.settings import Recipe

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.tensorboard import SummaryWriter


class Record:
    """The open history of a run; every line is with the operating system when `write` returns."""

    def __init__(
        self, folder: Path, *, after_step: int, watch: Callable[[Event], None], tensorboard: bool, mute: bool = False
    ) -> None:
        """after_step: what an older record of the run holds of later steps is removed, for it will be written again.

        watch: is shown every event too. mute: write and show nothing, as all processes but one do.
        Raises UsageError when TensorBoard is asked for and not installed.
        """
        self._board = _board(folder / "tensorboard", after_step) if tensorboard and not mute else None
        self._watch = watch
        self._stream = None if mute else _continued(folder / HISTORY, after_step)
        self.begun = self._stream is None or self._stream.tell() > 0

    def write(self, event: Event, extra: dict[str, Any] | None = None) -> None:
        """Append an event. extra: further fields of its line, or fields in place of the event's own."""
        if self._stream is None:
            return
        line = {**line_of(event), **(extra or {})}
        self._stream.write(json.dumps(_finite(line), allow_nan=False) + "\n")
        self._stream.flush()
        if self._board is not None:
            _show(self._board, event)
        self._watch(event)

    def close(self) -> None:
        """Close what is open."""
        if self._stream is not None:
            self._stream.close()
        if self._board is not None:
            self._board.close()


def opening(
    network: nn.Module, train: Source, val: Source | None, settings: Recipe, plan: Plan, device: str
) -> tuple[Start, dict[str, Any]]:
    """The first event of a run, and what its line says beyond it: all settings, and what was decided.

    With a budget, `epochs` is the number that was found to fit.
    """
    said = settings.trained_by() | {"epochs": -(-plan.steps // plan.steps_per_epoch)}
    start = Start(
        kind="start",
        settings=Asked(**{each.name: said[each.name] for each in fields(Asked)}),
        classes=plan.classes or None,
        train=len(train),
        val=0 if val is None else len(val),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        device=device,
    )
    return start, {"settings": said, "plan": asdict(plan)}


def _continued(path: Path, after_step: int) -> TextIO:
    """The file, open at its end, with nothing in it of later steps than `after_step`."""
    if path.exists():
        truncate(path, after_step)
    return path.open("a", encoding="utf-8")


def truncate(path: Path, step: int) -> None:
    """Leave of a history what was written up to `step`: a run that goes on from there writes the rest again."""
    kept = [line for line in path.read_bytes().split(b"\n")[:-1] if _is_before(line, step)]
    with whole_file(path) as partial:
        partial.write_bytes(b"".join(line + b"\n" for line in kept))


def _is_before(line: bytes, step: int) -> bool:
    event = json.loads(line)
    return bool(event["kind"] == "start" or (event["kind"] != "end" and event["step"] <= step))


def _finite(value: Any) -> Any:
    """The value with None for numbers that JSON cannot hold."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _board(folder: Path, after_step: int) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError(
            "--tensorboard needs the package tensorboard, which is not installed; `pip install tensorboard`, or leave "
            "the option out"
        ) from error
    return SummaryWriter(str(folder), purge_step=after_step + 1)


def _show(board: SummaryWriter, event: Event) -> None:
    """The numbers of an event under the names that TensorBoard groups by."""
    numbers: dict[str, float] = {}
    if isinstance(event, Step):
        numbers = {"train/loss": event.loss, "rate": event.rate, "pictures_per_second": event.pictures_per_second}
    elif isinstance(event, Epoch):
        numbers = {"train/epoch_loss": event.train.loss}
        numbers |= {f"train/{name}": value for name, value in event.train.values.items()}
        if event.val is not None:
            numbers |= {f"val/{name}": value for name, value in event.val.line().items()}
    for name, number in numbers.items():
        board.add_scalar(name, number, event.step)  # type: ignore[union-attr]
