"""The contract of a network, on one small enough to work out by hand."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

from graft.errors import UsageError
from graft.models.network import Network, cut, head, stage_names, trunk


class Own(nn.Module):
    """A network as this package writes them: stages are the children, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential(OrderedDict(conv1=nn.Conv2d(3, 4, 3), conv2=nn.Conv2d(4, 5, 3)))
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.stages(x))


def test_stage_names_are_the_children_or_what_the_network_lists() -> None:
    assert stage_names(Own()) == ("conv1", "conv2")
    nested = nn.Sequential(OrderedDict(body=nn.Sequential(OrderedDict(a=nn.ReLU(), b=nn.ReLU()))))
    assert stage_names(Network(nested, ("body.a", "body.b"), nn.Sequential(nn.Linear(1, 1)))) == ("body.a", "body.b")


def test_stages_run_in_the_order_that_is_listed() -> None:
    twice, shift = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
    for layer, weight, bias in ((twice, 2.0, 0.0), (shift, 1.0, 3.0)):
        nn.init.constant_(layer.weight, weight)
        nn.init.constant_(layer.bias, bias)
    stages = nn.Sequential(OrderedDict(shift=shift, twice=twice))
    x = torch.full((1, 1, 1, 1), 5.0)
    classifier = nn.Sequential(nn.Flatten())
    assert Network(stages, ("twice", "shift"), classifier)(x).item() == 13
    assert Network(stages, ("shift", "twice"), classifier)(x).item() == 16
    lower, upper = cut(Network(stages, ("twice", "shift"), classifier), "shift")
    assert lower(x).item() == 10
    assert upper(torch.zeros(1, 1, 1, 1)).item() == 3


def test_trunk_and_head_are_the_two_halves_of_a_network() -> None:
    network, x = Own(), torch.randn(2, 3, 8, 8)
    features = trunk(network)(x)
    assert features.shape == (2, 5)
    assert head(network) is network.classifier[-1]
    assert torch.equal(head(network)(features), network(x))


def test_refusals() -> None:
    with pytest.raises(UsageError, match="no stage 'conv3' in this network, which has conv1, conv2; did you mean"):
        cut(Own(), "conv3")
    with pytest.raises(UsageError, match="needs `stages` and `classifier`, got a Linear without them"):
        stage_names(nn.Linear(1, 1))
    with pytest.raises(UsageError, match=r"must end in nn\.Linear, this one ends in ReLU"):
        head(Network(nn.Sequential(), (), nn.Sequential(nn.ReLU())))
