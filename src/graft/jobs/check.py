"""`graft check`: whether a network's gradients are right, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from graft.errors import UsageError
from graft.training.checks import gradients
from graft.training.checks.gradients import LayerGradient
from graft.training.recipe.losses import CROSS_ENTROPY, loss_function

if TYPE_CHECKING:
    from torch import nn

CLASSES: Final = 10
PICTURES: Final = 2  # looked at in eval mode; batch norm's own statistics need the more of them below
TRAINING_PICTURES: Final = 4
LEAST_TRAINING_SIDE: Final = 16  # pixels, so that batch norm sees more than one place in most maps
SMALL: Final = 100  # tensors, up to which a network is compared on ten coordinates of each; above, on two


@dataclass(frozen=True)
class GradientReport:
    """What `check_gradients` found. input: (N, C, H, W) of the drawn pictures. fault: the layer at fault, if any."""

    network: str
    loss: str
    mode: str
    input: tuple[int, ...]
    gradients: tuple[LayerGradient, ...]
    fault: str | None

    @property
    def passed(self) -> bool:
        """Whether no tensor is wrong, and at least one could be told to be right."""
        return gradients.passed(self.gradients)


def check_gradients(
    network: str,
    *,
    loss: str = CROSS_ENTROPY,
    coordinates: int | None = None,
    training: bool = False,
    seed: int = 0,
) -> GradientReport:
    """Hold the gradients of a freshly drawn network against differences, in float64, on drawn pictures.

    network: a name that `graft networks` lists, or timm:NAME. loss: one of `graft.training.recipe.losses.LOSSES`.
    coordinates: compared in each tensor; ten, or two where there are more than a hundred tensors. training: in train
    mode, where batch norm takes the batch's statistics. The pictures are as small as the network takes.
    Raises UsageError for an unknown name or loss, or coordinates below 1.
    """
    import torch

    if coordinates is not None and coordinates < 1:
        raise UsageError(f"--coordinates must be 1 or more, got {coordinates}; leave it out for the usual number")
    chosen = loss_function(loss)
    network, built, (channels, side) = _fresh(network, seed, training)
    count = TRAINING_PICTURES if training else PICTURES
    x = torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(seed))  # (N, C, H, W)
    target = torch.arange(count)
    if coordinates is None:
        coordinates = 10 if sum(1 for _ in built.parameters()) <= SMALL else 2
    found = gradients.gradient_check(built, chosen, x, target, coordinates=coordinates, training=training, seed=seed)
    wrong = any(gradient.verdict == "wrong" for gradient in found)
    fault = gradients.find_fault(built, chosen, x, target, training=training, seed=seed) if wrong else None
    return GradientReport(network, loss, "train" if training else "eval", tuple(x.shape), found, fault)


def _fresh(name: str, seed: int, training: bool) -> tuple[str, nn.Module, tuple[int, int]]:
    """A network: its own name, itself with drawn weights, channels and side (pixels) of the pictures to check it on.

    They are as small as it takes.
    """
    import torch

    from graft.models.catalog import create, look_up

    if name.startswith("timm:"):
        from graft.models.adapter import adapt

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            built = adapt(name.removeprefix("timm:"), num_classes=CLASSES)
        return name, built.network, (3, _least_side(built.network, built.size))
    card = look_up(name)
    if card is None:
        from graft.models.weights import unknown

        raise unknown(name)
    fixed = card.name == "alphago_policy"  # a class for each point of the board
    network = create(card.name, num_classes=None if fixed else CLASSES, seed=seed)
    least = max(card.smallest_side, LEAST_TRAINING_SIDE if training else 1) if card.smallest_side else card.takes.side
    return card.name, network, (card.takes.channels, least)


def _least_side(network: nn.Module, side: int) -> int:
    """The least of a few sides, pixels, that leaves something in every map of a network made for `side`."""
    import torch

    for least in (32, 64, 128):
        try:
            with torch.inference_mode():
                network(torch.zeros(1, 3, least, least))
        except RuntimeError:  # a window larger than what is left of the map
            continue
        return min(least, side)
    return side
