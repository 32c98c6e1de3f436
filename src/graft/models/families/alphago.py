"""The policy network of AlphaGo — Silver et al., Nature 529, 2016, Methods ("Neural network architecture"), table 2.

48 planes that describe a position go in, a logit for each of the 361 points comes out; softmax makes it the
probability of a move. Thirteen layers: the last is one 1×1 filter with a bias of its own for every point.
Departures: logits, not probabilities, come out; weights start as He et al. (the paper does not say).
Its classifier ends in the biases, not in a linear layer: no head for other classes can be grown on it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, cast

import torch
from torch import Tensor, nn

from graft.errors import UsageError
from graft.models import initial
from graft.models.inputs import Pictures

SIDE: Final = 19
POINTS: Final = SIDE * SIDE
FILTERS: Final = 192  # k of the version that played the matches
HIDDEN: Final = 12  # convolutions before the last layer


class PositionBias(nn.Module):
    """(N, 361) → (N, 361): adds one learnt number to each point."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(POINTS))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


class PolicyNetwork(nn.Module):
    """(N, 48, 19, 19) planes of a Go position → (N, 361) logits of the moves, row by row.

    Raises UsageError unless num_classes is 361.
    """

    takes: Final = Pictures(channels=48, side=SIDE, smallest=None)

    def __init__(self, num_classes: int = POINTS) -> None:
        super().__init__()
        if num_classes != POINTS:
            raise UsageError(
                f"AlphaGo's policy network has a class for each of the board's {POINTS} points, got {num_classes}; "
                "choose another network for other classes"
            )
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        for number in range(1, HIDDEN + 1):
            channels, kernel = (48, 5) if number == 1 else (FILTERS, 3)
            conv = nn.Conv2d(channels, FILTERS, kernel, padding=kernel // 2)
            stages[f"conv{number}"] = nn.Sequential(OrderedDict(conv=conv, relu=nn.ReLU()))  # (N, 192, 19, 19)
        self.stages = nn.Sequential(stages)
        self.classifier = nn.Sequential(
            OrderedDict(
                conv13=nn.Conv2d(FILTERS, 1, 1, bias=False),  # (N, 1, 19, 19)
                flatten=nn.Flatten(),  # (N, 361)
                bias=PositionBias(),
            )
        )
        initial.he(self)

    def forward(self, x: Tensor) -> Tensor:
        self.takes.check(x, "AlphaGo's policy network")
        return cast(Tensor, self.classifier(self.stages(x)))
