"""The curves of training runs as one picture: loss, accuracy and rate over the epochs, several runs overlaid.

Each record of the loss is a point, with its moving average through them. A run has a colour, of the colour-blind-safe
palette of Okabe & Ito (2008), and a marker; training is filled and solid, validation hollow and dashed, so that the
picture can be read in grey print as well.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from graft.pages.page import inline, page
from graft.training.checks.curves import Finding
from graft.training.checks.trend import Curve, moving_average
from graft.training.loop.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#e69f00", "#56b4e9")
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "<", ">")  # more than colours: the 8th run differs from the 1st

_WIDTH, _HEIGHT, _LINE = 8.0, 8.0, 0.15  # inches; a line for each run of the legend
_PIXELS_PER_INCH: Final = 150  # of a PNG
_LONGEST_NAME: Final = 32  # characters in the legend
_DASHES: Final = (0, (5, 2))  # points: on, off
_WINDOW: Final = 20  # a moving average spans a twentieth of the run: it keeps a step of the rate visible
_DECADE: Final = 10.0  # a loss that spans more than this is drawn on a logarithmic axis
_LOWEST_RATE: Final = 1e-4  # of the highest; a cosine ends at 0, which a logarithmic axis cannot show
_STYLE: Final[dict[Any, Any]] = {
    "svg.hashsalt": "graft", "svg.fonttype": "none", "text.parse_math": False, "font.size": 10,
    "axes.grid": True, "grid.color": "#e2e6ea", "axes.edgecolor": "#8a94a0", "axes.spines.top": False,
    "axes.spines.right": False, "legend.frameon": False,
}  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """A run to draw. name: what the legend calls it."""

    name: str
    history: History
    findings: tuple[Finding, ...]


def curves_svg(runs: Sequence[Drawn]) -> str:
    """The picture as an SVG file, the same bytes for the same runs. Raises ValueError for no run at all."""
    return _saved(runs, "svg").decode()


def curves_png(runs: Sequence[Drawn]) -> bytes:
    """The picture as a PNG file of 1200 pixels in width. Raises ValueError for no run at all."""
    return _saved(runs, "png")


def curves_html(runs: Sequence[Drawn]) -> str:
    """A page of its own: the picture, and each run's verdict with its evidence."""
    title = f"Curves: {', '.join(run.name for run in runs)}"
    return page("curves.html.j2", title=title, picture=inline(curves_svg(runs)), runs=runs)


def _saved(runs: Sequence[Drawn], form: Literal["svg", "png"]) -> bytes:
    if not runs:
        raise ValueError("a picture of curves needs one run at least, got none")
    stream = io.BytesIO()
    with _styled():
        figure = _figure(runs)
        metadata = {"Date": None, "Title": "Training curves"} if form == "svg" else {"Software": None}
        figure.savefig(stream, format=form, dpi=_PIXELS_PER_INCH, metadata=metadata)
    return stream.getvalue()


@contextmanager
def _styled() -> Iterator[None]:
    import matplotlib as mpl

    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Glyph"
        )  # a run's name in a script the font lacks: boxes stand for it
        yield


def _figure(runs: Sequence[Drawn]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, _HEIGHT + _LINE * len(runs)), layout="constrained")
    loss, accuracy, rate = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1.2))
    for i, run in enumerate(runs):
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        _draw_loss(loss, run.history, colour, marker)
        _draw_accuracy(accuracy, run.history, colour, marker)
        steps = run.history.steps
        rate.plot([s.epoch for s in steps], [s.rate for s in steps], color=colour, lw=1.5, drawstyle="steps-post")
    loss.set_ylabel("loss")
    _scale_loss(loss, runs)
    accuracy.set_ylabel("accuracy, %")
    _scale_rate(rate, runs)
    rate.set_ylabel("rate")
    rate.set_xlabel("epoch")
    rate.set_xlim(left=0)
    _legend(figure, runs)
    figure.align_ylabels()
    return figure


def _draw_loss(axes: Axes, history: History, colour: str, marker: str) -> None:
    epoch = np.array([step.epoch for step in history.steps])
    loss = np.array([step.loss for step in history.steps])
    size = 9.0 if len(loss) < 200 else 4.0  # square points
    axes.scatter(epoch, loss, s=size, color=colour, marker=marker, alpha=0.3, linewidths=0)
    axes.plot(epoch, _smoothed(loss), color=colour, lw=1.8)
    _mark_overflow(axes, epoch, loss, colour)
    scored = [(e.epoch, e.val.loss) for e in history.epochs if e.val]
    if scored:
        _draw_validation(axes, np.array(scored, np.float64), colour, marker)


def _draw_accuracy(axes: Axes, history: History, colour: str, marker: str) -> None:
    train = np.array([(e.epoch, 100 * e.train.accuracy) for e in history.epochs]).reshape(-1, 2)
    axes.scatter(train[:, 0], train[:, 1], s=14, color=colour, marker=marker, alpha=0.5, linewidths=0)
    axes.plot(train[:, 0], _smoothed(train[:, 1]), color=colour, lw=1.8)
    scored = [(e.epoch, 100 * e.val.accuracy) for e in history.epochs if e.val]
    if scored:
        _draw_validation(axes, np.array(scored, np.float64), colour, marker)


def _draw_validation(axes: Axes, points: Curve, colour: str, marker: str) -> None:
    """points: (E, 2) epochs and values."""
    axes.scatter(points[:, 0], points[:, 1], s=22, facecolors="none", edgecolors=colour, marker=marker, linewidths=0.9)
    axes.plot(points[:, 0], _smoothed(points[:, 1]), color=colour, lw=1.5, ls=_DASHES)


def _smoothed(values: Curve) -> Curve:
    """The moving average that is drawn; a value that is not finite leaves a gap."""
    width = max(1, len(values) // _WINDOW)
    return np.where(np.isfinite(values), moving_average(values, width), np.nan)


def _mark_overflow(axes: Axes, epoch: Curve, loss: Curve, colour: str) -> None:
    """Where the loss stopped being a finite number."""
    lost = np.flatnonzero(~np.isfinite(loss))
    if len(lost):
        at = float(epoch[lost[0]])
        axes.axvline(at, color=colour, lw=1, ls=":")
        axes.annotate(
            "not finite", (at, 1), xycoords=("data", "axes fraction"), xytext=(-4, -12), textcoords="offset points",
            ha="right" if at > 0.15 * float(epoch[-1]) else "left", color=colour, fontsize=9,
        )  # fmt: skip


def _scale_loss(axes: Axes, runs: Sequence[Drawn]) -> None:
    losses = np.array([step.loss for run in runs for step in run.history.steps])
    losses = losses[np.isfinite(losses)]
    if len(losses) and losses.min() > 0 and losses.max() > _DECADE * losses.min():
        _logarithmic(axes, few=500)


def _scale_rate(axes: Axes, runs: Sequence[Drawn]) -> None:
    rates = np.array([step.rate for run in runs for step in run.history.steps])
    if len(rates) and rates.max() > 0:
        highest = float(rates.max())
        lowest = max(float(rates.min()), _LOWEST_RATE * highest)
        axes.set_ylim(lowest / 2, highest * 2)
        _logarithmic(axes, few=20)


def _logarithmic(axes: Axes, *, few: float) -> None:
    """A logarithmic axis with plain numbers at powers of ten; if it spans less than `few` times, at 2 and 5 too."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < few * low else (1,), numticks=9))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _legend(figure: Figure, runs: Sequence[Drawn]) -> None:
    """A line for each run with what it suffers from, and what filled and hollow mean."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=COLOURS[i % len(COLOURS)], marker=MARKERS[i % len(MARKERS)], ms=5, lw=1.8)
        for i in range(len(runs))
    ]
    names = [f"{_short(run.name)}: {', '.join(finding.name for finding in run.findings)}" for run in runs]
    figure.legend(handles, names, loc="outside upper left", ncols=1 if len(runs) <= 3 else 2, handlelength=3)
    grey = "#4a5562"
    filled = Line2D([], [], color=grey, marker="o", ms=5, lw=1.8)
    hollow = Line2D([], [], color=grey, marker="o", ms=5, lw=1.5, ls=_DASHES, mfc="none")
    figure.legend([filled, hollow], ["training", "validation"], loc="outside upper right", handlelength=3)


def _short(name: str) -> str:
    """The end of a name, where runs of one folder differ. matplotlib would hide names that start with _."""
    name = name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME :]}"
    return f" {name}" if name.startswith("_") else name
