"""All experiments of the playground, each with its picture and the sentence that says what to see in it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from PIL import Image

from graft.lessons.playground import draw
from graft.lessons.playground.points import corner, noisy_parabola, small_digits, spiral
from graft.lessons.playground.polynomials import fit_polynomial
from graft.lessons.playground.search import METHODS, descend
from graft.lessons.playground.two_layer import STEPS, train_two_layer
from graft.lessons.playground.valley import WALKS, walk_down
from graft.progress import Progress, silent

INDEX: Final = "index.html"
MEASURED: Final = "search-seconds.png"  # the one file that shows a clock, and so differs from run to run
HIDDEN: Final = (3, 6, 20)
STRENGTHS: Final = (0.001, 0.01, 0.1)
BUDGET: Final = 5010  # evaluations of the loss: ten steps by the numeric gradient of 500 weights
_STYLE: Final[dict[Any, Any]] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "savefig.dpi": 110,
}


@dataclass(frozen=True)
class Picture:
    """A finished picture: its file's name, a title, one sentence on what it shows, and the PNG file itself."""

    file: str
    title: str
    sentence: str
    png: bytes


def names() -> tuple[str, ...]:
    """The files that the playground writes, in the order of the page."""
    return (*(file for file, _ in _EXPERIMENTS), INDEX)


def pictures(progress: Progress = silent, *, steps: int = STEPS, budget: int = BUDGET) -> tuple[Picture, ...]:
    """Run every experiment and draw it: the same bytes each time, but for MEASURED.

    steps: that each two-layer network is trained for. budget: evaluations of the loss that each way down may take.
    """
    drawn: list[Picture] = []
    experiments: tuple[Callable[[], list[Picture]], ...] = (
        _overfitting,
        partial(_hidden_units, steps),
        partial(_regularization, steps),
        partial(_feature_space, steps),
        partial(_search, budget),
        _valley,
    )
    with mpl.rc_context(_STYLE), _one_thread():
        for experiment in experiments:
            progress("drawing", len(drawn), len(_EXPERIMENTS))
            drawn += experiment()
    progress("drawing", len(drawn), len(_EXPERIMENTS))
    return tuple(drawn)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute in one thread: so small sums gain nothing by more, and their bits keep to one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _picture(file: str, sentence: str, figure: Figure) -> Picture:
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", bbox_inches="tight", pad_inches=0.1)
    with Image.open(drawn) as picture:  # 128 colours do: a third of the bytes
        picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return Picture(file, dict(_EXPERIMENTS)[file], sentence, small.getvalue())


def _overfitting() -> list[Picture]:
    train, test = noisy_parabola(20, noise=0.6, seed=0), noisy_parabola(200, noise=0.6, seed=1)
    low, high = (fit_polynomial(train, test, degree=degree) for degree in (2, 15))
    sentence = (
        f"Both polynomials were fitted to the same 20 noisy samples of x² + x: degree 15 comes closer to them "
        f"({high.train_error:.2f} against {low.train_error:.2f}) by following their noise, and so misses the samples "
        f"it did not see by more ({high.test_error:.2f} against {low.test_error:.2f})."
    )
    return [_picture("polynomials.png", sentence, draw.polynomials(train, test, (low, high)))]


def _hidden_units(steps: int) -> list[Picture]:
    points = spiral(100, noise=0.15, seed=0)
    trained = [train_two_layer(points, hidden=hidden, steps=steps) for hidden in HIDDEN]
    few, some, many = (f"{100 * one.accuracy:.1f} %" for one in trained)
    sentence = (
        f"A network of two layers with 3, 6 and 20 hidden units gets {few}, {some} and {many} of the spiral's "
        "points right: each unit adds a fold to the boundary, until it can follow the arms."
    )
    return [
        _picture("hidden-units.png", sentence, draw.regions(points, trained, [f"{h} hidden units" for h in HIDDEN]))
    ]


def _regularization(steps: int) -> list[Picture]:
    points = spiral(100, noise=0.15, seed=0)
    trained = [train_two_layer(points, hidden=20, strength=strength, steps=steps) for strength in STRENGTHS]
    weak, medium, strong = (f"{one.weight_norm:.1f}" for one in trained)
    sentence = (
        f"The same 20 hidden units with λ‖W‖² added to the loss, λ = 0.001, 0.01 and 0.1, shrink ‖W‖² to {weak}, "
        f"{medium} and {strong}: the boundary grows smooth, and in the end too plain; strength, not the number "
        "of units, is what to turn."
    )
    titles = [f"20 hidden units, λ = {strength:g}" for strength in STRENGTHS]
    return [_picture("regularization.png", sentence, draw.regions(points, trained, titles))]


def _feature_space(steps: int) -> list[Picture]:
    points = corner(120, gap=0.3, seed=0)
    straight, folded = (
        train_two_layer(points, hidden=2, strength=0.001, rectified=rectified, steps=steps)
        for rectified in (False, True)
    )
    sentence = (
        f"Two hidden units without a nonlinearity only turn and stretch the plane, so that a straight line must still "
        f"part the classes ({100 * straight.accuracy:.1f} % right); max(0, ·) folds the plane (follow its grid), so "
        f"that a straight line does part them ({100 * folded.accuracy:.1f} %), and unfolded that line is a bent one."
    )
    return [_picture("features.png", sentence, draw.features(points, straight, folded))]


def _search(budget: int) -> list[Picture]:
    digits = small_digits(1024, seed=0)
    traces = [descend(digits, method, budget=budget) for method in METHODS]
    guessed, differences, full, minibatch = traces
    exact = (
        f"A linear classifier of digits, 7×7 pixels, after {budget:,} evaluations of its loss: guessing is right on "
        f"{100 * guessed.accuracy:.1f} % (chance is 10 %), the numeric gradient has made {budget // 501} steps "
        f"({100 * differences.accuracy:.1f} %), backpropagation gives as good a gradient for three evaluations instead "
        f"of 501 ({100 * full.accuracy:.1f} %), and minibatches of 64 make a step for a sixteenth of that "
        f"({100 * minibatch.accuracy:.1f} %)."
    )
    timed = (
        "The same runs against the clock of the machine that drew this: a minibatch's steps cost more here than their "
        "share of the arithmetic, for so small a problem is mostly the overhead of each call."
    )
    return [
        _picture("search-evaluations.png", exact, draw.descents(traces, against="evaluations")),
        _picture(MEASURED, timed, draw.descents(traces, against="seconds")),
    ]


def _valley() -> list[Picture]:
    paths = [walk_down(walk) for walk in WALKS]
    sentence = (
        f"{len(paths[0].points) - 1} steps from the square towards the star, through a valley 40 times as steep across "
        "as along: SGD zigzags between the walls, momentum and Nesterov carry speed along the floor, and Adagrad, "
        "RMSProp and Adam scale each axis by the gradients it has seen; each has a rate that suits it, so the figures "
        "rank nothing."
    )
    return [_picture("optimizers.png", sentence, draw.valley(paths))]


_EXPERIMENTS: Final = (
    ("polynomials.png", "Overfitting: polynomials of degree 2 and 15"),
    ("hidden-units.png", "More hidden units, more folds"),
    ("regularization.png", "Weight decay smooths the boundary"),
    ("features.png", "What the hidden layer does to the plane"),
    ("search-evaluations.png", "From random search to minibatches, by evaluations of the loss"),
    (MEASURED, "From random search to minibatches, by the clock"),
    ("optimizers.png", "Six optimisers in a valley"),
)
