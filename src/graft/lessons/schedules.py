"""What a learning-rate schedule does over a run: its rates, and a picture of them."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from graft.errors import UsageError
from graft.training.recipe.schedules import PLATEAU, Plateau, factor, find

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEPS_PER_EPOCH: Final = 50  # of the runs drawn here
MOST_EPOCHS: Final = 10_000
_COLUMNS: Final = 3  # of the page of all schedules
_DEPTH: Final = 1e-6  # how far below the highest rate the logarithmic axis reaches


@dataclass(frozen=True)
class Curve:
    """A schedule over a run. epochs: done before each step, with their fraction; rates: of the steps, as many."""

    name: str
    formula: str
    summary: str
    source: str
    epochs: tuple[float, ...]
    rates: tuple[float, ...]


def curve(name: str, *, epochs: int = 90, warmup: float = 0.0, rate: float = 0.1) -> Curve:
    """The rates of a run of so many epochs, the linear warm-up among them, for a base rate.

    `plateau` is drawn for the validation loss of `made_up_losses`, as it has no curve without one.
    Raises UsageError for an unknown name, or a number that no run can have.
    """
    schedule = find(name)
    if not 1 <= epochs <= MOST_EPOCHS:
        raise UsageError(f"--epochs must be from 1 to {MOST_EPOCHS:,}, got {epochs}")
    if not 0 < rate < math.inf:
        raise UsageError(f"--rate must be a number above 0, got {rate:g}; usual are 0.1 to 0.0001")
    if not 0 <= warmup < epochs:
        raise UsageError(f"--warmup must be from 0 to below the {epochs} epochs of the run, got {warmup:g}")
    steps, warmup_steps = epochs * STEPS_PER_EPOCH, round(warmup * STEPS_PER_EPOCH)
    factors = [
        factor(name, step=step, steps=steps, steps_per_epoch=STEPS_PER_EPOCH, warmup_steps=warmup_steps)
        for step in range(steps)
    ]
    if name == PLATEAU:
        rule = Plateau()
        now = [1.0, *(rule.update(loss) for loss in made_up_losses(epochs))]
        factors = [value * now[step // STEPS_PER_EPOCH] for step, value in enumerate(factors)]
    return Curve(
        schedule.name,
        schedule.formula,
        schedule.summary,
        schedule.source,
        tuple(step / STEPS_PER_EPOCH for step in range(steps)),
        tuple(rate * value for value in factors),
    )


def made_up_losses(epochs: int) -> list[float]:
    """A validation loss for each epoch that falls by a tenth of itself for a third of the run, then stays."""
    return [0.9 ** min(epoch, epochs // 3) for epoch in range(1, epochs + 1)]


def picture(curves: Sequence[Curve], form: Literal["svg", "png"]) -> bytes:
    """One schedule on a linear and a logarithmic axis, or a page with a panel for each of several.

    Returns the file's bytes: the same for the same curves and version of matplotlib.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(
        {"svg.hashsalt": "graft", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    ):
        if len(curves) == 1:
            figure = Figure(figsize=(9, 3.6), layout="constrained")
            linear, logarithmic = figure.subplots(1, 2)
            _panel(linear, curves[0])
            _panel(logarithmic, curves[0])
            highest = max(curves[0].rates)
            lowest = max(min(filter(None, curves[0].rates)), highest * _DEPTH)
            logarithmic.set_yscale("log")
            logarithmic.set_ylim(lowest / 2, highest * 2)
            figure.suptitle(f"{curves[0].name}:  {curves[0].formula}", fontsize=11)
        else:
            down = math.ceil(len(curves) / _COLUMNS)
            figure = Figure(figsize=(10, 2.3 * down), layout="constrained")
            panels = figure.subplots(down, _COLUMNS, squeeze=False).flatten()
            for axes, each in zip(panels, curves, strict=False):
                _panel(axes, each)
                axes.set_title(each.name, fontsize=10)
            for axes in panels[len(curves) :]:
                axes.set_axis_off()
        content = io.BytesIO()
        figure.savefig(content, format=form, dpi=144, metadata={"Date": None} if form == "svg" else {"Software": None})
    return content.getvalue()


def _panel(axes: Axes, one: Curve) -> None:
    axes.plot(one.epochs, one.rates, color="#0072b2", linewidth=1.6)
    axes.set_xlabel("epoch")
    axes.set_ylabel("rate")
    axes.set_xlim(0, one.epochs[-1] + 1 / STEPS_PER_EPOCH)
    axes.set_ylim(bottom=0)
    axes.grid(color="#d5dbe1", linewidth=0.6)
