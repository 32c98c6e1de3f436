"""The contract that every network keeps, and what it makes possible: freezing, cutting, caching, a probe at any stage.

A network is an `nn.Module` with two attributes:

stages      a module that holds the stages. Their names are its children's, in order, unless the network lists them
            itself in `stage_names` (then each is the path of a submodule of `stages`, such as `blocks.5`).
classifier  an `nn.Sequential` that takes the last stage's maps (N, C, h, w); its last module is the linear layer that
            gives the logits, so what comes before that layer are the features a new head is grown on.

`forward` composes them, in this order, and nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from graft.errors import UsageError, nearest

CLASSIFIER = "classifier"
FEATURES = "features"
"""The output that the network's own last linear layer takes."""
LOGITS = "logits"
TOP = (FEATURES,)
"""What a head reads that stands where the network's own last layer stood."""


@runtime_checkable
class Staged(Protocol):
    """What the functions below need of an `nn.Module`."""

    stages: nn.Module
    classifier: nn.Sequential


class Network(nn.Module):
    """Stages given as modules, then a classifier: (N, C, H, W) pictures → (N, num_classes) logits.

    For networks that are assembled from another library's parts; our own networks are classes of their own that keep
    the same contract. stage_names: paths of submodules of `stages`, in the order they run.
    """

    def __init__(self, stages: nn.Module, stage_names: tuple[str, ...], classifier: nn.Sequential) -> None:
        super().__init__()
        self.stages = stages
        self.stage_names = stage_names
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        for name in self.stage_names:
            x = self.stages.get_submodule(name)(x)
        return cast(Tensor, self.classifier(x))


@dataclass(frozen=True)
class Built:
    """A network and what its weights go with, whichever library it comes from.

    published: our name of each parameter and buffer → its name in files of weights (for our own networks the same).
    size: side of the input, pixels. mean, std: per channel, 0–1. interpolation: how pictures are resized to evaluate
    it.
    """

    network: nn.Module
    published: dict[str, str]
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str


def stage_names(network: nn.Module) -> tuple[str, ...]:
    """The names of a network's stages, from the picture upwards.

    Raises UsageError for a module that does not keep the contract of this file.
    """
    if not isinstance(network, Staged):
        raise UsageError(
            f"a network needs `stages` and `classifier`, got a {type(network).__name__} without them; "
            "build it with graft.models.build"
        )
    listed = getattr(network, "stage_names", None)
    return tuple(listed) if listed else tuple(name for name, _ in network.stages.named_children())


def stages_of(network: nn.Module) -> list[nn.Module]:
    """A network's stages, from the picture upwards. Raises UsageError as `stage_names` does."""
    names = stage_names(network)
    return [cast(Staged, network).stages.get_submodule(name) for name in names]


def cut(network: nn.Module, stage: str) -> tuple[nn.Sequential, nn.Module]:
    """Two parts that share the network's weights: what runs before `stage`, and `stage` with all above it.

    stage: a name from `stage_names(network)`, or "classifier". `upper(lower(x))` equals `network(x)`.
    Raises UsageError when there is no such stage, or when the head reads one below it.
    """
    names = stage_names(network)
    if stage not in (*names, CLASSIFIER):
        raise UsageError(f"no stage {stage!r} in this network, which has {', '.join(names)}{nearest(stage, names)}")
    assert isinstance(network, Staged)
    modules = stages_of(network)
    at = (*names, CLASSIFIER).index(stage)
    lower = nn.Sequential(*modules[:at])
    if not hasattr(network, "reads"):
        return lower, nn.Sequential(*modules[at:], network.classifier)
    return lower, network.above(at)  # type: ignore[operator]


def outputs(network: nn.Module, x: Tensor, names: Collection[str]) -> dict[str, Tensor]:
    """What a network gives on its way, by name, from one pass that ends with the highest output asked for.

    x: (N, C, H, W). names: of stages, whose maps (N, C, h, w) are handed out as they are; "features", (N, D), what the
    last linear layer takes; "logits", (N, num_classes). Raises UsageError for another name.
    """
    stages = stage_names(network)
    for name in names:
        if name not in (*stages, FEATURES, LOGITS):
            known = (*stages, FEATURES, LOGITS)
            raise UsageError(f"no output {name!r} of this network, which has {', '.join(known)}{nearest(name, known)}")
    reads = reads_of(network) if LOGITS in names else ()
    wanted = {*names, *reads}
    found: dict[str, Tensor] = {}
    for name, stage in zip(stages, stages_of(network), strict=True):
        if wanted <= {*found, LOGITS}:
            break
        x = stage(x)  # (N, C, h, w)
        if name in wanted:
            found[name] = x
    if FEATURES in wanted:
        found[FEATURES] = to_features(network)(x)  # (N, D)
    if LOGITS in names:
        last = head_modules(network)
        found[LOGITS] = last(side_by_side(found, reads))  # (N, num_classes)
    return {name: found[name] for name in names}


def side_by_side(found: Mapping[str, Tensor], reads: Sequence[str]) -> Tensor:
    """What a head reads: maps (N, C, h, w) averaged over the picture, features as they are, joined to (N, M)."""
    parts = [x if x.ndim == 2 else adaptive_avg_pool2d(x, 1).flatten(1) for x in (found[name] for name in reads)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def reads_of(network: nn.Module) -> tuple[str, ...]:
    """The outputs that a network's head reads: its features, unless the network says otherwise."""
    return tuple(getattr(network, "reads", TOP))


def to_features(network: nn.Module) -> nn.Sequential:
    """From the last stage's maps (N, C, h, w) to the features (N, D)."""
    own = getattr(network, "to_features", None)
    return own if isinstance(own, nn.Sequential) else nn.Sequential(*list(cast(nn.Sequential, network.classifier))[:-1])


def head_modules(network: nn.Module) -> nn.Sequential:
    """From what a network's head reads, (N, M), to the logits (N, num_classes)."""
    classifier = cast(nn.Sequential, network.classifier)
    return classifier if hasattr(network, "reads") else nn.Sequential(list(classifier)[-1])


def trunk(network: nn.Module) -> nn.Sequential:
    """All of a network but its last linear layer: (N, C, H, W) pictures → (N, D) features for a new head."""
    return nn.Sequential(*stages_of(network), *to_features(network))


class StageFeatures(nn.Module):
    """(N, C, H, W) pictures → (N, Σ widths): every stage's maps averaged over the picture, then the features.

    `widths(x)` says how wide each of them is, in the order of `stage_names(network)` with the features last.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages_of(network))
        self.to_features = to_features(network)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(self.each(x), dim=1)

    def each(self, x: Tensor) -> list[Tensor]:
        """(N, width) of each stage, and the features."""
        found = []
        for stage in self.stages:
            x = stage(x)  # (N, C, h, w)
            found.append(adaptive_avg_pool2d(x, 1).flatten(1))
        return [*found, self.to_features(x)]

    def widths(self, x: Tensor) -> tuple[int, ...]:
        """The width of each, found by running pictures x (N, C, H, W)."""
        with torch.inference_mode():
            return tuple(one.shape[1] for one in self.each(x))


def head(network: nn.Module) -> nn.Linear:
    """The network's last linear layer: (N, D) features → (N, num_classes) logits."""
    last = list(cast(nn.Sequential, network.classifier))[-1]
    if not isinstance(last, nn.Linear):
        raise UsageError(f"a network's classifier must end in nn.Linear, this one ends in {type(last).__name__}")
    return last
