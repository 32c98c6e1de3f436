"""A head on earlier stages of a network, or on several at once: their maps averaged over the picture, side by side."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from graft.errors import BadModel, nearest
from graft.models.network import Built, Ladder, Network, head, stage_names

TOP = "features"
"""The uppermost rung: what the network's own last linear layer takes."""


class Rungs(nn.Module):
    """(N, C, H, W) pictures → (N, M): the chosen rungs of a network's ladder, side by side."""

    def __init__(self, network: nn.Module, chosen: Sequence[int]) -> None:
        super().__init__()
        self.ladder = Ladder(network)
        self.chosen = tuple(chosen)

    def forward(self, x: Tensor) -> Tensor:
        rungs = self.ladder.rungs(x)
        return torch.cat([rungs[number] for number in self.chosen], dim=1)


def with_rungs(built: Built, rungs: Sequence[str], width: int) -> Built:
    """`built` with its last linear layer on `rungs` of its ladder, M = `width` features together, not on the top.

    rungs: names from `stage_names(network)`, or "features". The network becomes one of a single stage, which holds all
    of the old one but that layer. Raises BadModel for a rung that the network does not have.
    """
    names = (*stage_names(built.network), TOP)
    for rung in rungs:
        if rung not in names:
            raise BadModel(f"the head stands on {rung!r}, which this network does not have{nearest(rung, names)}")
    last = head(built.network)
    theirs = {id(tensor): built.published[ours] for ours, tensor in built.network.state_dict(keep_vars=True).items()}
    (weight, bias) = (theirs[id(tensor)] for tensor in (last.weight, last.bias))
    linear = nn.Linear(width, last.out_features)
    theirs |= {id(linear.weight): weight, id(linear.bias): bias}
    stages = nn.ModuleDict({"rungs": Rungs(built.network, [names.index(rung) for rung in rungs])})
    network = Network(stages, ("rungs",), nn.Sequential(OrderedDict(linear=linear))).eval()
    published = {ours: theirs[id(tensor)] for ours, tensor in network.state_dict(keep_vars=True).items()}
    return replace(built, network=network, published=published)
