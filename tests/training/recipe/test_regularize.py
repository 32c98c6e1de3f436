"""Regularisers against hand-worked numbers and their expectations; a network keeps the names of its weights."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from graft.errors import UsageError
from graft.models.catalog import create
from graft.models.network import cut, head, trunk
from graft.training.recipe.optimizers import optimizer
from graft.training.recipe.regularize import (
    DropConnectLinear,
    max_norm_,
    penalty,
    with_dropconnect,
    with_dropout,
    with_stochastic_depth,
)


def small() -> nn.Sequential:
    """Weights 1, −2, 3 and −4, a frozen matrix, and vectors that no penalty sees."""
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1).requires_grad_(False))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, -4.0]]))
        network[0].bias.fill_(7.0)
    return network


def test_penalties_by_hand() -> None:
    network = small()
    assert float(penalty(network, l2=0.1).detach()) == pytest.approx(0.1 * 30)
    assert float(penalty(network, l1=0.5).detach()) == pytest.approx(0.5 * 10)
    assert float(penalty(network, l1=0.01, l2=0.02).detach()) == pytest.approx(0.01 * 10 + 0.02 * 30)
    assert float(penalty(network)) == 0.0
    penalty(network, l1=0.01, l2=0.02).backward()
    expected = 0.01 * torch.tensor([[1.0, -1.0], [1.0, -1.0]]) + 0.04 * torch.tensor([[1.0, -2.0], [3.0, -4.0]])
    torch.testing.assert_close(network[0].weight.grad, expected)
    assert network[0].bias.grad is None
    with pytest.raises(ValueError, match="of at least 0, got -1 and 0"):
        penalty(network, l1=-1)


def test_weight_decay_is_twice_the_penalty() -> None:
    decayed, penalised = small(), small()
    for parameter in decayed.parameters():
        parameter.grad = torch.zeros_like(parameter)
    penalty(penalised, l2=0.05).backward()
    optimizer("sgd", [decayed[0].weight], rate=0.5, weight_decay=0.1).step()
    optimizer("sgd", [penalised[0].weight], rate=0.5).step()
    torch.testing.assert_close(decayed[0].weight, penalised[0].weight)


def test_max_norm_shortens_the_units_that_are_too_long_and_no_other() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.Conv2d(1, 2, 2), nn.Linear(1, 1).requires_grad_(False))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, -2.0]]))
        network[0].bias.fill_(9.0)
        network[1].weight.copy_(torch.tensor([[2.0, 2.0, 2.0, 2.0], [0.1, 0.0, 0.0, 0.0]]).reshape(2, 1, 2, 2))
        network[2].weight.fill_(8.0)
    max_norm_(network, 2.0)
    expected = torch.tensor([[1.2, 1.6], [0.3, 0.4], [0.0, -2.0]])
    torch.testing.assert_close(network[0].weight.detach(), expected)
    filters = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.1, 0.0, 0.0, 0.0]]).reshape(2, 1, 2, 2)
    torch.testing.assert_close(network[1].weight.detach(), filters)
    assert torch.equal(network[0].bias.detach(), torch.full((3,), 9.0))
    assert float(network[2].weight) == 8.0, "what is frozen stays"
    with pytest.raises(ValueError, match="a limit above 0, got 0"):
        max_norm_(network, 0.0)


def trained_and_not(network: nn.Module, x: Tensor, draws: int) -> tuple[Tensor, Tensor]:
    """The mean of many outputs in training mode, and the output in evaluation."""
    torch.manual_seed(0)
    with torch.no_grad():
        mean = torch.stack([network.train()(x) for _ in range(draws)]).mean(dim=0)
        return mean, network.eval()(x)


def test_dropconnect_keeps_the_expectation_and_drops_as_often_as_asked() -> None:
    torch.manual_seed(1)
    linear = nn.Linear(6, 4)
    dropped = DropConnectLinear(linear, 0.3)
    x = torch.randn(2, 6)
    mean, plain = trained_and_not(dropped, x, 20_000)
    assert torch.equal(plain, linear(x).detach())
    # var of Σ w x m/(1−p) + b m/(1−p) is (Σ w²x² + b²) p/(1−p): five standard errors
    spread = ((linear.weight.square() @ x.square().T).T + linear.bias.square()).mul(0.3 / 0.7 / 20_000).sqrt()
    assert ((mean - plain).abs() < 5 * spread).all()
    ones = DropConnectLinear(nn.Linear(1, 100_000, bias=False), 0.3)
    nn.init.ones_(ones.weight)
    outputs = ones.train()(torch.ones(1, 1)).detach()
    assert sorted(outputs.unique().tolist()) == pytest.approx([0.0, 1 / 0.7])
    assert float((outputs == 0).float().mean()) == pytest.approx(0.3, abs=0.01)


def test_dropconnect_shares_the_parameters_and_learns() -> None:
    network = create("lenet5", seed=0)
    before = dict(network.named_parameters())
    with_dropconnect(network, 0.5)
    assert all(parameter is before[name] for name, parameter in network.named_parameters())
    assert [type(m) for m in network.classifier if isinstance(m, nn.Linear)] == [DropConnectLinear] * 3
    network.train()(torch.randn(2, 1, 32, 32)).sum().backward()
    gradient = before["classifier.output.weight"].grad
    assert gradient is not None
    assert 0.3 < float((gradient == 0).float().mean()) < 0.7, "dropped weights get no gradient"


def test_stochastic_depth_grows_linearly_to_p() -> None:
    network = with_stochastic_depth(create("resnet20_cifar", seed=0), 0.5)
    rates = [module.p for module in network.modules() if isinstance(module, StochasticDepth)]
    assert rates == pytest.approx([0.5 * block / 9 for block in range(1, 10)])


def test_a_skipped_block_is_its_shortcut_alone() -> None:
    network = create("resnet18", num_classes=3, seed=0)
    block = network.get_submodule("stages.conv2_x.blocks.0")
    with_stochastic_depth(block, 0.75)  # one block: p is its own
    torch.manual_seed(0)
    x = torch.rand(2000, 64, 2, 2)
    with torch.no_grad():
        block.bn2.eval()
        block.bn1.eval()
        branch = block.bn2(block.conv2(block.relu1(block.bn1(block.conv1(x)))))
        out = block(x)
    skipped = (out == x).flatten(1).all(dim=1)
    assert float(skipped.float().mean()) == pytest.approx(0.75, abs=0.04)
    torch.testing.assert_close(out[~skipped], torch.relu(branch[~skipped] / 0.25 + x[~skipped]))


REGULARISED: dict[str, tuple[Callable[[nn.Module, float], nn.Module], tuple[str, ...]]] = {
    "dropout": (with_dropout, ("lenet5", "resnet20_cifar", "alexnet", "googlenet")),
    "dropconnect": (with_dropconnect, ("lenet5", "resnet20_cifar")),
    "stochastic depth": (with_stochastic_depth, ("resnet18", "resnet20_cifar", "seresnet50", "resnet50")),
}
CASES = [(what, name) for what, (_, names) in REGULARISED.items() for name in names]


@pytest.mark.parametrize(("what", "name"), CASES)
def test_names_and_predictions_stay(what: str, name: str) -> None:
    plain = create(name, num_classes=4, seed=0).eval()
    noisy = REGULARISED[what][0](copy.deepcopy(plain), 0.4)
    assert list(noisy.state_dict()) == list(plain.state_dict())
    noisy.load_state_dict(plain.state_dict())
    channels, side = plain.takes.channels, plain.takes.side if plain.takes.smallest is None else plain.takes.smallest
    x = torch.rand(2, channels, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = plain(x)
        assert torch.equal(noisy(x), expected)
        lower, upper = cut(noisy, "classifier")
        assert torch.equal(upper(lower(x)), expected)
        assert torch.equal(head(noisy)(trunk(noisy)(x)), expected)
        torch.manual_seed(0)
        noisy.train()
        for module in noisy.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        assert not torch.equal(noisy(x), noisy(x)), "there is noise while it trains"


def test_dropout_takes_the_networks_own_place_or_stands_before_linear_layers() -> None:
    own = with_dropout(create("alexnet", num_classes=3, seed=0), 0.2)
    assert [module.p for module in own.modules() if isinstance(module, nn.Dropout)] == [0.2, 0.2]
    lenet = with_dropout(create("lenet5", seed=0), 0.3)
    assert list(dict(lenet.classifier.named_children())) == [
        "flatten", "dropout_c5", "c5", "tanh5", "dropout_f6", "f6", "tanh6", "dropout_output", "output",
    ]  # fmt: skip
    assert {module.p for module in lenet.modules() if isinstance(module, nn.Dropout)} == {0.3}


@pytest.mark.parametrize(
    ("change", "network", "message"),
    [
        (with_dropout, "alphago_policy", "has no linear layer to put dropout before"),
        (with_dropconnect, "alphago_policy", "has no linear layer for DropConnect"),
        (with_stochastic_depth, "lenet5", "LeNet5 has no residual blocks to skip"),
        (with_stochastic_depth, "plain20_cifar", "CifarResNet has no residual blocks to skip"),
    ],
)
def test_a_network_that_it_does_not_fit_is_refused(
    change: Callable[[nn.Module, float], nn.Module], network: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        change(create(network, seed=0), 0.5)


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
@pytest.mark.parametrize("change", [with_dropout, with_dropconnect, with_stochastic_depth])
def test_probabilities_out_of_range_are_refused(change: Callable[[nn.Module, float], nn.Module], p: float) -> None:
    with pytest.raises(UsageError, match=f"needs a probability from 0 to below 1, got {p:g}"):
        change(create("resnet20_cifar", seed=0), p)


def test_timms_residual_blocks_take_stochastic_depth_too() -> None:
    import timm

    for name in ("resnet18", "efficientnet_lite0"):
        network = with_stochastic_depth(timm.create_model(name, num_classes=3), 0.5)
        last = [module.p for module in network.modules() if isinstance(module, StochasticDepth)][-1]
        assert last == 0.5
        assert network.eval()(torch.rand(1, 3, 64, 64)).shape == (1, 3)
