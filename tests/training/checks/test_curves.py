"""The verdict on curves: drawn ones of each kind, their evidence, and real runs that were made to go wrong."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from graft.models.initial import INITIALIZATIONS
from graft.training.checks.curves import verdict
from graft.training.loop.fit import fit
from graft.training.loop.history import End, History, read_history
from graft.training.loop.pictures import from_array
from graft.training.recipe.normalize import channel_statistics
from graft.training.recipe.settings import Recipe
from training.checks.drawn_curves import KINDS, Scene, cosine, decay, run

EACH = 25  # seeds; the constants of the rules were chosen on others
FIRST = 5000


def names(history: History) -> str:
    return " + ".join(finding.name for finding in verdict(history))


@pytest.mark.parametrize("kind", KINDS)
def test_a_curve_of_each_kind_gets_its_own_verdict_and_no_other(kind: str) -> None:
    said = Counter(names(KINDS[kind](seed)) for seed in range(FIRST, FIRST + EACH))
    assert said[kind] >= 0.9 * EACH, said


def test_drawn_curves_vary_as_they_should() -> None:
    starts = [KINDS["healthy"](seed).start for seed in range(FIRST, FIRST + EACH)]
    assert {start.classes for start in starts} == {2, 5, 10, 100, 1000}
    assert {start.settings.epochs for start in starts} == {6, 10, 20, 40}


def test_advice_names_settings_that_exist() -> None:
    settings = {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(Recipe)}
    advice = " ".join(verdict(draw(FIRST))[0].advice for draw in KINDS.values())
    flags = set(re.findall(r"--[a-z-]+", advice))
    assert len(flags) >= 8
    assert flags <= settings
    assert {"he", "xavier-normal"} <= {card.name for card in INITIALIZATIONS}
    assert "--initialization he for ReLU, xavier-normal for tanh" in advice


def scene(epochs: int = 20, classes: int = 10, seed: int = 0) -> Scene:
    return Scene(np.random.default_rng(seed), classes, epochs, 0.03)


def test_evidence_has_the_numbers_of_the_curves() -> None:
    s = scene()
    left = decay(s.time, 0.05, 20)
    history = run(s, cosine(s), 2.3 * (0.02 + left), 0.1 + 0.9 * (1 - left), 0.1 + 0.65 * (1 - left))
    (finding,) = verdict(history)
    assert (finding.name, finding.severity) == ("overfitting", "warning")
    assert "100.0 % of the training pictures and 7" in finding.evidence
    train = np.median([epoch.train.accuracy for epoch in history.epochs[-4:]])
    val = np.median([epoch.val.accuracy for epoch in history.epochs[-4:] if epoch.val])
    assert f"{100 * (train - val):.1f} points apart" in finding.evidence


def test_a_loss_that_is_not_finite_says_where_and_at_which_rate() -> None:
    s = scene()
    loss = np.full(len(s.time), 2.0)
    loss[100:] = np.nan  # 20 records an epoch, 100 steps: record 100 is of step 505
    half = np.full(len(loss), 0.5)
    (finding,) = verdict(run(s, np.ones_like(loss), loss, half, half, noisy=0.0, why="not finite", base=3.0))
    assert (finding.name, finding.severity) == ("rate too high", "error")
    assert "at step 505, after 2 at step 500; the highest rate was 3" in finding.evidence
    assert "--rate 0.3" in finding.advice


def test_a_run_that_stopped_before_the_first_record() -> None:
    history = KINDS["healthy"](0)
    empty = dataclasses.replace(history, steps=(), epochs=(), end=End("end", "not finite", None, 1.0))
    assert names(empty) == "rate too high"
    assert names(dataclasses.replace(empty, end=None)) == "too early to tell"


def test_a_held_out_loss_of_exactly_zero_gets_a_verdict_too() -> None:
    history = KINDS["healthy"](0)
    epochs = tuple(
        dataclasses.replace(epoch, val=dataclasses.replace(epoch.val, loss=0.0, values={"accuracy": 1.0}))
        for epoch in history.epochs
        if epoch.val is not None
    )
    assert len(epochs) == len(history.epochs) >= 3
    assert "rate too high" not in names(dataclasses.replace(history, epochs=epochs))


def test_few_records_are_too_early_to_tell() -> None:
    history = KINDS["underfitting"](0)
    short = dataclasses.replace(history, steps=history.steps[:7], epochs=(), end=None)
    (finding,) = verdict(short)
    assert (finding.name, finding.severity) == ("too early to tell", "note")
    assert "losses on record so far: 7;" in finding.evidence


@pytest.mark.parametrize("kind", ["plateau", "still rising", "underfitting", "rate too low", "flat start"])
def test_without_validation_the_training_curves_speak(kind: str) -> None:
    def alone(history: History) -> History:
        epochs = tuple(dataclasses.replace(epoch, val=None) for epoch in history.epochs)
        return dataclasses.replace(history, epochs=epochs)

    said = Counter(names(alone(KINDS[kind](seed))) for seed in range(FIRST, FIRST + 10))
    assert said[kind] >= 8, said


def test_epochs_alone_are_enough_where_there_are_many() -> None:
    history = next(h for seed in range(100) if len((h := KINDS["plateau"](seed)).epochs) == 40)
    assert names(dataclasses.replace(history, steps=())) == "plateau"


def test_warm_up_is_no_flat_start() -> None:
    s = scene()
    rates = np.where(s.time < 0.25, 0.02, 1.0)
    left = decay(np.maximum(s.time - 0.22, 0), 0.05, 4)
    loss, train = 2.3 * (0.1 + 0.9 * left), 0.97 - 0.87 * left
    assert names(run(s, rates, loss, train, train - 0.01)) != "flat start"
    assert names(run(s, np.ones_like(rates), loss, train, train - 0.01)) == "flat start"


def test_a_step_at_its_time_is_none_too_early() -> None:
    s = scene()
    rates = np.where(s.time < 0.5, 1.0, 0.1)
    settled = 2.3 * (0.3 + 0.7 * np.exp(-s.time / 0.06))
    loss = np.where(s.time < 0.5, settled, settled - 0.3)
    train = 0.95 - 0.85 * np.exp(-s.time / 0.06)
    assert names(run(s, rates, loss, train, train - 0.01)) == "healthy"


def test_the_loss_of_a_hinge_is_held_against_its_own_chance() -> None:
    s = scene()
    history = run(
        s, cosine(s), np.full(len(s.time), 9.0), np.full(len(s.time), 0.1), np.full(len(s.time), 0.1), noisy=0
    )
    svm = dataclasses.replace(
        history.start, settings=dataclasses.replace(history.start.settings, loss="multiclass-svm")
    )
    (finding,) = verdict(dataclasses.replace(history, start=svm))
    assert finding.name == "flat start"
    assert "give 9:" in finding.evidence, "K − 1 for equal scores and a margin of 1"


def small_network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))


def large_network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))


def convolutions() -> nn.Module:
    maps = nn.Conv2d(1, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU()
    return nn.Sequential(*maps, nn.Flatten(), nn.Linear(400, 10))


def four_numbers() -> nn.Module:
    """Sees the mean of each quarter of a picture and nothing else."""
    return nn.Sequential(nn.AvgPool2d(14), nn.Flatten(), nn.Linear(4, 10))


def all_zero() -> nn.Module:
    network = small_network()
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    return network


@dataclass(frozen=True)
class Case:
    """A real run: its network, its rate, and what else is unusual about it."""

    verdict: str
    network: Callable[[], nn.Module]
    rate: float
    epochs: int = 6
    schedule: str = "cosine"
    train: int = 3000
    classes: tuple[int, ...] = tuple(range(10))


CASES = {
    "far too high a rate": Case("rate too high", small_network, 5.0),
    "a rate that overflows": Case("rate too high", small_network, 50.0),
    "far too low a rate": Case("rate too low", small_network, 1e-5),
    "low enough to crawl": Case("rate too low", convolutions, 1e-4),
    "weights that start at zero": Case("flat start", all_zero, 0.05),
    "300 pictures": Case("overfitting", large_network, 0.05, epochs=40, train=300),
    "four numbers of a picture": Case("underfitting", four_numbers, 0.05, epochs=25),
    "a step of the rate in the third of eight epochs": Case("step too early", small_network, 0.002, 8, "step"),
    "three epochs": Case("still rising", small_network, 0.003, 3, "constant"),
    "trousers, sneakers and bags": Case("healthy", small_network, 0.05, classes=(1, 7, 8)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_real_run_gets_the_verdict_it_was_made_for(
    name: str, data_kit: Callable[[str], Path], tmp_path: Path
) -> None:
    case = CASES[name]
    with np.load(data_kit("fashion-mnist/fashion_mnist.npz")) as arrays:
        pixels, labels = arrays["x_train"][:20_000], arrays["y_train"][:20_000]
    wanted = np.flatnonzero(np.isin(labels, case.classes))
    pictures = from_array(pixels[wanted], np.searchsorted(case.classes, labels[wanted]))
    train, val = pictures.take(np.arange(case.train)), pictures.take(np.arange(case.train, case.train + 1000))
    torch.manual_seed(0)
    settings = Recipe(
        strategy="scratch",
        rate=case.rate, epochs=case.epochs, schedule=case.schedule, batch=64, augment="none", weight_decay=0.0,
        precision="float32",
    )  # fmt: skip
    threads = torch.get_num_threads()
    try:
        fit(case.network(), train, val, settings, normalization=channel_statistics(train), folder=tmp_path / "run")
    finally:
        torch.set_num_threads(threads)
    assert names(read_history(tmp_path / "run")) == case.verdict
