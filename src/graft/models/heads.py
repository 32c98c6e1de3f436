"""Heads that a network did not come with: on several of its stages at once, or a kernel machine on what they read.

Source: Williams and Seeger, Using the Nyström method to speed up kernel machines, NIPS 2000. Departure: their map also
has the inverse root of the landmarks' own kernel matrix, which is folded into the linear layer here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from graft.errors import BadModel, nearest
from graft.models.network import Built, Ladder, Network, head, stage_names

KERNEL = "kernel"
"""The name of the module in a network's classifier."""


class KernelFeatures(nn.Module):
    """(N, D) features → (N, M) likenesses to landmarks, exp(−γ‖x/‖x‖ − landmark‖²), above 0 and at most 1.

    landmarks: (M, D), each of length 1. gamma: above 0. Both are buffers: fine-tuning leaves them as they are.
    """

    landmarks: Tensor
    gamma: Tensor

    def __init__(self, landmarks: Tensor, gamma: float) -> None:
        super().__init__()
        self.register_buffer("landmarks", landmarks)
        self.register_buffer("gamma", torch.tensor(gamma, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        cosines = functional.normalize(x, dim=1) @ self.landmarks.T  # (N, M)
        return torch.exp(2 * self.gamma * (cosines - 1))  # ‖a − b‖² = 2 − 2·cosine for vectors of length 1


def with_kernel(built: Built, count: int, *, landmarks: str, gamma: str) -> Built:
    """`built` with room for a kernel machine of `count` landmarks: its last linear layer (K, D) becomes (K, count).

    landmarks, gamma: the names of the kernel's tensors in files of weights. What stands in the new layers is to be
    replaced. The network is changed in place.
    """
    last = head(built.network)
    classifier = cast(nn.Sequential, built.network.classifier)
    *below, (name, _) = classifier.named_children()
    grown = OrderedDict([
        *below,
        (KERNEL, KernelFeatures(torch.zeros(count, last.in_features), 1.0)),
        (name, nn.Linear(count, last.out_features)),
    ])  # fmt: skip
    network = built.network
    network.classifier = nn.Sequential(grown).eval()
    ours = next(key for key in network.state_dict() if key.endswith(f"{KERNEL}.landmarks"))
    owner = ours.removesuffix("landmarks")
    return replace(built, published={**built.published, ours: landmarks, f"{owner}gamma": gamma})


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
