"""DenseNet-121 — Huang et al., CVPR 2017, table 1, arXiv:1608.06993: the form with bottlenecks and compression, k = 32.

Each layer of a dense block reads the maps of all layers before it and adds 32 of its own; a transition halves the
channels and the sides. The batch norm and ReLU that follow the last block are a stage of their own, `norm5`.
Departures: none in the graph.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, cast

import torch
from torch import Tensor, nn

from graft.models import initial
from graft.models.inputs import Pictures

GROWTH: Final = 32  # k, the maps that each layer adds
BOTTLENECK: Final = 4  # a 1×1 convolution first narrows a layer's input to 4k maps


class DenseLayer(nn.Module):
    """(N, C, H, W) → (N, C + 32, H, W): its input, and 32 new maps made from it."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, BOTTLENECK * GROWTH, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(BOTTLENECK * GROWTH)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(BOTTLENECK * GROWTH, GROWTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(self.relu1(self.norm1(x)))  # (N, 128, H, W)
        y = self.conv2(self.relu2(self.norm2(y)))  # (N, 32, H, W)
        return torch.cat([x, y], dim=1)


def dense_block(depth: int, in_channels: int) -> nn.Sequential:
    """(N, in_channels, H, W) → (N, in_channels + 32 · depth, H, W)."""
    return nn.Sequential(
        OrderedDict((f"denselayer{place + 1}", DenseLayer(in_channels + place * GROWTH)) for place in range(depth))
    )


def transition(in_channels: int) -> nn.Sequential:
    """(N, C, H, W) → (N, C/2, H/2, W/2), §3, compression 0.5."""
    return nn.Sequential(
        OrderedDict(
            norm=nn.BatchNorm2d(in_channels),
            relu=nn.ReLU(),
            conv=nn.Conv2d(in_channels, in_channels // 2, 1, bias=False),
            pool=nn.AvgPool2d(2),
        )
    )


class DenseNet(nn.Module):
    """(N, 3, H, W) RGB pictures → (N, num_classes) logits; 224² is the paper's size. depths: layers of the blocks."""

    takes: Final = Pictures(channels=3, side=224, smallest=32)

    def __init__(self, num_classes: int = 1000, depths: tuple[int, int, int, int] = (6, 12, 24, 16)) -> None:
        super().__init__()
        channels = 2 * GROWTH
        stages: OrderedDict[str, nn.Module] = OrderedDict(
            conv1=nn.Sequential(
                OrderedDict(
                    conv0=nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False),
                    norm0=nn.BatchNorm2d(channels),
                    relu0=nn.ReLU(),
                )
            ),  # (N, 64, 112, 112)
            pool1=nn.MaxPool2d(3, stride=2, padding=1),  # (N, 64, 56, 56)
        )
        for number, depth in enumerate(depths, start=1):
            stages[f"denseblock{number}"] = dense_block(depth, channels)  # channels 256, 512, 1024, 1024
            channels += depth * GROWTH
            if number < len(depths):
                stages[f"transition{number}"] = transition(channels)  # sides 28, 14, 7
                channels //= 2
        stages["norm5"] = nn.Sequential(OrderedDict(norm=nn.BatchNorm2d(channels), relu=nn.ReLU()))
        self.stages = nn.Sequential(stages)
        self.classifier = nn.Sequential(
            OrderedDict(
                average=nn.AdaptiveAvgPool2d(1),  # (N, 1024, 1, 1)
                flatten=nn.Flatten(),  # (N, 1024)
                fc=nn.Linear(channels, num_classes),
            )
        )
        initial.he(self)

    def forward(self, x: Tensor) -> Tensor:
        self.takes.check(x, "DenseNet")
        return cast(Tensor, self.classifier(self.stages(x)))


def densenet121(num_classes: int = 1000) -> DenseNet:
    """DenseNet-121: blocks of 6, 12, 24 and 16 layers."""
    return DenseNet(num_classes)
