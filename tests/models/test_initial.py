"""Initialisations by name: the spread of each against its formula, biases, and what they leave alone."""

from __future__ import annotations

import math
from collections import OrderedDict

import pytest
import torch
from torch import nn

from graft.errors import UsageError
from graft.models.initial import INITIALIZATIONS, find, initialize

IN, OUT, SIDE, GROUPS = 64, 96, 5, 2
CONV_IN, CONV_OUT = IN // GROUPS * SIDE**2, OUT // GROUPS * SIDE**2  # fans of the convolution as He et al. count them
GLOROT_OUT = OUT * SIDE**2  # as torch's own function counts it

# Standard deviations of the convolution and of a linear layer 400 → 300; a uniform one within ±b has b/√3.
SPREADS = {
    "gaussian-0.001": (0.001, 0.001),
    "gaussian-0.01": (0.01, 0.01),
    "xavier-uniform": (math.sqrt(2 / (CONV_IN + GLOROT_OUT)), math.sqrt(2 / 700)),
    "xavier-normal": (math.sqrt(2 / (CONV_IN + GLOROT_OUT)), math.sqrt(2 / 700)),
    "he": (math.sqrt(2 / CONV_OUT), math.sqrt(2 / 400)),
    "lecun": (2.4 / CONV_IN / math.sqrt(3), 2.4 / 400 / math.sqrt(3)),
}
UNIFORM = {"xavier-uniform", "lecun"}


def network() -> nn.Sequential:
    layers = OrderedDict(
        conv=nn.Conv2d(IN, OUT, SIDE, groups=GROUPS), bn=nn.BatchNorm2d(OUT), free=nn.Conv2d(OUT, 2, 1, bias=False),
        flat=nn.Flatten(), fc=nn.Linear(400, 300),
    )  # fmt: skip
    return nn.Sequential(layers)


def test_every_initialization_is_held_against_a_formula() -> None:
    assert set(SPREADS) == {each.name for each in INITIALIZATIONS}


@pytest.mark.parametrize("name", SPREADS)
def test_the_spread_is_the_formulas_and_the_shape_uniform_or_gaussian(name: str) -> None:
    torch.manual_seed(0)
    started = initialize(network(), name)
    for layer, std in zip(("conv", "fc"), SPREADS[name], strict=True):
        weight = started.get_parameter(f"{layer}.weight").detach()
        assert float(weight.std()) == pytest.approx(std, rel=0.02)
        assert abs(float(weight.mean())) < 0.02 * std
        farthest = float(weight.abs().max()) / std
        assert (farthest <= math.sqrt(3) + 0.01) if name in UNIFORM else (farthest > 3)


def test_biases_start_at_the_number_asked_for_and_batch_norm_stays() -> None:
    started = initialize(network(), "he", bias=0.1)
    assert torch.equal(started.conv.bias.detach(), torch.full((OUT,), 0.1))
    assert torch.equal(started.fc.bias.detach(), torch.full((300,), 0.1))
    assert torch.equal(started.bn.weight.detach(), torch.ones(OUT))
    assert torch.equal(started.bn.bias.detach(), torch.zeros(OUT))
    assert not initialize(started, "lecun").fc.bias.any()


def test_draws_follow_torchs_generator() -> None:
    weights = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        weights.append(initialize(network(), "xavier-normal").fc.weight.detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_bad_choices_are_refused() -> None:
    with pytest.raises(UsageError, match=r"no initialization 'xavier', there are .*did you mean 'xavier-"):
        find("xavier")
    for bias in (-0.1, math.inf, math.nan):
        with pytest.raises(UsageError, match=f"a small positive number, got {bias:g}"):
            initialize(network(), "he", bias=bias)
