"""The activations of the lectures by name, and how one takes the place of a network's own.

Our networks have a module for each activation, so a change of it is a change of modules; weights keep their names.
Maxout is the maximum of several linear pieces, so the layer below it becomes as many times wider: it fits wherever an
activation follows a convolution or a linear layer (with or without batch norm between), and not where branches join.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, cast

import torch
from torch import Tensor, nn

from graft.errors import UsageError, nearest, shown

PIECES: Final = 2  # of a maxout unit
GATE: Final = "gate"  # a sigmoid of this name weighs channels, in squeeze-and-excitation: not an activation


class Maxout(nn.Module):
    """(N, pieces · C, …) → (N, C, …): unit c is the largest of the channels pieces · c … pieces · c + pieces − 1.

    Source: Goodfellow et al., ICML 2013, §3, arXiv:1302.4389.
    """

    def __init__(self, pieces: int = PIECES) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        units = x.shape[1] // self.pieces
        return x.reshape(x.shape[0], units, self.pieces, *x.shape[2:]).amax(dim=2)


@dataclass(frozen=True)
class Activation:
    """A named activation. make: a new module of it; formula: for people; paper: where it is from."""

    name: str
    make: Callable[[], nn.Module]
    formula: str
    paper: str


ACTIVATIONS: Final = (
    Activation("sigmoid", nn.Sigmoid, "1 / (1 + e^(−x))", "the lectures"),
    Activation("tanh", nn.Tanh, "tanh x", "LeCun et al., Proc. IEEE 86(11), 1998"),
    Activation("relu", nn.ReLU, "max(0, x)", "Nair and Hinton, ICML 2010; Krizhevsky et al., NeurIPS 2012, §3.1"),
    Activation("leaky-relu", lambda: nn.LeakyReLU(0.1), "max(0.1 x, x)", "Maas et al., ICML 2013; 0.1: the lectures"),
    Activation("prelu", nn.PReLU, "max(a x, x), a learnt, one for each layer", "He et al., ICCV 2015, §2.1"),
    Activation("maxout", Maxout, "max(w₁·x + b₁, w₂·x + b₂)", "Goodfellow et al., ICML 2013, §3"),
    Activation("elu", nn.ELU, "x above 0, e^x − 1 below", "Clevert et al., ICLR 2016, eq. 15"),
)

_REPLACED: Final = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SiLU, nn.Tanh, nn.Sigmoid)


def find(name: str) -> Activation:
    """The activation of this name. Raises UsageError for an unknown name, with the nearest one."""
    for activation in ACTIVATIONS:
        if activation.name == name:
            return activation
    names = [activation.name for activation in ACTIVATIONS]
    raise UsageError(f"no activation {shown(name)!r}, there are {', '.join(names)}{nearest(name, names)}")


def with_activation(network: nn.Module, name: str) -> nn.Module:
    """Put this activation in the place of every activation of a network, which is changed and returned.

    PReLU adds its slopes to the parameters. Maxout doubles the outputs of the layers below it; their new weights are
    drawn, with torch's generator, from a Gaussian as wide as the old ones. Call it before weights are loaded.
    Raises UsageError for an unknown name, a network without activations, and maxout where it does not fit.
    """
    activation = find(name)
    places = list(_places(network))
    if not places:
        raise UsageError(f"{type(network).__name__} has no activation that can be changed; leave activation out")
    if activation.make is Maxout:
        feeders = [_feeding(parent, key, type(network).__name__) for parent, key in places]
        for parent, keys in feeders:
            for key in keys:
                setattr(parent, key, _widened(getattr(parent, key)))
    for parent, key in places:
        setattr(parent, key, activation.make().train(parent.training))
    return network


def _places(network: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Every activation inside a network, as its parent and its name there."""
    for parent in network.modules():
        for key, child in parent.named_children():
            if isinstance(child, _REPLACED) and key != GATE:
                yield parent, key


def _feeding(parent: nn.Module, key: str, network: str) -> tuple[nn.Module, tuple[str, ...]]:
    """The layers that widen for a maxout at `parent.key`: a convolution or linear layer, and a batch norm after it.

    Siblings run in the order they are listed; in a module that is no nn.Sequential, which may join branches, there is
    no telling. Raises UsageError where no such layer stands right before.
    """
    children = dict(parent.named_children())
    before = list(children)[: list(children).index(key)] if isinstance(parent, nn.Sequential) else []
    widen = before[-2:] if before and isinstance(children[before[-1]], nn.BatchNorm2d) else before[-1:]
    if not widen or not isinstance(children[widen[0]], nn.Conv2d | nn.Linear):
        raise UsageError(
            f"maxout must follow a convolution or linear layer, and in {network} {key!r} of {type(parent).__name__} "
            "does not; choose a network without shortcuts, such as lenet5 or vgg11"
        )
    return parent, tuple(widen)


def _widened(layer: nn.Module) -> nn.Module:
    """A new layer with PIECES times the outputs: weights drawn as wide as the old ones, biases and scales repeated."""
    new: nn.Module
    if isinstance(layer, nn.Linear):
        new = nn.Linear(layer.in_features, PIECES * layer.out_features, bias=layer.bias is not None)
    elif isinstance(layer, nn.Conv2d):
        new = nn.Conv2d(
            layer.in_channels,
            PIECES * layer.out_channels,
            cast(tuple[int, int], layer.kernel_size),
            stride=cast(tuple[int, int], layer.stride),
            padding=layer.padding if isinstance(layer.padding, str) else cast(tuple[int, int], layer.padding),
            dilation=cast(tuple[int, int], layer.dilation),
            groups=layer.groups,
            bias=layer.bias is not None,
        )
    else:
        assert isinstance(layer, nn.BatchNorm2d), "only what _feeding finds is widened"
        new = nn.BatchNorm2d(PIECES * layer.num_features, eps=layer.eps, momentum=layer.momentum)
    with torch.no_grad():
        for name, old in layer.named_parameters():
            fresh = new.get_parameter(name)
            if old.is_meta:  # its weights are still to come
                continue
            if old.ndim > 1:
                nn.init.normal_(fresh, std=float(old.std()))
            else:
                fresh.copy_(old.repeat_interleave(PIECES))
    return new.train(layer.training)
