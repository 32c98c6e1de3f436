"""The fast backward passes of depthwise convolutions against torch's own, in float64 and in bfloat16."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graft.models.adapter import adapt
from graft.models.catalog import create
from graft.training.cpu.depthwise import FastDepthwise, fast_depthwise, input_gradient, weight_gradient
from graft.training.cpu.padding import plain_padding

CASES = [
    (3, 1, 1, 9),
    (3, 2, 1, 9),
    (3, 2, 1, 10),
    (5, 1, 2, 7),
    (5, 2, 2, 9),
    (5, 2, 2, 10),
    (7, 3, 0, 16),
    (4, 2, 1, 9),
    (5, 1, 2, 4),  # fewer rows than the kernel has
    (5, 2, 2, 3),
    (3, 2, 1, 2),
    (3, 1, 1, 1),
]


@pytest.mark.parametrize(("kernel", "stride", "padding", "side"), CASES)
def test_both_gradients_are_those_of_torch(kernel: int, stride: int, padding: int, side: int) -> None:
    generator = torch.Generator().manual_seed(kernel)
    x = torch.randn(2, 6, side, side, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(6, 1, kernel, kernel, dtype=torch.float64, generator=generator, requires_grad=True)
    y = F.conv2d(x, weight, None, stride, padding, 1, 6)
    gradient = torch.randn(y.shape, dtype=torch.float64, generator=generator)
    torch.autograd.backward(y, gradient)
    assert x.grad is not None
    assert weight.grad is not None
    strides, paddings = (stride, stride), (padding, padding)
    of_x = input_gradient(gradient, weight.detach(), (side, side), strides, paddings)
    of_weight = weight_gradient(x.detach(), gradient, weight.detach(), strides, paddings)
    torch.testing.assert_close(of_x, x.grad, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(of_weight, weight.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "side"),
    [
        ((3, 5), (2, 1), (1, 2), (8, 7)),  # not square, with a stride of its own
        ((5, 5), (1, 1), (2, 2), (4, 4)),  # fewer rows than the kernel has
        ((5, 5), (2, 2), (2, 2), (3, 3)),
    ],
)
def test_a_layer_has_the_gradients_of_torch(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], side: tuple[int, int]
) -> None:
    layer = nn.Conv2d(4, 4, kernel, stride, padding, groups=4, dtype=torch.float64)
    x = torch.randn(2, 4, *side, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)

    def gradients() -> list[torch.Tensor]:
        return list(torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()]))

    expected = gradients()
    with fast_depthwise(layer):
        assert isinstance(layer, FastDepthwise)
        found = gradients()
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_whole_network_trains_alike_and_is_put_back(precision: torch.dtype) -> None:
    network = create("mobilenet", num_classes=3, seed=0).train()
    twin = copy.deepcopy(network)
    x = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))

    def gradients(module: nn.Module) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            logits = module(x)
        torch.autograd.backward(F.cross_entropy(logits.float(), torch.tensor([0, 1, 2, 0])))
        return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])

    expected = gradients(twin)
    with fast_depthwise(network):
        assert sum(type(layer) is FastDepthwise for layer in network.modules()) == 13  # as the paper has them
        found = gradients(network)
    assert not any(isinstance(layer, FastDepthwise) for layer in network.modules())
    assert network.state_dict().keys() == twin.state_dict().keys()
    cosine = F.cosine_similarity(found, expected, dim=0)
    assert cosine > (1 - 1e-6 if precision == torch.float32 else 0.99)


def test_other_convolutions_stay_as_they_are() -> None:
    layers = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=4),  # two kernels a channel
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, groups=4, dilation=2),
        nn.Conv2d(4, 4, 3, groups=4, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, groups=4, padding="same"),
    )
    with fast_depthwise(layers):
        assert not any(isinstance(layer, FastDepthwise) for layer in layers)


def test_every_depthwise_layer_of_our_lite0_is_fast() -> None:
    """Sixteen, one in each block; those with a stride stand behind a layer that pads. The blocks of one shape: nine."""
    network = create("efficientnet-lite0", num_classes=3, seed=0)
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before = network(x)
    with plain_padding(network), fast_depthwise(network):
        fast = [layer for layer in network.modules() if type(layer) is FastDepthwise]
        assert torch.equal(network(x), before)
    assert [layer.stride for layer in fast].count((2, 2)) == 4
    assert len(fast) == 16
    assert sum(hasattr(block, "drop_path") for block in network.modules()) == 9


def test_layers_that_pad_by_themselves_are_plain_for_a_while() -> None:
    network = adapt("tf_efficientnet_lite0", num_classes=3).network
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before = network(x)
    with plain_padding(network), fast_depthwise(network):
        assert sum(type(layer) is FastDepthwise for layer in network.modules()) == 16  # one in each block
        assert torch.equal(network(x), before)
    assert sum(type(layer).__name__ == "Conv2dSame" for layer in network.modules()) == 5  # the stem's, and four blocks'
    assert torch.equal(network(x), before)
