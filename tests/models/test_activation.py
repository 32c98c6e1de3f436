"""Activations against their formulas, and how they take the place of a network's own."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from graft.errors import UsageError
from graft.models.activation import ACTIVATIONS, Maxout, find, with_activation
from graft.models.catalog import create

X = torch.tensor([-2.0, -0.5, 0.0, 0.5, 3.0])
FORMULAS = {
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "tanh": lambda x: (math.exp(x) - math.exp(-x)) / (math.exp(x) + math.exp(-x)),
    "relu": lambda x: max(0.0, x),
    "leaky-relu": lambda x: max(0.1 * x, x),
    "prelu": lambda x: max(0.25 * x, x),  # 0.25: where the slope starts, §2.2 of its paper
    "elu": lambda x: x if x > 0 else math.exp(x) - 1,
}
RELUS = {
    "lenet5": 4, "alexnet": 7, "vgg11": 10, "vgg11_bn": 10, "googlenet": 57, "resnet18": 17, "resnet50": 49,
    "plain20_cifar": 19, "densenet121": 121, "mobilenet": 27,
}  # fmt: skip


def places(network: nn.Module, kind: type[nn.Module]) -> int:
    return sum(type(module) is kind for module in network.modules())


def test_every_activation_is_held_against_a_formula() -> None:
    assert {*FORMULAS, "maxout"} == {activation.name for activation in ACTIVATIONS}


@pytest.mark.parametrize("name", FORMULAS)
def test_values_are_the_formulas(name: str) -> None:
    with torch.no_grad():
        got = find(name).make()(X)
    torch.testing.assert_close(got, torch.tensor([FORMULAS[name](x) for x in X.tolist()]))


def test_maxout_by_hand() -> None:
    x = torch.tensor([[[1.0, 5.0], [4.0, 2.0], [-3.0, 0.0], [-1.0, -2.0]]])  # (1, 4, 2)
    assert Maxout()(x).tolist() == [[[4.0, 5.0], [-1.0, 0.0]]]
    assert Maxout(4)(x).tolist() == [[[4.0, 5.0]]]


@pytest.mark.parametrize(("network", "count"), RELUS.items())
def test_every_activation_of_a_network_is_replaced_and_its_weights_stay(network: str, count: int) -> None:
    plain = create(network, num_classes=3, seed=0)
    names = list(plain.state_dict())
    changed = with_activation(plain, "elu")
    assert changed is plain
    assert places(changed, nn.ELU) == count
    assert places(changed, nn.ReLU) + places(changed, nn.ReLU6) + places(changed, nn.Tanh) == 0
    assert list(changed.state_dict()) == names


def test_gates_are_no_activations() -> None:
    network = with_activation(create("seresnet50", num_classes=3, seed=0), "tanh")
    assert places(network, nn.Sigmoid) == 16  # one for each squeeze-and-excitation block
    assert places(network, nn.Tanh) == 49 + 16


def test_prelu_learns_one_slope_for_each_layer() -> None:
    plain, changed = create("lenet5", seed=0), with_activation(create("lenet5", seed=0), "prelu")
    added = set(changed.state_dict()) - set(plain.state_dict())
    assert added == {"stages.c1.1.weight", "stages.c3.1.weight", "classifier.tanh5.weight", "classifier.tanh6.weight"}
    changed(torch.randn(2, 1, 32, 32)).sum().backward()
    assert all(changed.get_parameter(name).grad is not None for name in added)


def test_maxout_computes_the_larger_of_two_layers() -> None:
    torch.manual_seed(0)
    network = with_activation(create("lenet5", seed=0), "maxout")
    conv = network.get_submodule("stages.c1.0")
    assert conv.weight.shape == (12, 1, 5, 5)
    x = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        nn.init.normal_(conv.bias)
        even = torch.conv2d(x, conv.weight[0::2], conv.bias[0::2])
        odd = torch.conv2d(x, conv.weight[1::2], conv.bias[1::2])
        expected = nn.functional.avg_pool2d(torch.maximum(even, odd), 2)
        torch.testing.assert_close(network.get_submodule("stages.c1")(x), expected)
        assert network(x).shape == (2, 10)


@pytest.mark.parametrize(("network", "side"), [("googlenet", 32), ("googlenet_bn", 32), ("mobilenet", 32)])
def test_maxout_doubles_the_layers_below_it(network: str, side: int) -> None:
    plain = create(network, num_classes=3, seed=0)
    shapes = {name: tuple(value.shape) for name, value in plain.state_dict().items()}
    stds = {name: float(value.std()) for name, value in plain.state_dict().items() if value.ndim > 1}
    changed = with_activation(plain, "maxout").eval()
    assert list(changed.state_dict()) == list(shapes)
    wider = 0
    for name, value in changed.state_dict().items():
        if value.ndim > 1 and tuple(value.shape) != shapes[name]:
            wider += 1
            assert tuple(value.shape) == (2 * shapes[name][0], *shapes[name][1:])
            if value.numel() > 20_000:
                assert float(value.std()) == pytest.approx(stds[name], rel=0.05)
    assert wider == places(changed, Maxout)
    assert changed(torch.rand(1, 3, side, side)).shape == (1, 3)


@pytest.mark.parametrize("network", ["resnet18", "densenet121", "resnet20_cifar"])
def test_maxout_is_refused_where_branches_join_and_the_network_is_left_as_it_was(network: str) -> None:
    plain = create(network, num_classes=3, seed=0)
    before = {name: tuple(value.shape) for name, value in plain.state_dict().items()}
    relus = places(plain, nn.ReLU)
    with pytest.raises(UsageError, match="maxout must follow a convolution or linear layer, and in"):
        with_activation(plain, "maxout")
    assert {name: tuple(value.shape) for name, value in plain.state_dict().items()} == before
    assert places(plain, nn.ReLU) == relus


def test_unknown_names_and_networks_without_activations_are_refused() -> None:
    with pytest.raises(UsageError, match=r"no activation 'leaky_relu', there are .*did you mean 'leaky-relu'"):
        find("leaky_relu")
    with pytest.raises(UsageError, match="Linear has no activation"):
        with_activation(nn.Linear(2, 2), "relu")
