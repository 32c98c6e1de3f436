"""Every optimiser, step by step, against its paper's formula in numpy and against torch's plain implementation."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from graft.errors import UsageError
from graft.training.recipe.optimizers import OPTIMIZERS, find, optimizer, parameter_groups

Array = NDArray[np.float64]
Gradient = Callable[[Array], Array]

STEPS = 25
HESSIAN = np.array([[3.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 0.2]])  # positive definite
LINEAR = np.array([1.0, -2.0, 0.5])
START = np.array([1.0, 1.0, -1.0])
RATE, MOMENTUM, DECAY = 0.05, 0.8, 0.01


def gradient(w: Array) -> Array:
    """Of ½ wᵀ H w − bᵀ w, and of the decay ½ λ |w|²."""
    return HESSIAN @ w - LINEAR + DECAY * w


def sgd(w: Array) -> Iterator[Array]:
    while True:
        w = w - RATE * gradient(w)
        yield w


def momentum(w: Array) -> Iterator[Array]:
    """As the lectures write it, v ← αv − ε∇: with one rate it is torch's."""
    v = np.zeros(3)
    while True:
        v = MOMENTUM * v - RATE * gradient(w)
        w = w + v
        yield w


def nesterov(ahead: Array) -> Iterator[Array]:
    """The gradient is taken at w + αv; what torch keeps as its parameters is that point ahead, not w."""
    v, w = np.zeros(3), ahead
    while True:
        v = MOMENTUM * v - RATE * gradient(w + MOMENTUM * v)
        w = w + v
        yield w + MOMENTUM * v


def adagrad(w: Array) -> Iterator[Array]:
    total = np.zeros(3)
    while True:
        g = gradient(w)
        total += g**2
        w = w - RATE * g / (np.sqrt(total) + 1e-10)
        yield w


def adadelta(w: Array) -> Iterator[Array]:
    squares, steps = np.zeros(3), np.zeros(3)
    while True:
        g = gradient(w)
        squares = 0.9 * squares + 0.1 * g**2
        delta = np.sqrt(steps + 1e-6) / np.sqrt(squares + 1e-6) * g
        steps = 0.9 * steps + 0.1 * delta**2
        w = w - RATE * delta
        yield w


def rmsprop(w: Array) -> Iterator[Array]:
    squares = np.zeros(3)
    while True:
        g = gradient(w)
        squares = 0.9 * squares + 0.1 * g**2
        w = w - RATE * g / (np.sqrt(squares) + 1e-8)
        yield w


def adam_moments(g: Array, m: Array, v: Array, t: int) -> tuple[Array, Array, Array]:
    """Both moments after the gradient g of step t, counted from 1, and the direction they give."""
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
    return m, v, (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)


def adam(w: Array) -> Iterator[Array]:
    m, v, t = np.zeros(3), np.zeros(3), 0
    while True:
        t += 1
        m, v, direction = adam_moments(gradient(w), m, v, t)
        w = w - RATE * direction
        yield w


def adamw(w: Array) -> Iterator[Array]:
    m, v, t = np.zeros(3), np.zeros(3), 0
    while True:
        t += 1
        m, v, direction = adam_moments(gradient(w) - DECAY * w, m, v, t)
        w = w - RATE * DECAY * w - RATE * direction
        yield w


BY_HAND = {
    "sgd": sgd, "gd": sgd, "momentum": momentum, "nesterov": nesterov, "adagrad": adagrad, "adadelta": adadelta,
    "rmsprop": rmsprop, "adam": adam, "adamw": adamw,
}  # fmt: skip
TORCH = {
    "sgd": lambda p: torch.optim.SGD(p, RATE, weight_decay=DECAY, foreach=False),
    "gd": lambda p: torch.optim.SGD(p, RATE, weight_decay=DECAY, foreach=False),
    "momentum": lambda p: torch.optim.SGD(p, RATE, MOMENTUM, weight_decay=DECAY, foreach=False),
    "nesterov": lambda p: torch.optim.SGD(p, RATE, MOMENTUM, nesterov=True, weight_decay=DECAY, foreach=False),
    "adagrad": lambda p: torch.optim.Adagrad(p, RATE, weight_decay=DECAY, foreach=False),
    "adadelta": lambda p: torch.optim.Adadelta(p, RATE, weight_decay=DECAY, foreach=False),
    "rmsprop": lambda p: torch.optim.RMSprop(p, RATE, alpha=0.9, weight_decay=DECAY, foreach=False),
    "adam": lambda p: torch.optim.Adam(p, RATE, weight_decay=DECAY, foreach=False),
    "adamw": lambda p: torch.optim.AdamW(p, RATE, weight_decay=DECAY, foreach=False),
}


def walk(make: Callable[[list[nn.Parameter]], torch.optim.Optimizer]) -> Iterator[Array]:
    """The weights after each step on the quadratic, in float64, its gradient by autograd."""
    w = nn.Parameter(torch.from_numpy(START.copy()))
    steps = make([w])
    while True:
        steps.zero_grad()
        (w @ torch.from_numpy(HESSIAN) @ w / 2 - torch.from_numpy(LINEAR) @ w).backward()
        steps.step()
        yield w.detach().numpy().copy()


def ours(name: str) -> Callable[[list[nn.Parameter]], torch.optim.Optimizer]:
    return lambda p: optimizer(name, p, rate=RATE, momentum=MOMENTUM, weight_decay=DECAY)


def test_every_optimizer_with_gradients_is_held_against_a_formula() -> None:
    assert set(BY_HAND) == set(TORCH) == {card.name for card in OPTIMIZERS if card.gradients}
    assert [card.name for card in OPTIMIZERS if card.whole_set] == ["gd"]


@pytest.mark.parametrize("name", BY_HAND)
def test_every_step_is_the_papers(name: str) -> None:
    walked = zip(range(STEPS), walk(ours(name)), BY_HAND[name](START), strict=False)
    for step, got, expected in walked:
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12, err_msg=f"{name}, step {step}")


@pytest.mark.parametrize("name", TORCH)
def test_every_step_is_plain_torchs(name: str) -> None:
    for _, got, expected in zip(range(STEPS), walk(ours(name)), walk(TORCH[name]), strict=False):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", BY_HAND)
def test_a_run_taken_up_from_its_state_gives_the_same_bits(name: str) -> None:
    def problem(seed: int) -> tuple[nn.Parameter, torch.optim.Optimizer]:
        w = nn.Parameter(torch.randn(40, 30, generator=torch.Generator().manual_seed(seed)))
        return w, ours(name)([w])

    def advance(w: nn.Parameter, steps: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            steps.zero_grad()
            (w.sin().sum() + w.square().mean()).backward()
            steps.step()

    w, steps = problem(seed=0)
    advance(w, steps, 3)
    resumed, others = problem(seed=1)
    with torch.no_grad():
        resumed.copy_(w)
    others.load_state_dict(copy.deepcopy(steps.state_dict()))
    advance(w, steps, 4)
    advance(resumed, others, 4)
    assert torch.equal(w, resumed)


def test_weights_decay_and_vectors_do_not() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(), nn.Flatten(), nn.Linear(4, 2))
    network[0].bias.requires_grad_(False)
    decaying, rest = parameter_groups(network, 0.1)
    assert [id(each) for each in decaying["params"]] == [id(network[0].weight), id(network[4].weight)]
    assert len(rest["params"]) == 4  # batch norm's scale and shift, the slope, the linear layer's bias
    before = [p.detach().clone() for p in network.parameters()]
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    optimizer("sgd", [decaying, rest], rate=0.5, weight_decay=0.3).step()  # a group's own decay wins over 0.3
    for parameter, old in zip(network.parameters(), before, strict=True):
        shrunk = 1 - 0.5 * 0.1 if parameter.ndim > 1 else 1.0
        torch.testing.assert_close(parameter.detach(), shrunk * old)


def test_empty_groups_are_left_out_and_a_frozen_network_is_refused() -> None:
    network = nn.Linear(3, 2, bias=False)
    assert len(parameter_groups(network, 0.1)) == 1
    with pytest.raises(UsageError, match="Linear has no trainable parameter; unfreeze"):
        parameter_groups(network.requires_grad_(False), 0.1)


@pytest.mark.parametrize(
    ("name", "rate", "alpha", "decay", "message"),
    [
        ("adamm", 0.1, 0.9, 0.0, "no optimizer 'adamm', there are sgd, momentum"),
        ("sgd", -0.1, 0.9, 0.0, "the rate must be a number above 0, got -0.1"),
        ("sgd", float("nan"), 0.9, 0.0, "the rate must be a number above 0, got nan"),
        ("sgd", float("inf"), 0.9, 0.0, "the rate must be a number above 0, got inf"),
        ("momentum", 0.1, 1.0, 0.0, "the momentum must be from 0 to below 1, got 1"),
        ("nesterov", 0.1, 0.0, 0.0, "nesterov needs a momentum above 0, got 0"),
        ("adam", 0.1, 0.9, -1.0, "the weight decay must be 0 or a number above it, got -1"),
    ],
)
def test_bad_values_are_refused_in_one_line(name: str, rate: float, alpha: float, decay: float, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        optimizer(name, [nn.Parameter(torch.zeros(2))], rate=rate, momentum=alpha, weight_decay=decay)


def test_the_nearest_name_is_offered() -> None:
    with pytest.raises(UsageError, match="did you mean 'nesterov'"):
        find("nestorov")
