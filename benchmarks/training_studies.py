"""What the lectures say of training, tried on Fashion-MNIST: each study keeps its numbers and draws its picture.

python -m benchmarks.training_studies degradation     plain and residual networks of 20 and 56 layers  (14 minutes)
python -m benchmarks.training_studies activations     ReLU against tanh, epochs to a training error     (8 minutes)
python -m benchmarks.training_studies optimizers      LeNet-5 with each optimiser, three epochs         (5 minutes)
python -m benchmarks.training_studies schedules       LeNet-5 with each schedule, three epochs          (5 minutes)

Times are for two cores. Pictures go to docs/pictures.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from torch import nn

from benchmarks.machine import DATA, keep
from graft.models.activation import with_activation
from graft.models.catalog import create
from graft.training.loop.fit import fit
from graft.training.loop.history import Epoch, read_history
from graft.training.loop.pictures import Pictures, from_array
from graft.training.recipe.normalize import channel_statistics
from graft.training.recipe.optimizers import OPTIMIZERS
from graft.training.recipe.schedules import SCHEDULES
from graft.training.recipe.settings import Recipe

PICTURES: Final = Path(__file__).parent.parent / "docs" / "pictures"
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#e69f00", "#56b4e9", "#8c564b", "#7f7f7f")
RATES: Final = (0.01, 0.03, 0.1)  # that an activation is tried at
STYLES: Final = ("-", "--")


@dataclass(frozen=True)
class Run:
    """One training of a study. steps: (epoch, seconds, training loss) now and then."""

    name: str
    epochs: tuple[Epoch, ...]
    steps: tuple[tuple[float, float, float], ...]


def clothes(train: int, val: int, *, pool: int = 1) -> tuple[Pictures, Pictures]:
    """The first pictures of Fashion-MNIST for training and the next for validation; pool: side of the means taken."""
    with np.load(DATA / "fashion-mnist" / "fashion_mnist.npz") as file:
        pixels, labels = file["x_train"][: train + val], file["y_train"][: train + val]
    side = pixels.shape[1] // pool
    pixels = pixels.reshape(-1, side, pool, side, pool).mean(axis=(2, 4)).round().astype(np.uint8)
    whole = from_array(pixels, labels)
    return whole.take(np.arange(train)), whole.take(np.arange(train, train + val))


def trained(name: str, network: nn.Module, sets: tuple[Pictures, Pictures], settings: Recipe) -> Run:
    """Train one network and read its history."""
    train, val = sets
    with tempfile.TemporaryDirectory() as folder:
        fit(network, train, val, settings, normalization=channel_statistics(train), folder=Path(folder))
        history = read_history(Path(folder))
    last = history.epochs[-1]
    score = last.val.accuracy if last.val else float("nan")
    print(f"{name}: {last.seconds:.0f} s, train {last.train.accuracy:.4f}, validation {score:.4f}", flush=True)
    return Run(name, history.epochs, tuple((s.epoch, s.seconds, s.loss) for s in history.steps))


def degradation() -> None:
    """Training error of plain and residual networks of 20 and 56 layers. Source: He et al., CVPR 2016, fig. 6."""
    train, val = clothes(5_000, 2_000, pool=2)
    sets = train.in_colour(), val.in_colour()
    settings = Recipe(
        strategy="scratch",
        epochs=16, batch=128, optimizer="nesterov", rate=0.1, schedule="step", augment="none", weight_decay=1e-4,
        clip=5.0,
    )  # fmt: skip
    names = ("plain20_cifar", "plain56_cifar", "resnet20_cifar", "resnet56_cifar")
    runs = [trained(name, create(name, num_classes=10, seed=0), sets, settings) for name in names]
    keep("training_studies", {"degradation": {**_table(runs), "settings": settings.to_toml()}})
    _draw_errors(runs, "degradation.svg", "Fashion-MNIST at 14²: 5,000 pictures")


def activations() -> None:
    """Epochs to a given training error with ReLU, tanh and sigmoid, each at the rate that is fastest for it.

    Source: Krizhevsky et al. 2012, fig. 1, which chooses the rates so, too.
    """
    sets = clothes(20_000, 5_000)
    fastest, tried = [], []
    for name in ("relu", "tanh", "sigmoid"):
        runs = []
        for rate in RATES:
            settings = Recipe(strategy="scratch", epochs=10, batch=128, optimizer="momentum", rate=rate,
                              schedule="constant", augment="none", weight_decay=0.0)  # fmt: skip
            network = with_activation(create("lecture_net", seed=0), name)
            runs.append(trained(f"{name}, rate {rate:g}", network, sets, settings))
        tried += runs
        fastest.append(min(runs, key=lambda run: [_epochs_to(run, error) or 99 for error in (0.1, 0.15, 0.2)]))
    reached = {f"epochs to {100 * error:.0f} % error": {r.name: _epochs_to(r, error) for r in tried}
               for error in (0.2, 0.15, 0.1)}  # fmt: skip
    keep("training_studies", {"activations": {**_table(tried), **reached}})
    _draw_errors(fastest, "activations.svg", "Fashion-MNIST: 20,000 pictures, the lectures' network")


def optimizers() -> None:
    """LeNet-5 for three epochs with each optimiser at its usual rate."""
    train, val = (pictures.padded(32) for pictures in clothes(55_000, 5_000))
    runs = [
        trained(card.name, create("lenet5", seed=0), (train, val),
                Recipe(strategy="scratch", epochs=3, batch=64, optimizer=card.name, augment="none"))
        for card in OPTIMIZERS if card.gradients and not card.whole_set
    ]  # fmt: skip
    keep("training_studies", {"optimizers": _table(runs)})
    _draw_accuracy(runs, "optimizers.svg", "LeNet-5 on Fashion-MNIST: each optimiser, cosine schedule")


def schedules() -> None:
    """LeNet-5 for three epochs with each schedule."""
    train, val = (pictures.padded(32) for pictures in clothes(55_000, 5_000))
    runs = [
        trained(card.name, create("lenet5", seed=0), (train, val),
                Recipe(strategy="scratch", epochs=3, batch=64, optimizer="nesterov", schedule=card.name,
                       augment="none"))
        for card in SCHEDULES
    ]  # fmt: skip
    keep("training_studies", {"schedules": _table(runs)})
    _draw_accuracy(runs, "schedules.svg", "LeNet-5 on Fashion-MNIST: each schedule, Nesterov's momentum")


def _table(runs: list[Run]) -> dict[str, Any]:
    return {
        run.name: {
            "training_error": [round(1 - epoch.train.accuracy, 4) for epoch in run.epochs],
            "validation_accuracy": [round(epoch.val.accuracy, 4) for epoch in run.epochs if epoch.val],
            "seconds": round(run.epochs[-1].seconds, 1),
        }
        for run in runs
    }


def _epochs_to(run: Run, error: float) -> int | None:
    return next((epoch.epoch for epoch in run.epochs if 1 - epoch.train.accuracy <= error), None)


def _draw_errors(runs: list[Run], name: str, title: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for i, run in enumerate(runs):
        axes.plot(
            [e.epoch for e in run.epochs], [100 * (1 - e.train.accuracy) for e in run.epochs], marker="o", ms=3,
            color=COLOURS[i], ls=STYLES[i % 2], label=run.name,
        )  # fmt: skip
    axes.set(xlabel="epoch", ylabel="training error, %", title=title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(PICTURES / name, metadata={"Date": None})


def _draw_accuracy(runs: list[Run], name: str, title: str) -> None:
    """Validation accuracy against epochs, and against seconds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for i, run in enumerate(runs):
        accuracy = [100 * e.val.accuracy for e in run.epochs if e.val]
        style = {"marker": "o", "ms": 3, "color": COLOURS[i % len(COLOURS)], "ls": STYLES[i // len(COLOURS) % 2]}
        left.plot([e.epoch for e in run.epochs], accuracy, label=run.name, **style)
        right.plot([e.seconds for e in run.epochs], accuracy, **style)
    left.set(xlabel="epoch", ylabel="validation accuracy, %")
    right.set(xlabel="seconds")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.suptitle(title, fontsize=11)
    figure.legend(frameon=False, loc="outside right center", fontsize=8)
    figure.savefig(PICTURES / name, metadata={"Date": None})


def main() -> None:
    """Run the studies that are named, or all."""
    known = {f.__name__: f for f in (degradation, activations, optimizers, schedules)}
    for name in sys.argv[1:] or known:
        known[name]()


if __name__ == "__main__":
    main()
