"""Batch norm that keeps its statistics, and its folding into the convolution before it, against torch's own layers."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graft.models.catalog import create
from graft.training.cpu.batch_norm import FoldedConvolution, folded, folded_batch_norm, kept_statistics, pairs_to_fold
from graft.training.cpu.depthwise import FastDepthwise, fast_depthwise


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def lived_in(network: nn.Module) -> nn.Module:
    """The same in float64, with statistics, scales and shifts as if it had been trained."""
    generator = torch.Generator().manual_seed(5)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(0, 0.2, generator=generator)
            layer.running_var.uniform_(0.5, 2, generator=generator)
            nn.init.uniform_(layer.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(layer.bias, 0, 0.2, generator=generator)
    return network.double().train()


def trained_on(network: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits, and the gradient of every parameter, of one pass with kept statistics."""
    network.zero_grad()
    logits = network(x)
    torch.autograd.backward(F.cross_entropy(logits, torch.arange(len(x)) % 3))
    return logits.detach(), {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def test_a_convolution_and_a_batch_norm_by_hand() -> None:
    """W = 2, b = 1, γ = 3, β = 0.5, μ = 4, σ² = 1 and ε = 3: s = 3/2, so weight 3 and bias 0.5 − (4 − 1) · 3/2 = −4."""
    norm = nn.BatchNorm2d(1, eps=3.0)
    assert norm.running_mean is not None
    norm.running_mean.fill_(4.0)
    nn.init.constant_(norm.weight, 3.0)
    nn.init.constant_(norm.bias, 0.5)
    weight, bias = folded(torch.full((1, 1, 1, 1), 2.0), torch.tensor([1.0]), norm)
    assert (weight.item(), bias.item()) == (3.0, -4.0)
    assert folded(torch.full((1, 1, 1, 1), 2.0), None, norm)[1].item() == 0.5 - 4 * 1.5


@pytest.mark.parametrize(
    "name", ["efficientnet-lite0", "timm:efficientnet_lite0", "timm:resnet18", "timm:mobilenetv2_100"]
)
def test_values_and_gradients_are_those_of_the_layers_apart(name: str) -> None:
    library, _, theirs = name.partition(":")
    network = lived_in(
        timm.create_model(theirs, num_classes=3, drop_rate=0.0) if theirs else create(library, num_classes=3, seed=0)
    )
    x = torch.rand(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    with kept_statistics(network, everywhere=True):
        expected, gradients = trained_on(network, x)
        with fast_depthwise(network), folded_batch_norm(network, x[:1]):
            count = sum(type(layer) is FoldedConvolution for layer in network.modules())
            found, others = trained_on(network, x)
    assert count == sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules()) > 7
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert others.keys() == gradients.keys() == dict(network.named_parameters()).keys()
    for key, gradient in gradients.items():
        torch.testing.assert_close(others[key], gradient, rtol=1e-10, atol=1e-10, msg=key)
    after = network.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_everything_is_put_back() -> None:
    network = timm.create_model("efficientnet_lite0", num_classes=3)
    classes = [type(layer) for layer in network.modules()]
    with kept_statistics(network, everywhere=True), folded_batch_norm(network, torch.rand(1, 3, 32, 32)):
        assert [type(layer) for layer in network.modules()] != classes
    assert [type(layer) for layer in network.modules()] == classes
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in network.modules())
    assert not any("norm" in vars(layer) or "unfolded" in vars(layer) for layer in network.modules())


def test_a_copy_folds_its_own_batch_norm() -> None:
    network = lived_in(create("mobilenet", num_classes=3, seed=0))
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with kept_statistics(network, everywhere=True), fast_depthwise(network), folded_batch_norm(network, x):
        twin = copy.deepcopy(network)
        original = network(x)
        for layer in twin.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.zeros_(layer.weight)
        assert not torch.allclose(twin(x), original)
        torch.testing.assert_close(network(x), original)


class TwoWays(nn.Module):
    """A convolution whose output is normalised, and used beside that."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.bn(y) + y.detach()


class Twice(nn.Module):
    """A convolution that runs two times."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(self.conv(x)))


class Halved(nn.BatchNorm2d):
    """A batch norm that does more than that."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 2


@pytest.mark.parametrize(
    "network",
    [
        TwoWays(),
        Twice(),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(3, 4, 1), Halved(4)),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False)),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)),
        nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1)),
    ],
)
def test_what_cannot_be_folded_is_left_alone(network: nn.Module) -> None:
    assert pairs_to_fold(network, torch.rand(2, 3, 4, 4)) == ()


def test_order_of_definition_does_not_count() -> None:
    """The batch norm is named before the convolution that it follows."""
    block = nn.ModuleDict({"bn": nn.BatchNorm2d(4), "other": nn.Conv2d(4, 4, 1), "conv": nn.Conv2d(3, 4, 1)})

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = block

        def forward(self, x: Tensor) -> Tensor:
            return self.parts["other"](self.parts["bn"](self.parts["conv"](x)))

    assert pairs_to_fold(Block(), torch.rand(1, 3, 4, 4)) == ((block["conv"], block["bn"]),)


def test_depthwise_convolutions_stay_fast_when_they_are_folded() -> None:
    network = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.BatchNorm2d(4))
    with fast_depthwise(network), kept_statistics(network, everywhere=True):
        with folded_batch_norm(network, torch.rand(1, 4, 6, 6)):
            y = network(torch.rand(1, 4, 6, 6))
            assert type(y.grad_fn).__name__ == "_DepthwiseBackward"
        assert type(network[0]) is FastDepthwise


def test_frozen_layers_keep_their_statistics_and_others_do_not() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2)).train()
    network[0].requires_grad_(False)
    x = torch.rand(8, 2, 3, 3, generator=torch.Generator().manual_seed(0)) + 5
    with kept_statistics(network, everywhere=False):
        y = network(x)
    torch.testing.assert_close(network[0].running_mean, torch.zeros(2))
    torch.testing.assert_close(network[1].running_mean, 0.1 * x.mean(dim=(0, 2, 3)) / (1 + 1e-5) ** 0.5)
    torch.testing.assert_close(y.mean(dim=(0, 2, 3)), torch.zeros(2), rtol=0, atol=1e-5)  # the batch's own
