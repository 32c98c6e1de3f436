"""The CIFAR form of ResNet and its plain twin, of any depth 6n + 2 — He et al., CVPR 2016, §4.2, arXiv:1512.03385.

A 3×3 convolution, three stages of n blocks with 16, 32 and 64 filters on 32², 16² and 8² maps, a global average pool.
The twin is the same network with its shortcuts taken out: the pair shows that depth alone makes training worse.
Departures: none.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, cast

import torch.nn.functional as F
from torch import Tensor, nn

from graft.errors import UsageError
from graft.models import initial
from graft.models.families.layers import conv_bn_relu
from graft.models.inputs import Pictures

WIDTHS: Final = (16, 32, 64)


class PaddedShortcut(nn.Module):
    """Option A, §3.3: every stride-th pixel, and zeros for the new channels; it has no weights.

    (N, C, H, W) → (N, C + extra, ⌈H/stride⌉, ⌈W/stride⌉), the zeros last.
    """

    def __init__(self, extra: int, stride: int) -> None:
        super().__init__()
        self.extra = extra
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))


class CifarBlock(nn.Module):
    """Two 3×3 convolutions, a shortcut if residual: (N, in_channels, H, W) → (N, width, H/stride, W/stride) ≥ 0."""

    def __init__(self, in_channels: int, width: int, stride: int, *, residual: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = PaddedShortcut(width - in_channels, stride) if residual else None
        if residual:
            self.drop_path = nn.Identity()
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.shortcut is not None:
            y = self.drop_path(y) + self.shortcut(x)
        return cast(Tensor, self.relu2(y))


class CifarResNet(nn.Module):
    """(N, 3, H, W) RGB pictures → (N, num_classes) logits; 32² is the paper's size.

    depth: weight layers, 6n + 2 for n blocks a stage. residual: False builds the plain twin.
    Raises UsageError for another depth.
    """

    takes: Final = Pictures(channels=3, side=32, smallest=4)

    def __init__(self, depth: int, num_classes: int = 10, *, residual: bool = True) -> None:
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise UsageError(f"the CIFAR form of ResNet needs a depth of 6n + 2 (8, 14, 20, …, 110), got {depth}")
        self.stages = nn.Sequential(OrderedDict(conv1=conv_bn_relu(3, 16, 3, padding=1)))  # (N, 16, 32, 32)
        channels = 16
        for number, width in enumerate(WIDTHS, start=2):
            blocks = []
            for place in range(depth // 6):
                stride = 2 if place == 0 and number > 2 else 1
                blocks.append(CifarBlock(channels, width, stride, residual=residual))
                channels = width
            self.stages.add_module(f"conv{number}_x", nn.Sequential(*blocks))  # sides 32, 16, 8
        self.classifier = nn.Sequential(
            OrderedDict(
                average=nn.AdaptiveAvgPool2d(1),  # (N, 64, 1, 1)
                flatten=nn.Flatten(),  # (N, 64)
                fc=nn.Linear(64, num_classes),
            )
        )
        initial.he(self)

    def forward(self, x: Tensor) -> Tensor:
        self.takes.check(x, "the CIFAR form of ResNet")
        return cast(Tensor, self.classifier(self.stages(x)))


def resnet20_cifar(num_classes: int = 10) -> CifarResNet:
    """The residual network of 20 layers."""
    return CifarResNet(20, num_classes)


def resnet32_cifar(num_classes: int = 10) -> CifarResNet:
    """The residual network of 32 layers."""
    return CifarResNet(32, num_classes)


def resnet44_cifar(num_classes: int = 10) -> CifarResNet:
    """The residual network of 44 layers."""
    return CifarResNet(44, num_classes)


def resnet56_cifar(num_classes: int = 10) -> CifarResNet:
    """The residual network of 56 layers."""
    return CifarResNet(56, num_classes)


def resnet110_cifar(num_classes: int = 10) -> CifarResNet:
    """The residual network of 110 layers."""
    return CifarResNet(110, num_classes)


def plain20_cifar(num_classes: int = 10) -> CifarResNet:
    """The plain network of 20 layers, which trains well."""
    return CifarResNet(20, num_classes, residual=False)


def plain56_cifar(num_classes: int = 10) -> CifarResNet:
    """The plain network of 56 layers, whose training error is higher than that of 20."""
    return CifarResNet(56, num_classes, residual=False)
