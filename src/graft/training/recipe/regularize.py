"""Regularisers: penalties on the weights, a limit on their norms, and noise in the network while it trains.

The `with_…` functions change a network in place and return it. They add no parameter and rename none, so a network's
weights load and save as before, and without training (`network.eval()`) it computes what it did. Their noise comes
from torch's own generator. L2 is also every optimiser's `weight_decay`, batch norm is part of the networks, and
cutout, mixup and the rest of the augmentation work on the pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graft.errors import UsageError

DROP_PATH: Final = "drop_path"  # the child of a residual block that its branch passes before it joins the shortcut


def penalty(network: nn.Module, *, l1: float = 0.0, l2: float = 0.0) -> Tensor:
    """l1 · Σ|w| + l2 · Σw² over the trainable weights, to be added to the loss; both together are the elastic net.

    Biases, batch norm's scales and shifts (all vectors) are left out. The lectures' λ Σ(β w² + |w|) is l1 = λ, l2 = λβ.
    An optimiser's weight decay λ is l2 = λ/2.
    Returns a scalar ≥ 0. Raises ValueError for a negative factor. Source: Zou and Hastie, JRSS B 67(2), 2005, eq. 3.
    """
    if l1 < 0 or l2 < 0:
        raise ValueError(f"penalty needs l1 and l2 of at least 0, got {l1:g} and {l2:g}")
    weights = [weight for weight in network.parameters() if weight.requires_grad and weight.ndim > 1]
    total = torch.zeros((), device=weights[0].device if weights else None)
    for weight in weights:
        if l1:
            total = total + l1 * weight.abs().sum()
        if l2:
            total = total + l2 * weight.square().sum()
    return total


@torch.no_grad()
def max_norm_(network: nn.Module, limit: float) -> None:
    """Shorten the weights that come into a unit to an L2 norm of `limit`, wherever it is larger: call after each step.

    A unit is an output of a linear layer or a filter of a convolution; its bias does not count.
    Raises ValueError unless limit > 0. Source: Srivastava et al., JMLR 15, 2014, §5.1.
    """
    if not limit > 0:
        raise ValueError(f"max_norm_ needs a limit above 0, got {limit:g}; 3 to 4 is usual")
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and module.weight.requires_grad:
            module.weight.renorm_(p=2, dim=0, maxnorm=limit)


def with_dropout(network: nn.Module, p: float) -> nn.Module:
    """Drop a unit with probability p: in the network's own dropout layers, or if it has none before its linear layers.

    Returns the network. Raises UsageError for p outside 0 ≤ p < 1, or a network with neither.
    Source: Srivastava et al., JMLR 15, 2014, §4; the kept are scaled by 1/(1 − p) while training, as torch does it.
    """
    _check_probability("dropout", p)
    own = [module for module in network.modules() if isinstance(module, nn.Dropout)]
    for dropout in own:
        dropout.p = p
    if own:
        return network
    chains = [
        module
        for module in network.modules()
        if isinstance(module, nn.Sequential) and any(isinstance(child, nn.Linear) for child in module)
    ]
    if not chains:
        raise UsageError(f"{type(network).__name__} has no linear layer to put dropout before; leave dropout out")
    for chain in chains:
        children = list(chain.named_children())
        for name, _ in children:
            delattr(chain, name)
        for name, child in children:  # back in their order and by their names
            if isinstance(child, nn.Linear):
                chain.add_module(f"dropout_{name}", nn.Dropout(p).train(chain.training))
            chain.add_module(name, child)
    return network


class DropConnectLinear(nn.Linear):
    """A linear layer that drops each of its weights and biases with probability p: (N, in) → (N, out).

    It shares the parameters of `linear`, which it takes the place of.
    Source: Wan et al., ICML 2013, §3 (there p is the probability to keep). Departures: one mask for a batch, not one
    for each sample; the kept are scaled by 1/(1 − p) while training, so that prediction uses the weights as they are
    where the paper draws from a Gaussian.
    """

    def __init__(self, linear: nn.Linear, p: float) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        self.weight = linear.weight
        self.bias = linear.bias
        self.p = p
        self.train(linear.training)

    def forward(self, x: Tensor) -> Tensor:
        weight = F.dropout(self.weight, self.p, self.training)
        bias = None if self.bias is None else F.dropout(self.bias, self.p, self.training)
        return F.linear(x, weight, bias)


def with_dropconnect(network: nn.Module, p: float) -> nn.Module:
    """Drop single weights of the linear layers with probability p, see `DropConnectLinear`.

    Returns the network. Raises UsageError for p outside 0 ≤ p < 1, or a network without a linear layer inside.
    """
    _check_probability("DropConnect", p)
    if not _replace_linear(network, lambda linear: DropConnectLinear(linear, p)):
        raise UsageError(f"{type(network).__name__} has no linear layer for DropConnect; leave dropconnect out")
    return network


def with_stochastic_depth(network: nn.Module, p: float) -> nn.Module:
    """Skip the branch of a residual block for a sample: never before the first, with probability p at the last of them.

    In between it grows linearly: block l of L is skipped with probability p · l/L. A block is any module with a place
    for it, `drop_path`, as our residual blocks and timm's have.
    Returns the network. Raises UsageError for p outside 0 ≤ p < 1, or a network without residual blocks.
    Source: Huang et al., ECCV 2016, §3, eq. 4, arXiv:1603.09382. Departures: drawn for each sample, not for the batch;
    a branch that stays is scaled by 1/(1 − p) while training, where the paper scales by 1 − p when it predicts.
    """
    from torchvision.ops import StochasticDepth  # type: ignore[import-untyped]

    _check_probability("stochastic depth", p)
    blocks = [module for module in network.modules() if hasattr(module, DROP_PATH)]
    if not blocks:
        raise UsageError(
            f"{type(network).__name__} has no residual blocks to skip; choose a residual network, such as resnet18, "
            "or leave stochastic depth out"
        )
    for number, block in enumerate(blocks, start=1):
        setattr(block, DROP_PATH, StochasticDepth(p * number / len(blocks), mode="row").train(block.training))
    return network


def _replace_linear(network: nn.Module, make: Callable[[nn.Linear], nn.Module]) -> int:
    """Put `make(layer)` in the place of every linear layer inside the network; returns how many there were."""
    found = [
        (parent, name, child)
        for parent in network.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Linear)
    ]
    for parent, name, child in found:
        setattr(parent, name, make(child))
    return len(found)


def _check_probability(what: str, p: float) -> None:
    if not 0 <= p < 1:
        raise UsageError(f"{what} needs a probability from 0 to below 1, got {p:g}")
