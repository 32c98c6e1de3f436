"""Heads that a network did not come with: on some of its stages, side by side, or behind a kernel's features.

A network with such a head keeps its stages under their own names. What stands before the linear layer of a kind of head
that is not linear is a module of MODULES, which is built from tensors of the file of weights.

Source of the kernel: Williams and Seeger, Using the Nyström method to speed up kernel machines, NIPS 2000. Departure:
their map also has the inverse root of the landmarks' own kernel matrix, which is folded into the linear layer here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from graft.errors import BadModel, UsageError, nearest
from graft.models.names import GAMMA, LANDMARKS
from graft.models.network import FEATURES, LOGITS, TOP, Built, head, outputs, side_by_side, stage_names, to_features

BEFORE_LINEAR: Final = "kernel"
"""The name, in a network's classifier, of what a kind of head has before its linear layer."""


class Headed(nn.Module):
    """A network's stages under their own names, and a head that reads some of their outputs.

    reads: names of stages, whose maps are averaged over the picture, or "features". classifier: from what is read, side
    by side (N, M), to logits (N, num_classes).
    """

    def __init__(self, network: nn.Module, reads: Sequence[str], classifier: nn.Sequential) -> None:
        super().__init__()
        self.stages = cast(nn.Module, network.stages)
        self.stage_names = stage_names(network)
        self.to_features = to_features(network)
        self.reads = tuple(reads)
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        return outputs(self, x, (LOGITS,))[LOGITS]

    def above(self, at: int) -> nn.Module:
        """The stages from number `at` up with the head: maps (N, C, h, w) → logits. Raises UsageError as `cut` does."""
        if below := [name for name in self.stage_names[:at] if name in self.reads]:
            raise UsageError(f"the head reads the stage {below[-1]!r}, which lies below this cut; cut it lower")
        return _Above(self, at)


class _Above(nn.Module):
    """The upper part of a network with a head on several stages."""

    def __init__(self, whole: Headed, at: int) -> None:
        super().__init__()
        self.names = whole.stage_names[at:]
        self.stages = nn.ModuleList(whole.stages.get_submodule(name) for name in self.names)
        self.to_features, self.reads, self.classifier = whole.to_features, whole.reads, whole.classifier

    def forward(self, x: Tensor) -> Tensor:
        found = {}
        for name, stage in zip(self.names, self.stages, strict=True):
            x = found[name] = stage(x)  # (N, C, h, w)
        if FEATURES in self.reads:
            found[FEATURES] = self.to_features(x)
        return cast(Tensor, self.classifier(side_by_side(found, self.reads)))


class KernelFeatures(nn.Module):
    """(N, D) features → (N, M) kernel values of landmarks, exp(−γ‖x/‖x‖ − landmark‖²), above 0 and at most 1.

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


@dataclass(frozen=True)
class BeforeLinear:
    """What a kind of head has before its linear layer.

    tensors: its own names of its buffers → their names in files of weights; the first is a matrix (M, D). make: the
    module for M and D, whose buffers are to be filled.
    """

    kind: str
    words: str
    tensors: Mapping[str, str]
    make: Callable[[int, int], nn.Module]


MODULES: Final = (
    BeforeLinear(
        "rbf", "a kernel machine", {"landmarks": LANDMARKS, "gamma": GAMMA},
        lambda count, width: KernelFeatures(torch.zeros(count, width), 1.0),
    ),
)  # fmt: skip
"""The kinds of heads that are not linear; all others are."""


def with_head(
    built: Built, kind: str, reads: Sequence[str], tensors: Mapping[str, Tensor], *, layer: str, file: str
) -> Built:
    """`built` with room for a head: what stands in its new layers is to be replaced by `tensors`.

    kind: as the manifest has it. reads: names from `stage_names(network)`, or "features". tensors: of the whole network
    by their published names. layer: the published name of the last linear layer. file: what an error calls the tensors.
    Raises BadModel for an output that the network does not have, or where a matrix of the head is missing.
    """
    before = next((module for module in MODULES if module.kind == kind), None)
    if before is not None:
        first = next(iter(before.tensors.values()))
        rows, width = _matrix(tensors, first, file, f"since its head is {before.words}")
        return _with_module(_reading(built, reads, width), before, rows)
    if tuple(reads) == TOP:
        return built
    _, width = _matrix(tensors, f"{layer}.weight", file, "its last layer")
    return _reading(built, reads, width)


def _reading(built: Built, reads: Sequence[str], width: int) -> Built:
    """`built` with its last linear layer on the outputs `reads`, M = `width` numbers together."""
    network = built.network
    names = (*stage_names(network), FEATURES)
    for name in reads:
        if name not in names:
            raise BadModel(f"the head reads {name!r}, which this network does not have{nearest(name, names)}")
    if tuple(reads) == TOP:
        return built
    theirs, last = _published(built), head(network)
    linear = nn.Linear(width, last.out_features)
    theirs |= {id(linear.weight): theirs[id(last.weight)], id(linear.bias): theirs[id(last.bias)]}
    headed = Headed(network, reads, nn.Sequential(OrderedDict(linear=linear))).eval()
    return replace(built, network=headed, published=_names(headed, theirs))


def _with_module(built: Built, before: BeforeLinear, rows: int) -> Built:
    """`built` with a module before its last linear layer (K, D), which becomes (K, rows); changed in place."""
    theirs, last = _published(built), head(built.network)
    linear, module = nn.Linear(rows, last.out_features), before.make(rows, last.in_features)
    theirs |= {id(linear.weight): theirs[id(last.weight)], id(linear.bias): theirs[id(last.bias)]}
    theirs |= {id(buffer): before.tensors[name] for name, buffer in module.named_buffers()}
    *below, (name, _) = cast(nn.Sequential, built.network.classifier).named_children()
    built.network.classifier = nn.Sequential(OrderedDict([*below, (BEFORE_LINEAR, module), (name, linear)])).eval()
    return replace(built, published=_names(built.network, theirs))


def _published(built: Built) -> dict[int, str]:
    """The published name of each tensor, by its identity."""
    return {id(tensor): built.published[ours] for ours, tensor in built.network.state_dict(keep_vars=True).items()}


def _names(network: nn.Module, theirs: Mapping[int, str]) -> dict[str, str]:
    """Our name of each tensor of a network → its published one."""
    return {ours: theirs[id(tensor)] for ours, tensor in network.state_dict(keep_vars=True).items()}


def _matrix(tensors: Mapping[str, Tensor], name: str, file: str, why: str) -> tuple[int, int]:
    """Rows and columns of a matrix of the file. Raises BadModel where it is missing."""
    if name not in tensors or tensors[name].ndim < 2:
        raise BadModel(f"{file} needs a matrix {name}, {why}, and holds none; get a sound copy of the model")
    return int(tensors[name].shape[0]), int(tensors[name].shape[1])
