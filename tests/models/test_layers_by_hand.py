"""Layers whose values can be worked out by hand, and how weights start."""

from __future__ import annotations

import math
from collections import OrderedDict

import pytest
import torch
from torch import nn

from graft.errors import UsageError
from graft.models import initial
from graft.models.catalog import create
from graft.models.families.alexnet import response_norm
from graft.models.families.alphago import PositionBias
from graft.models.families.layers import Branches
from graft.models.families.resnet import BasicBlock, Bottleneck
from graft.models.families.resnet_cifar import CifarBlock, CifarResNet, PaddedShortcut
from graft.models.families.senet import SqueezeExcitation


def test_response_norm_is_the_paper_s_formula() -> None:
    """Five neighbours of one point; the middle one is divided by (2 + 1e-4 · Σ a²)^0.75, the first by three terms."""
    values = torch.tensor([10.0, 20.0, 30.0, 40.0, 50.0, 60.0])
    found = response_norm()(values.view(1, 6, 1, 1)).flatten()
    assert found[2] == pytest.approx(30 / (2 + 1e-4 * (100 + 400 + 900 + 1600 + 2500)) ** 0.75)
    assert found[0] == pytest.approx(10 / (2 + 1e-4 * (100 + 400 + 900)) ** 0.75)
    assert found[5] == pytest.approx(60 / (2 + 1e-4 * (1600 + 2500 + 3600)) ** 0.75)


def test_padded_shortcut_skips_pixels_and_adds_empty_channels() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4)
    found = PaddedShortcut(extra=1, stride=2)(x)
    assert found.tolist() == [[[[0, 2], [8, 10]], [[0, 0], [0, 0]]]]


def test_squeeze_and_excitation_by_hand() -> None:
    """Sixteen channels, one hidden unit: weights 1 / (1 + e^−v) with v = 2 · ReLU(mean of the first channel) + 1."""
    block = SqueezeExcitation(16)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
        block.fc1.weight[0, 0] = 1
        block.fc2.weight[:, 0] = 2
        block.fc2.bias.fill_(1)
        x = torch.ones(1, 16, 2, 2)
        x[0, 0] = torch.tensor([[1.0, 2.0], [3.0, 6.0]])  # mean 3
        found = block(x)
    weight = 1 / (1 + math.exp(-7))
    torch.testing.assert_close(found, x * weight)


def test_position_bias_is_one_number_for_each_point() -> None:
    bias = PositionBias()
    with torch.no_grad():
        bias.bias.copy_(torch.arange(361.0))
    assert bias(torch.ones(2, 361))[1, [0, 1, 360]].tolist() == [1, 2, 361]


def test_branches_join_in_order() -> None:
    joined = Branches(OrderedDict(first=nn.Identity(), second=nn.ReLU()))
    assert joined(torch.full((1, 1, 1, 1), -2.0)).flatten().tolist() == [-2, 0]


@pytest.mark.parametrize("block", [BasicBlock(8, 8, 1), Bottleneck(32, 8, 1), CifarBlock(8, 8, 1, residual=True)])
def test_a_residual_block_of_zeros_is_the_identity_on_positive_maps(block: nn.Module) -> None:
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    channels = 32 if isinstance(block, Bottleneck) else 8
    x = torch.rand(2, channels, 4, 4)
    torch.testing.assert_close(block.eval()(x), x)


def test_a_plain_block_of_zeros_forgets_its_input() -> None:
    block = CifarBlock(8, 8, 1, residual=False)
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    assert block.eval()(torch.rand(2, 8, 4, 4)).count_nonzero() == 0


@pytest.mark.parametrize(("stride_in", "strided"), [("conv1", "conv1"), ("conv2", "conv2")])
def test_place_of_the_stride(stride_in: str, strided: str) -> None:
    block = Bottleneck(16, 8, 2, stride_in)  # type: ignore[arg-type]
    strides = {name: m.stride for name, m in block.named_modules() if isinstance(m, nn.Conv2d)}
    assert [name for name in ("conv1", "conv2", "conv3") if strides[name] == (2, 2)] == [strided]


@pytest.mark.parametrize("depth", [8, 38, 110])
def test_cifar_form_of_any_depth(depth: int) -> None:
    """Weight layers: one first, 2n in each of three stages, one last; a plain twin has as many parameters."""
    with torch.device("meta"):
        residual, plain = CifarResNet(depth), CifarResNet(depth, residual=False)
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in residual.modules()) == depth
    assert sum(p.numel() for p in residual.parameters()) == sum(p.numel() for p in plain.parameters())


@pytest.mark.parametrize("depth", [2, 18, 21, -4])
def test_cifar_form_refuses_other_depths(depth: int) -> None:
    with pytest.raises(UsageError, match=rf"needs a depth of 6n \+ 2 .* got {depth}"):
        CifarResNet(depth)


def test_weights_start_as_he_says() -> None:
    network = nn.Sequential(nn.Conv2d(64, 128, 3), nn.Conv2d(128, 128, 3, groups=128), nn.Linear(500, 400))
    torch.manual_seed(0)
    initial.he(network)
    fans = (128 * 9, 9, 500)
    for layer, fan in zip(network, fans, strict=True):
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan), rel=0.05)
        assert layer.bias.count_nonzero() == 0


def test_weights_start_within_the_bounds_of_glorot_lecun_and_the_cut_gaussian() -> None:
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(300, 200))
    initial.glorot(layer)
    assert layer[0].weight.abs().max().item() == pytest.approx(math.sqrt(6 / 500), rel=0.01)
    initial.lecun(layer)
    assert layer[0].weight.abs().max().item() == pytest.approx(2.4 / 300, rel=0.01)
    initial.truncated_gaussian(layer, std=0.1)
    assert layer[0].weight.abs().max().item() == pytest.approx(0.2, rel=0.01)


def test_alexnet_starts_with_the_paper_s_biases() -> None:
    network = create("alexnet_2012", num_classes=2, seed=0)
    biases = [m.bias.unique().tolist() for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert biases == [[0], [1], [0], [1], [1], [1], [1], [0]]


@pytest.mark.parametrize("name", ["resnet18", "mobilenet", "googlenet_bn"])
def test_a_fresh_network_s_first_loss_is_that_of_a_guess(name: str) -> None:
    """−log(1/C) = 2.303 for ten classes, within what a random last layer adds."""
    network = create(name, num_classes=10, seed=0).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.Dropout):
            module.train(isinstance(module, nn.BatchNorm2d))
    pictures = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        loss = nn.functional.cross_entropy(network(pictures), torch.arange(8))
    assert 1.8 < loss.item() < 4.0
