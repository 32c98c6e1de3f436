"""How a network's weights start: one function for each rule that a paper states, applied to a whole network in place.

Biases start at 0, batch norm as the identity (scale 1, shift 0) and the draws come from torch's own generator, which
`graft.models.catalog.create` seeds. Call them last in a network's constructor, or choose one by name: `initialize`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from torch import nn

from graft.errors import UsageError, nearest, shown


def _weighted(network: nn.Module) -> Iterator[nn.Conv2d | nn.Linear]:
    """Every convolution and linear layer, in order, its bias already 0.

    Those on the meta device are left out: there is nothing to fill, and torch imports its compiler to say so.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and not module.weight.is_meta:
            if module.bias is not None:
                nn.init.zeros_(module.bias)
            yield module


def gaussian(network: nn.Module, std: float = 0.01) -> None:
    """N(0, std²) for every weight. Source: Krizhevsky et al., NeurIPS 2012, §5."""
    for layer in _weighted(network):
        nn.init.normal_(layer.weight, std=std)


def truncated_gaussian(network: nn.Module, std: float) -> None:
    """N(0, std²) cut off at two deviations, as the Inception networks' authors' code draws it."""
    for layer in _weighted(network):
        nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)


def glorot(network: nn.Module) -> None:
    """Uniform within ±√(6 / (fan_in + fan_out)). Source: Glorot and Bengio, AISTATS 2010, eq. 16."""
    for layer in _weighted(network):
        nn.init.xavier_uniform_(layer.weight)


def glorot_normal(network: nn.Module) -> None:
    """N(0, 2 / (fan_in + fan_out)). Source: Glorot and Bengio, AISTATS 2010, eq. 12."""
    for layer in _weighted(network):
        nn.init.xavier_normal_(layer.weight)


def he(network: nn.Module) -> None:
    """N(0, 2 / fan) for weights before a ReLU: fan_out for convolutions, fan_in for linear layers.

    The paper finds either fan enough for convolutions; fan_out is what the networks' published code uses. In a grouped
    convolution a weight sees its own group only.
    Source: He et al., ICCV 2015, eq. 10 and 14, arXiv:1502.01852.
    """
    for layer in _weighted(network):
        if isinstance(layer, nn.Conv2d):
            fan = layer.out_channels // layer.groups * math.prod(layer.kernel_size)
        else:
            fan = layer.in_features
        nn.init.normal_(layer.weight, std=math.sqrt(2 / fan))


def lecun(network: nn.Module) -> None:
    """Uniform within ±2.4 / fan_in. Source: LeCun et al., Proc. IEEE 86(11), 1998, appendix A."""
    for layer in _weighted(network):
        bound = 2.4 / math.prod(layer.weight.shape[1:])
        nn.init.uniform_(layer.weight, -bound, bound)


@dataclass(frozen=True)
class Initialization:
    """A named start. draw: sets every weight of a network, and its biases to 0; rule: for people; paper: its source."""

    name: str
    draw: Callable[[nn.Module], None]
    rule: str
    paper: str


INITIALIZATIONS: Final = (
    Initialization("gaussian-0.001", partial(gaussian, std=0.001), "N(0, 0.001²)", "the lectures"),
    Initialization("gaussian-0.01", gaussian, "N(0, 0.01²)", "Krizhevsky et al., NeurIPS 2012, §5"),
    Initialization(
        "xavier-uniform", glorot, "U(±√(6 / (fan_in + fan_out)))", "Glorot and Bengio, AISTATS 2010, eq. 16"
    ),
    Initialization(
        "xavier-normal", glorot_normal, "N(0, 2 / (fan_in + fan_out))", "Glorot and Bengio, AISTATS 2010, eq. 12"
    ),
    Initialization("he", he, "N(0, 2 / fan), before ReLUs", "He et al., ICCV 2015, eq. 10 and 14"),
    Initialization("lecun", lecun, "U(±2.4 / fan_in)", "LeCun et al., Proc. IEEE 86(11), 1998, appendix A"),
)


def find(name: str) -> Initialization:
    """The initialisation of this name. Raises UsageError for an unknown name, with the nearest one."""
    for initialization in INITIALIZATIONS:
        if initialization.name == name:
            return initialization
    names = [initialization.name for initialization in INITIALIZATIONS]
    raise UsageError(f"no initialization {shown(name)!r}, there are {', '.join(names)}{nearest(name, names)}")


def initialize(network: nn.Module, name: str, *, bias: float = 0.0) -> nn.Module:
    """Start every convolution and linear layer of a network anew, by name; the network is changed and returned.

    bias: what all their biases start at; small and positive (0.01 to 0.1) lets ReLUs begin in their linear part.
    Raises UsageError for an unknown name, and for a bias that is negative or not finite.
    """
    initialization = find(name)
    if not 0 <= bias < math.inf:
        raise UsageError(f"biases must start at 0 or a small positive number, got {bias:g}")
    initialization.draw(network)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.constant_(layer.bias, bias)
    return network
