"""Gradients against differences: values by hand, torch's own check as oracle, and wrong backward passes caught."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graft.errors import UsageError
from graft.training.checks.gradients import INPUT, LayerGradient, find_fault, gradient_check, passed
from graft.training.recipe.losses import Loss, cross_entropy, loss_function, multiclass_svm

LABELS = torch.tensor([0, 2, 1])


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def small(middle: nn.Module) -> nn.Sequential:
    """A convolution, `middle`, a convolution, the mean of each map: three scores for (N, 2, 6, 6)."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), middle, nn.Conv2d(4, 3, 2), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


class Halved(torch.autograd.Function):
    """tanh whose backward pass forgets a factor: half the slope."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # type: ignore[override]
        y = x.tanh()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:  # type: ignore[override]
        (y,) = ctx.saved_tensors
        return 0.5 * slope * (1 - y**2)


class WrongTanh(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Halved.apply(x)  # type: ignore[no-any-return, no-untyped-call]


class BarelyWrong(torch.autograd.Function):
    """The identity, its slope off by one in ten thousand."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:  # type: ignore[override]
        return x.clone()

    @staticmethod
    def backward(_ctx: Any, slope: Tensor) -> Tensor:  # type: ignore[override]
        return 1.0001 * slope


class Between(nn.Module):
    """Two layers with a wrong function in between that is no layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.low, self.high, self.function = nn.Linear(5, 4), nn.Linear(4, 3), function

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.high(self.function(self.low(x)))
        return scores


def test_the_example_of_the_lectures() -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x, self.y, self.z = (nn.Parameter(torch.tensor([value])) for value in (-2.0, 5.0, -4.0))

        def forward(self, _: Tensor) -> Tensor:
            return (self.x + self.y) * self.z

    found = gradient_check(Product(), lambda f, _: f, torch.zeros(1), torch.zeros(1))
    for gradient, expected in zip(found, (-4, -4, 3), strict=False):
        assert gradient.worst is not None
        assert (gradient.name, gradient.worst.analytic) == (gradient.name, expected)
        assert gradient.worst.numeric == pytest.approx(expected, rel=1e-9)
    assert [gradient.verdict for gradient in found] == ["agrees"] * 3 + ["flat"]  # f does not depend on the input


@pytest.mark.parametrize("loss", [
    loss_function("cross-entropy"),
    loss_function("cross-entropy", smoothing=0.1, class_weights=torch.tensor([0.5, 1.0, 2.0])),
    loss_function("svm"),
    loss_function("svm", class_weights=torch.tensor([0.5, 1.0, 2.0])),
])  # fmt: skip
@pytest.mark.parametrize("target", [torch.tensor([0, 0, 1]), torch.tensor([[0.7, 0.3, 0], [0, 0.5, 0.5], [1, 0, 0]])])
def test_every_loss(loss: Loss, target: Tensor) -> None:
    found = gradient_check(nn.Sequential(nn.Linear(5, 3)), loss, drawn(3, 5), target, coordinates=100)
    assert [(g.name, g.verdict) for g in found] == [("0.weight", "agrees"), ("0.bias", "agrees"), (INPUT, "agrees")]
    assert [g.compared + g.kinks for g in found] == [15, 3, 15]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("middle", [
    nn.ReLU(inplace=True), nn.Tanh(), nn.PReLU(), nn.ELU(), nn.MaxPool2d(2, 1), nn.AvgPool2d(2, 1), nn.BatchNorm2d(4),
    nn.Dropout(0.5), nn.LocalResponseNorm(3), nn.Conv2d(4, 4, 3, padding=1, groups=2), nn.Conv2d(4, 4, 3, dilation=1),
], ids=lambda layer: type(layer).__name__)  # fmt: skip
def test_every_layer(middle: nn.Module, training: bool) -> None:
    network = small(copy.deepcopy(middle))
    found = gradient_check(network, cross_entropy, drawn(3, 2, 6, 6), LABELS, training=training)
    assert passed(found)
    without_bias = [g for g in found if g.name != "0.bias" or not (training and isinstance(middle, nn.BatchNorm2d))]
    assert {g.verdict for g in without_bias} == {"agrees"}
    assert all(g.reached for g in found)


def test_a_bias_before_a_batch_norm_is_flat() -> None:
    found = gradient_check(small(nn.BatchNorm2d(4)), cross_entropy, drawn(3, 2, 6, 6), LABELS, training=True)
    assert {g.name: g.verdict for g in found}["0.bias"] == "flat"


def test_torch_s_own_check_agrees(recwarn: pytest.WarningsRecorder) -> None:
    x = drawn(3, 2, 6, 6).double().requires_grad_()
    for middle, right in ((nn.Tanh(), True), (WrongTanh(), False)):
        network = small(middle).double()
        assert torch.autograd.gradcheck(
            lambda x, n=network: cross_entropy(n(x), LABELS).mean(), (x,), raise_exception=False
        ) is right  # fmt: skip
        assert passed(gradient_check(network, cross_entropy, x.detach(), LABELS)) is right
    assert not recwarn


def test_a_wrong_backward_pass_is_caught_and_named() -> None:
    network = small(nn.Sequential(nn.Identity(), WrongTanh()))
    arguments = network, multiclass_svm, drawn(3, 2, 6, 6), LABELS
    found = {gradient.name: gradient for gradient in gradient_check(*arguments)}
    assert {name for name, gradient in found.items() if gradient.verdict == "wrong"} == {"0.weight", "0.bias", INPUT}
    assert found["0.weight"].error == pytest.approx(0.5, abs=0.01)
    assert find_fault(*arguments) == "1.1 (WrongTanh)"
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in network.modules())


@pytest.mark.parametrize(("function", "reached"), [(BarelyWrong.apply, True), (Tensor.detach, False)])
def test_a_fault_between_layers(function: Callable[[Tensor], Tensor], reached: bool) -> None:
    arguments = Between(function), cross_entropy, drawn(3, 5), LABELS
    found = {gradient.name: gradient for gradient in gradient_check(*arguments)}
    assert {name for name, gradient in found.items() if gradient.verdict == "wrong"} == {
        "low.weight", "low.bias", INPUT,
    }  # fmt: skip
    assert found["low.weight"].reached is reached
    assert found["low.weight"].error == pytest.approx(1e-4 if reached else 1, rel=0.02)
    assert find_fault(*arguments) == "what runs between low (Linear) and high (Linear)"


def test_nothing_is_at_fault_in_a_right_network() -> None:
    assert find_fault(small(nn.ReLU()), cross_entropy, drawn(3, 2, 6, 6), LABELS) is None


def test_kinks_are_skipped_or_seen_through() -> None:
    network = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
    with torch.no_grad():
        network[0].weight.fill_(1)
        network[0].bias.fill_(0)

    def check(x: float) -> LayerGradient:
        return gradient_check(network, lambda y, _: y, torch.tensor([[x]]), torch.zeros(1))[1]

    on, near, off = check(0.0), check(3e-6), check(1.0)
    assert (on.compared, on.kinks, on.verdict) == (0, 1, "on kinks")  # slopes 0 and 1 however small the step
    assert (near.compared, near.kinks, near.finer, near.verdict) == (1, 0, 1, "agrees")
    assert (off.compared, off.kinks, off.finer, off.verdict) == (1, 0, 0, "agrees")


def test_the_network_is_left_as_it_was() -> None:
    network = small(nn.Sequential(nn.BatchNorm2d(4), nn.Dropout(0.5))).train()
    before, random_state = copy.deepcopy(network.state_dict()), torch.random.get_rng_state()
    x = drawn(3, 2, 6, 6)
    first = gradient_check(network, cross_entropy, x, LABELS, training=True)
    assert first == gradient_check(network, cross_entropy, x, LABELS, training=True)
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert all(parameter.grad is None and parameter.dtype == torch.float32 for parameter in network.parameters())
    assert network.training
    assert not x.requires_grad


def test_time_that_is_up_and_frozen_layers() -> None:
    network = small(nn.ReLU())
    found = gradient_check(network, cross_entropy, drawn(3, 2, 6, 6), LABELS, seconds=0)
    assert {gradient.verdict for gradient in found} == {"no time"}
    assert not passed(found)
    network[0].requires_grad_(False)
    found = gradient_check(network, cross_entropy, drawn(3, 2, 6, 6), LABELS)
    assert [gradient.name for gradient in found] == ["2.weight", "2.bias", INPUT]
    with pytest.raises(UsageError, match="Sequential has no trainable parameter"):
        gradient_check(network.requires_grad_(False), cross_entropy, drawn(3, 2, 6, 6), LABELS)


def test_a_loss_that_is_not_finite_is_refused() -> None:
    with pytest.raises(UsageError, match="needs a finite loss, got nan"):
        gradient_check(small(nn.ReLU()), cross_entropy, torch.full((3, 2, 6, 6), torch.nan), LABELS)
