"""LeNet-5 — LeCun et al., Proc. IEEE 86(11), 1998, §II.B and fig. 2 — and the small network of the lectures.

Departures of LeNet-5: C3 sees every S2 map (table I is sparse), pooling has no weights, tanh is not scaled, the
output is linear, not RBF (61,706 weights against the paper's 60,000), and weights start as Glorot's, since training
stalls where the paper's ±2.4 / fan_in meets a tanh that is not scaled.
The lectures' network is the usual first Keras example: two 3×3 convolutions, each with a pool, and two dense layers.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, cast

from torch import Tensor, nn

from graft.models import initial
from graft.models.inputs import Pictures


class LeNet5(nn.Module):
    """(N, 1, 32, 32) grey pictures → (N, num_classes) logits."""

    takes: Final = Pictures(channels=1, side=32, smallest=None)

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            OrderedDict(
                c1=nn.Sequential(nn.Conv2d(1, 6, 5), nn.Tanh(), nn.AvgPool2d(2)),  # (N, 6, 14, 14)
                c3=nn.Sequential(nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2)),  # (N, 16, 5, 5)
            )
        )
        self.classifier = nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),  # (N, 400)
                c5=nn.Linear(400, 120),
                tanh5=nn.Tanh(),
                f6=nn.Linear(120, 84),
                tanh6=nn.Tanh(),
                output=nn.Linear(84, num_classes),
            )
        )
        initial.glorot(self)

    def forward(self, x: Tensor) -> Tensor:
        self.takes.check(x, "LeNet-5")
        return cast(Tensor, self.classifier(self.stages(x)))


class LectureNet(nn.Module):
    """(N, 1, 28, 28) grey pictures → (N, num_classes) logits; 421,642 parameters for ten classes."""

    takes: Final = Pictures(channels=1, side=28, smallest=None)

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            OrderedDict(
                conv1=nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),  # (N, 32, 14, 14)
                conv2=nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),  # (N, 64, 7, 7)
            )
        )
        self.classifier = nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),  # (N, 3136)
                dense1=nn.Linear(3136, 128),
                relu1=nn.ReLU(),
                dense2=nn.Linear(128, num_classes),
            )
        )
        initial.glorot(self)

    def forward(self, x: Tensor) -> Tensor:
        self.takes.check(x, "the network of the lectures")
        return cast(Tensor, self.classifier(self.stages(x)))
