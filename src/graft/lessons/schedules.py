"""`graft schedule`: what a learning-rate schedule does over a run, as rows in the terminal and as a picture."""

from __future__ import annotations

import io
import itertools
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from graft.analysis.show import aligned
from graft.disk.files import write_whole
from graft.errors import UsageError, shown
from graft.training.recipe.schedules import PLATEAU, SCHEDULES, Plateau, factor, find

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEPS_PER_EPOCH: Final = 50  # of the runs drawn here
MOST_EPOCHS: Final = 10_000
_ROWS: Final = 15
_BAR: Final = 40  # characters
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
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


def run(
    name: str | None,
    *,
    epochs: int = 90,
    warmup: float = 0.0,
    rate: float = 0.1,
    svg: Path | None = None,
    png: Path | None = None,
    as_json: bool = False,
) -> str:
    """What `graft schedule` prints, for one schedule or, without a name, for all; svg, png: files for the picture.

    Raises UsageError as `curve` does, and GraftError where a file cannot be written.
    """
    names = [name] if name is not None else [schedule.name for schedule in SCHEDULES]
    curves = [curve(each, epochs=epochs, warmup=warmup, rate=rate) for each in names]
    files: tuple[tuple[Path | None, Literal["svg", "png"]], ...] = ((svg, "svg"), (png, "png"))
    written = []
    for path, form in files:
        if path is not None:
            write_whole(path, picture(curves, form))
            written.append(f"wrote {shown(path)}")
    if as_json:
        return json.dumps([asdict(each) for each in curves] if name is None else asdict(curves[0]), ensure_ascii=False)
    text = listed(curves) if name is None else rows(curves[0])
    return "\n".join([text, *written])


def listed(curves: list[Curve]) -> str:
    """A line for each schedule: its name, its course, what it does."""
    head = ("schedule", "rate over the run", "what it does")
    lines = aligned([head, *((each.name, spark(each.rates, 24), each.summary) for each in curves)], left=3)
    return "\n".join(line.rstrip() for line in lines)


def rows(one: Curve) -> str:
    """A schedule's formula and source, its course in one line, and its rate at some fifteen epochs."""
    epochs = len(one.epochs) // STEPS_PER_EPOCH
    every = math.ceil(epochs / _ROWS)
    places = [epoch * STEPS_PER_EPOCH for epoch in range(0, epochs, every)]
    if places[-1] != len(one.rates) - 1:
        places.append(len(one.rates) - 1)
    highest = max(one.rates)
    table = [("epoch", "rate", "")]
    table += [(f"{one.epochs[at]:g}", f"{one.rates[at]:.3g}", bar(one.rates[at] / highest)) for at in places]
    lines = [f"{one.name}: {one.summary}", one.formula, f"source: {one.source}", "", spark(one.rates, 60), ""]
    if one.name == PLATEAU:
        lines.insert(3, "drawn for a made-up loss that falls for a third of the run and then stays")
    width = [max(len(row[column]) for row in table) for column in (0, 1)]
    lines += [f"{row[0]:>{width[0]}}  {row[1]:>{width[1]}}  {row[2]}".rstrip() for row in table]
    return "\n".join(lines)


def spark(values: tuple[float, ...], width: int) -> str:
    """The course of values ≥ 0 in `width` characters, each the mean of its share; the highest is a full block."""
    count = min(width, len(values))
    edges = [round(place * len(values) / count) for place in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    top = max(means)
    return "".join(_BLOCKS[math.ceil(8 * mean / top)] for mean in means)


def bar(share: float) -> str:
    """A horizontal bar of a share, 0–1, in eighths of a character."""
    eighths = round(share * _BAR * 8)
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


def picture(curves: list[Curve], form: Literal["svg", "png"]) -> bytes:
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
