"""The playground's pictures as matplotlib figures: colours that the colour-blind tell apart, and shapes beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from graft.lessons.playground.points import Points
from graft.lessons.playground.polynomials import Fitted
from graft.lessons.playground.search import Trace
from graft.lessons.playground.two_layer import Trained
from graft.lessons.playground.valley import Path, height

# Okabe and Ito, "Color Universal Design", 2008.
BLUE, ORANGE, GREEN, PURPLE, BLACK, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#222222", "#999999"
_POINT_COLORS: Final = (BLUE, ORANGE)
_REGION_COLORS: Final = ("#cfe3f1", "#f9dcc6")
_MARKERS: Final = ("o", "^")
_GRID: Final = 500  # points a side of a picture of regions

_Classify = Callable[[NDArray[np.float64]], NDArray[np.int64]]
_Samples = tuple[NDArray[np.float64], NDArray[np.float64]]


def polynomials(train: _Samples, test: _Samples, fits: Sequence[Fitted]) -> Figure:
    """A panel for each fit: samples, what they were drawn about, and the polynomial."""
    figure, axes = _panels(1, len(fits), width=4.6, height=4.0)
    x = np.linspace(train[0].min(), train[0].max(), 600)
    for ax, fitted in zip(axes[0], fits, strict=True):
        ax.plot(*test, ".", color=GREY, markersize=3, label="test samples")
        ax.plot(x, x**2 + x, "--", color=BLACK, linewidth=1.2, label="x² + x")
        ax.plot(x, fitted(x), color=ORANGE, linewidth=2, label=f"degree {fitted.degree}")
        ax.plot(*train, "o", color=BLUE, markersize=6, markeredgecolor="white", label="training samples")
        ax.set(xlabel="x", ylabel="y", ylim=(-2.2, 7.5))
        ax.set_title(
            f"degree {fitted.degree}: squared error {fitted.train_error:.2f} training, {fitted.test_error:.2f} test",
            fontsize=9.5,
        )
        ax.legend(loc="upper center", frameon=False, fontsize=9)
    return figure


def regions(points: Points, trained: Sequence[Trained], titles: Sequence[str]) -> Figure:
    """A panel for each network: the points, and the class it gives to every place of the plane."""
    figure, axes = _panels(1, len(trained), width=3.5, height=3.9)
    for ax, one, title in zip(axes[0], trained, titles, strict=True):
        _paint(ax, one.classes_at, (-2.45, 2.45), (-2.45, 2.45))
        _scatter(ax, points.x, points.y)
        ax.set_title(f"{title}\n{100 * one.accuracy:.1f} % of the points right", fontsize=10.5)
        ax.set(xticks=[], yticks=[], aspect="equal")
        ax.spines[:].set_visible(False)
    return figure


def features(points: Points, straight: Trained, folded: Trained) -> Figure:
    """Above h = Wx + b, below h = max(0, Wx + b): the plane on the left, what the second layer sees on the right."""
    figure, axes = _panels(2, 2, width=4.3, height=4.3)
    for row, one, name in zip(axes, (straight, folded), ("h = Wx + b", "h = max(0, Wx + b)"), strict=True):
        plane, hidden = row
        _paint(plane, one.classes_at, (-2.1, 2.1), (-2.1, 2.1))
        _scatter(plane, points.x, points.y)
        plane.set(aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
        plane.set_title(f"{name}: the plane, {100 * one.accuracy:.1f} % right", fontsize=10.5)
        h = one.features_at(points.x)  # (N, 2)
        margin = 0.08 * float(np.ptp(h, axis=0).max())
        limits = [(float(low) - margin, float(high) + margin) for low, high in zip(h.min(0), h.max(0), strict=True)]
        _paint(hidden, one.classes_of, *limits)
        for line in _grid_lines(-2, 2):
            hidden.plot(*one.features_at(line).T, color="#777777", linewidth=0.5, alpha=0.6)
        _scatter(hidden, h, points.y)
        hidden.set(xlabel="$h_1$", ylabel="$h_2$", xlim=limits[0], ylim=limits[1])
        hidden.set_title(f"{name}: the features", fontsize=10.5)
    return figure


def descents(traces: Sequence[Trace], *, against: str) -> Figure:
    """The loss of each trace. against: "evaluations", which is exact, or "seconds", which were measured."""
    figure, axes = _panels(1, 1, width=7.2, height=4.4)
    ax = axes[0][0]
    styles = zip((GREY, PURPLE, BLUE, ORANGE), ("s", "D", "o", "^"), traces, strict=True)
    for color, marker, trace in styles:
        cost = trace.evaluations if against == "evaluations" else trace.seconds
        ax.plot(
            cost[1:], trace.losses[1:], color=color, marker=marker, markersize=4, linewidth=1.6,
            label=f"{trace.method}: {100 * trace.accuracy:.1f} % right at the end",
        )  # fmt: skip
    chance = float(traces[0].losses[0])
    ax.axhline(chance, color=BLACK, linewidth=0.8, linestyle=":")
    ax.annotate(f"where all start, {chance:.3f}", (1, chance), xytext=(-4, 4), xycoords=("axes fraction", "data"),
                textcoords="offset points", ha="right", fontsize=9)  # fmt: skip
    label = "evaluations of the loss on all points" if against == "evaluations" else "seconds on this machine"
    ax.set(xscale="log", xlabel=f"{label} (log scale)", ylabel="training loss", ylim=(0, 1.12 * chance))
    ax.legend(loc="lower left", frameon=False, fontsize=9)
    return figure


def valley(paths: Sequence[Path]) -> Figure:
    """A panel for each optimiser's path over the valley's contours, the lowest point marked."""
    figure, axes = _panels(2, 3, width=3.6, height=2.5)
    x, y = np.meshgrid(np.linspace(-9, 4, 200), np.linspace(-2.6, 2.6, 200))
    heights = height(np.stack([x, y], axis=-1))
    for ax, path in zip(chain.from_iterable(axes), paths, strict=True):
        ax.contour(x, y, heights, levels=np.geomspace(0.02, 8, 12), colors="#b5c4cf", linewidths=0.8)
        ax.plot(*path.points.T, color=BLUE, linewidth=1.2, marker="o", markersize=2.8)
        ax.plot(*path.points[0], "s", color=ORANGE, markersize=7)
        ax.plot(0, 0, "*", color=BLACK, markersize=9)
        ax.set(xlim=(-9, 4), ylim=(-2.6, 2.6), xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.set_title(f"{path.walk.name}, ε = {path.walk.rate:g}: f = {path.heights[-1]:.1e}", fontsize=10)
    return figure


def _panels(rows: int, columns: int, *, width: float, height: float) -> tuple[Figure, list[list[Axes]]]:
    """A figure of equal panels of that many inches each, and its axes, row by row."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes: list[list[Axes]] = figure.subplots(rows, columns, squeeze=False).tolist()
    for ax in chain.from_iterable(axes):
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _paint(ax: Axes, classify: _Classify, xlim: tuple[float, float], ylim: tuple[float, float]) -> None:
    """Colour every place by its class, and draw where classes meet."""
    x, y = np.meshgrid(np.linspace(*xlim, _GRID), np.linspace(*ylim, _GRID))
    classes = classify(np.stack([x.ravel(), y.ravel()], axis=1)).reshape(x.shape)  # (_GRID, _GRID)
    ax.imshow(
        classes, extent=(*xlim, *ylim), origin="lower", cmap=ListedColormap(_REGION_COLORS), vmin=0, vmax=1,
        aspect="auto", interpolation="nearest",
    )  # fmt: skip
    if len(np.unique(classes)) > 1:
        ax.contour(x, y, classes, levels=[0.5], colors=BLACK, linewidths=1.0)


def _scatter(ax: Axes, x: NDArray[np.float64], y: NDArray[np.int64]) -> None:
    for label, (color, marker) in enumerate(zip(_POINT_COLORS, _MARKERS, strict=True)):
        ax.scatter(
            x[y == label, 0],
            x[y == label, 1],
            s=18,
            color=color,
            marker=marker,
            edgecolors="white",
            linewidths=0.4,
            zorder=3,
        )


def _grid_lines(low: int, high: int) -> list[NDArray[np.float64]]:
    """The straight lines of a unit grid, (200, 2) each: features bend or fold them."""
    along = np.linspace(low, high, 200)
    lines = []
    for at in range(low, high + 1):
        across = np.full_like(along, at)
        lines += [np.stack([along, across], axis=1), np.stack([across, along], axis=1)]
    return lines
