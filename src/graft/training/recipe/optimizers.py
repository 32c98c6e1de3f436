"""Optimisers by name, all from torch, and what the weight decay is for. The cards need no torch.

torch's momentum is v ← αv + ∇, w ← w − εv; the lectures write v ← αv − ε∇, w ← w + v: the same as long as the rate
stays, and after a change of rate torch's form applies the new rate to the old velocity as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from graft.errors import UsageError, nearest, shown

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    Parameters = Iterable[Tensor] | list[dict[str, Any]]  # what torch's optimisers take: tensors, or groups of them

GRADIENT_DESCENT: Final = "gd"
RANDOM_SEARCH: Final = "random-search"


@dataclass(frozen=True)
class Card:
    """An optimiser. rate: the usual base rate. whole_set: a step takes the whole training set for its batch.

    gradients: False where a step needs a closure that gives the loss, and no gradient.
    """

    name: str
    rate: float
    summary: str
    paper: str
    whole_set: bool = False
    gradients: bool = True


OPTIMIZERS: Final = (
    Card("sgd", 0.1, "w ← w − ε∇ on small batches", "Robbins and Monro, Ann. Math. Stat. 22, 1951"),
    Card("momentum", 0.05, "v ← αv + ∇, w ← w − εv", "Polyak, USSR Comp. Math. 4(5), 1964"),
    Card("nesterov", 0.05, "momentum, its gradient taken a step ahead", "Sutskever et al., ICML 2013, §2"),
    Card("adagrad", 0.01, "∇ divided by √Σ∇²", "Duchi et al., JMLR 12, 2011, §1.1"),
    Card("adadelta", 1.0, "∇ divided by RMS(∇), times RMS(Δw)", "Zeiler, 2012, algorithm 1, arXiv:1212.5701"),
    Card("rmsprop", 0.001, "∇ divided by √E[∇²], E ← 0.9 E + 0.1 ∇²", "Tieleman and Hinton, 2012, lecture 6.5"),
    Card(
        "adam", 0.001, "momentum and RMSProp, both corrected for their start", "Kingma and Ba, ICLR 2015, algorithm 1"
    ),
    Card("adamw", 0.001, "Adam with the weight decay kept out of the moments", "Loshchilov and Hutter, ICLR 2019, §2"),
    Card(GRADIENT_DESCENT, 0.1, "w ← w − ε∇ on the whole training set", "Cauchy, C. R. 25, 1847", whole_set=True),
    Card(RANDOM_SEARCH, 1.0, "draw weights, keep the better ones: the baseline", "the lectures", gradients=False),
)


def find(name: str) -> Card:
    """The card of this name. Raises UsageError for an unknown name, with the nearest one."""
    for card in OPTIMIZERS:
        if card.name == name:
            return card
    names = [card.name for card in OPTIMIZERS]
    raise UsageError(f"no optimizer {shown(name)!r}, there are {', '.join(names)}{nearest(name, names)}")


def parameter_groups(
    network: nn.Module, weight_decay: float, *, depths: Mapping[str, int] | None = None, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """The trainable parameters as torch's groups, two a depth: weights, which decay, and the rest, which does not.

    Biases, batch norm's scales and shifts and PReLU's slopes (all vectors) are the rest. An empty group is left out.
    weight_decay: λ, by which torch adds λw to the gradient. depths: stages between each parameter and the head; without
    it all are at depth 0. Each group has a `scale`, layer_decay^depth, which its rate is to be multiplied by.
    Raises UsageError if nothing is trainable.
    Source: He et al., CVPR 2019, §3.1 "no bias decay", arXiv:1812.01187; Howard and Ruder, ACL 2018, §3.2.
    """
    trainable = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    if not trainable:
        raise UsageError(f"{type(network).__name__} has no trainable parameter; unfreeze some of its stages")
    by_depth: dict[int, list[Tensor]] = {}
    for name, parameter in trainable:
        by_depth.setdefault(0 if depths is None else depths[name], []).append(parameter)
    groups = []
    for depth in sorted(by_depth):
        decaying = [parameter for parameter in by_depth[depth] if parameter.ndim > 1]
        rest = [parameter for parameter in by_depth[depth] if parameter.ndim <= 1]
        scale = layer_decay**depth
        groups.append({"params": decaying, "weight_decay": weight_decay, "scale": scale})
        groups.append({"params": rest, "weight_decay": 0.0, "scale": scale})
    return [group for group in groups if group["params"]]


def optimizer(
    name: str, parameters: Parameters, *, rate: float, momentum: float = 0.9, weight_decay: float = 0.0, seed: int = 0
) -> Optimizer:
    """One of OPTIMIZERS, ready to step.

    parameters: tensors, or torch's groups, whose own settings win over the ones here. rate: ε, above 0. momentum: α,
    0–1, read by `momentum` and `nesterov`. weight_decay: λ, of no use to `random-search`, which alone reads the seed.
    Raises UsageError for an unknown name or a value out of its range.
    """
    import torch

    from graft.training.recipe.random_search import RandomSearch

    find(name)
    if not 0 < rate < math.inf:
        raise UsageError(f"the rate must be a number above 0, got {rate:g}; usual are 0.1 to 0.0001")
    if not 0 <= momentum < 1:
        raise UsageError(f"the momentum must be from 0 to below 1, got {momentum:g}; 0.9 is usual")
    if not 0 <= weight_decay < math.inf:
        raise UsageError(f"the weight decay must be 0 or a number above it, got {weight_decay:g}; 5e-4 is usual")
    decay = weight_decay
    match name:
        case "sgd" | "gd":
            return torch.optim.SGD(parameters, lr=rate, weight_decay=decay, fused=True)
        case "momentum":
            return torch.optim.SGD(parameters, lr=rate, momentum=momentum, weight_decay=decay, fused=True)
        case "nesterov":
            if momentum == 0:
                raise UsageError("nesterov needs a momentum above 0, got 0; 0.9 is usual")
            return torch.optim.SGD(
                parameters, lr=rate, momentum=momentum, nesterov=True, weight_decay=decay, fused=True
            )
        case "adagrad":
            return torch.optim.Adagrad(parameters, lr=rate, weight_decay=decay, fused=True)
        case "adadelta":
            return torch.optim.Adadelta(parameters, lr=rate, rho=0.9, eps=1e-6, weight_decay=decay)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, lr=rate, alpha=0.9, eps=1e-8, weight_decay=decay)
        case "adam":
            return torch.optim.Adam(parameters, lr=rate, weight_decay=decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)
        case _:
            return RandomSearch(parameters, rate=rate, seed=seed)
