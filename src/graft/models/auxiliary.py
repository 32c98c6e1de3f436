"""Auxiliary classifiers: small heads on middle stages that send a gradient down while training, and only then.

A network that has them keeps them in `auxiliary`, an `nn.ModuleDict` from the name of a stage to the head that reads
that stage's maps. `forward` never runs them, so a network predicts, cuts and exports the same with them or without;
`WithAuxiliary` is the form in which such a network is trained.

Source: Szegedy et al., CVPR 2015, §5, arXiv:1409.4842.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, cast

from torch import Tensor, nn

from graft.errors import UsageError
from graft.models.network import stage_names

WEIGHT: Final = 0.3  # of each auxiliary loss in the sum, §5


class WithAuxiliary(nn.Module):
    """A network with its auxiliary classifiers: (N, C, H, W) → logits (N, K); while it trains, all logits in a tuple.

    The tuple begins with the network's own. It is the network itself whose weights are trained.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        if not self.training:
            return cast(Tensor, self.network(x))
        logits, auxiliary = logits_with_auxiliary(self.network, x)
        return logits, *auxiliary


def trained_form(network: nn.Module) -> nn.Module:
    """What is to be trained in place of a network: with its auxiliary classifiers where it has any, else itself."""
    return WithAuxiliary(network) if len(getattr(network, "auxiliary", ())) else network


def logits_with_auxiliary(network: nn.Module, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The network's own logits and those of its auxiliary classifiers, from one pass over the stages.

    x: (N, C, H, W) at the size of the paper. Returns (N, num_classes), and one (N, num_classes) for each auxiliary
    classifier, lowest first. Raises UsageError for a network without auxiliary classifiers.
    """
    heads = getattr(network, "auxiliary", None)
    if not isinstance(heads, nn.ModuleDict) or not len(heads):
        raise UsageError(
            f"a network with auxiliary classifiers is needed, this {type(network).__name__} has none; "
            "create it with auxiliary=True, or call it as it is"
        )
    collected = []
    for name in stage_names(network):
        x = network.get_submodule(f"stages.{name}")(x)
        if name in heads:
            collected.append(heads[name](x))
    return network.get_submodule("classifier")(x), tuple(collected)


def total_loss(
    loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, auxiliary: Sequence[Tensor], targets: Tensor
) -> Tensor:
    """loss(logits, targets) + 0.3 × the same loss of every auxiliary classifier's logits: what training minimises."""
    total = loss(logits, targets)
    for extra in auxiliary:
        total = total + WEIGHT * loss(extra, targets)
    return total
