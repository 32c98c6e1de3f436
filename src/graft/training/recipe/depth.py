"""Fine-tuning by depth: how far from the head each parameter stands, how fast it learns, and from when on.

The lectures' rule: the new head first, at a normal rate; then the top of the network at a tenth of it and its middle at
a hundredth, for what lies below is the more general the lower it lies.

Sources: Howard and Ruder, ACL 2018, §3.2 (rates that fall from layer to layer, and unfreezing from the top), arXiv
1801.06146; Yosinski et al., NeurIPS 2014, §2 (general and specific layers), arXiv 1411.1792.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graft.errors import UsageError
from graft.training.recipe.settings import Recipe

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Unfreezing:
    """When the stages of a network begin to train. Frozen is all that does not train yet.

    depths: of each parameter that is to train at all. head_steps: in which the head trains alone. steps: of the run.
    gradual: the stages join one by one, the highest first, at equal parts of what is left of the first half of the run;
    else all join when the head has had its steps.
    """

    depths: Mapping[str, int]
    head_steps: int
    steps: int
    gradual: bool

    @property
    def deepest(self) -> int:
        """The depth of the lowest stage that is to train."""
        return max(self.depths.values(), default=0)

    def reach(self, step: int) -> int:
        """The depth down to which the network trains in this step, 0 being the head alone."""
        if step < self.head_steps:
            return 0
        span = self.steps / 2 - self.head_steps
        if not self.gradual or span <= 0:
            return self.deepest
        return min(self.deepest, 1 + int((step - self.head_steps) * self.deepest / span))

    def apply(self, network: nn.Module, reach: int) -> None:
        """Let the parameters down to a depth take gradients, and no others."""
        for name, parameter in network.named_parameters():
            if name in self.depths:
                parameter.requires_grad_(self.depths[name] <= reach)


def unfreezing(
    network: nn.Module,
    depths: Mapping[str, int] | None,
    settings: Recipe,
    *,
    steps: int,
    steps_per_epoch: int,
) -> Unfreezing:
    """When each stage begins to train, by the settings; what takes no gradient now never will."""
    trainable = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    return Unfreezing(
        depths={name: 0 if depths is None else depths[name] for name in trainable},
        head_steps=round(settings.head_epochs * steps_per_epoch),
        steps=steps,
        gradual=settings.unfreeze == "gradual",
    )


def check_depths(network: nn.Module, depths: Mapping[str, int] | None, settings: Recipe) -> None:
    """Raise UsageError where the settings go by depth and the depths are missing or another network's."""
    by_depth = settings.layer_decay != 1 or settings.head_epochs > 0 or settings.unfreeze == "gradual"
    if depths is None:
        if by_depth:
            raise UsageError(
                "layer_decay, head_epochs and unfreeze go by the stages of a pretrained network, got a run without; "
                "leave them out, or fine-tune"
            )
        return
    trainable = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    if unknown := [name for name in trainable if name not in depths]:
        raise UsageError(
            f"depths must name every parameter that trains, {unknown[0]} is missing; give the depths of this network"
        )
    if by_depth and all(depths[name] > 0 for name in trainable):
        raise UsageError("the head must train when stages are unfrozen one after another, got it frozen; unfreeze it")
