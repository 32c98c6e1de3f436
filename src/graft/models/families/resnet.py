"""ResNet-18, 34, 50, 101 and 152 — He et al., CVPR 2016, table 1 and §3.4, arXiv:1512.03385.

The stride of a bottleneck stage stands in its first block's 3×3 convolution, as published weights have it since 2016;
the paper's own place, the 1×1 before it, is the form with `_v1` in its name (fewer operations, about half a point of
accuracy). Blocks without a bottleneck have one place for it only.
Departures: none in the graph of the `_v1` form but the padded max pool.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Literal, cast

from torch import Tensor, nn

from graft.models import initial
from graft.models.families.layers import conv_bn_relu
from graft.models.inputs import Pictures

WIDTHS: Final = (64, 128, 256, 512)  # of conv2_x … conv5_x
StrideIn = Literal["conv1", "conv2"]


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """The shortcut around a block: nothing where shapes agree, else a strided 1×1 convolution, §3.3 option B."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), bn=nn.BatchNorm2d(out_channels)
        )
    )


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut, fig. 5 left: (N, in_channels, H, W) → (N, width, H/stride, W/stride) ≥ 0."""

    expansion: Final = 1

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.drop_path = nn.Identity()
        self.shortcut = projection(in_channels, width, stride)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return cast(Tensor, self.relu2(self.drop_path(y) + self.shortcut(x)))


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 and a shortcut, fig. 5 right: (N, in_channels, H, W) → (N, 4 · width, H/stride, W/stride) ≥ 0."""

    expansion: Final = 4

    def __init__(self, in_channels: int, width: int, stride: int, stride_in: StrideIn = "conv2") -> None:
        super().__init__()
        first, second = (stride, 1) if stride_in == "conv1" else (1, stride)
        out_channels = self.expansion * width
        self.conv1 = nn.Conv2d(in_channels, width, 1, stride=first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, stride=second, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.drop_path = nn.Identity()
        self.shortcut = projection(in_channels, out_channels, stride)
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.relu2(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return cast(Tensor, self.relu3(self.drop_path(y) + self.shortcut(x)))


class ResNet(nn.Module):
    """(N, 3, H, W) RGB pictures → (N, num_classes) logits; 224² is the paper's size.

    depths: blocks in conv2_x … conv5_x. stride_in: the bottleneck's convolution that halves the maps; None builds
    basic blocks.
    """

    takes: Final = Pictures(channels=3, side=224, smallest=32)

    def __init__(
        self, depths: tuple[int, int, int, int], num_classes: int = 1000, *, stride_in: StrideIn | None = None
    ) -> None:
        super().__init__()
        self.stages = nn.Sequential(OrderedDict(conv1=conv_bn_relu(3, 64, 7, stride=2, padding=3)))  # (N, 64, 112, 112)
        channels = 64
        for number, (depth, width) in enumerate(zip(depths, WIDTHS, strict=True), start=2):
            blocks: list[BasicBlock | Bottleneck] = []
            for place in range(depth):
                stride = 2 if place == 0 and number > 2 else 1
                if stride_in is None:
                    blocks.append(BasicBlock(channels, width, stride))
                else:
                    blocks.append(Bottleneck(channels, width, stride, stride_in))
                channels = width * blocks[-1].expansion
            stage = nn.Sequential(*blocks)  # sides 56, 28, 14, 7
            if number == 2:
                stage = nn.Sequential(OrderedDict(pool=nn.MaxPool2d(3, stride=2, padding=1), blocks=stage))
            self.stages.add_module(f"conv{number}_x", stage)
        self.classifier = nn.Sequential(
            OrderedDict(
                average=nn.AdaptiveAvgPool2d(1),  # (N, channels, 1, 1)
                flatten=nn.Flatten(),  # (N, channels)
                fc=nn.Linear(channels, num_classes),
            )
        )
        initial.he(self)

    def forward(self, x: Tensor) -> Tensor:
        self.takes.check(x, "ResNet")
        return cast(Tensor, self.classifier(self.stages(x)))


def resnet18(num_classes: int = 1000) -> ResNet:
    """ResNet-18: basic blocks, 2-2-2-2."""
    return ResNet((2, 2, 2, 2), num_classes)


def resnet34(num_classes: int = 1000) -> ResNet:
    """ResNet-34: basic blocks, 3-4-6-3."""
    return ResNet((3, 4, 6, 3), num_classes)


def resnet50(num_classes: int = 1000) -> ResNet:
    """ResNet-50: bottlenecks, 3-4-6-3, the stride in the 3×3."""
    return ResNet((3, 4, 6, 3), num_classes, stride_in="conv2")


def resnet101(num_classes: int = 1000) -> ResNet:
    """ResNet-101: bottlenecks, 3-4-23-3, the stride in the 3×3."""
    return ResNet((3, 4, 23, 3), num_classes, stride_in="conv2")


def resnet152(num_classes: int = 1000) -> ResNet:
    """ResNet-152: bottlenecks, 3-8-36-3, the stride in the 3×3."""
    return ResNet((3, 8, 36, 3), num_classes, stride_in="conv2")


def resnet50_v1(num_classes: int = 1000) -> ResNet:
    """ResNet-50 with the paper's place of the stride, the first 1×1."""
    return ResNet((3, 4, 6, 3), num_classes, stride_in="conv1")


def resnet101_v1(num_classes: int = 1000) -> ResNet:
    """ResNet-101 with the paper's place of the stride, the first 1×1."""
    return ResNet((3, 4, 23, 3), num_classes, stride_in="conv1")


def resnet152_v1(num_classes: int = 1000) -> ResNet:
    """ResNet-152 with the paper's place of the stride, the first 1×1."""
    return ResNet((3, 8, 36, 3), num_classes, stride_in="conv1")
