"""SE-ResNet, SE-ResNeXt and SENet-154 — Hu, Shen and Sun, CVPR 2018, §3, table 1 and appendix, arXiv:1709.01507.

Every bottleneck ends in a squeeze-and-excitation block, which weighs its channels by what their averages say. ResNeXt's
bottleneck (32 groups of 4 filters: Xie et al., CVPR 2017, arXiv:1611.05431) and SENet-154's wider one (64 groups, three
3×3 convolutions in the stem, 3×3 projections, dropout 0.2) are the same block with other widths.
Names with `_v1` are the authors' own form, for Caffe: a max pool without padding that rounds up, and in SE-ResNet the
stride in the first 1×1. The others pad that pool and have the stride in the 3×3, as weights trained later have.
Departures: none in the graph of the `_v1` forms.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, cast

from torch import Tensor, nn

from graft.models import initial
from graft.models.families.layers import conv_bn_relu
from graft.models.families.resnet import StrideIn
from graft.models.inputs import Pictures

REDUCTION: Final = 16  # channels to each hidden unit of a squeeze-and-excitation block, §3.3
PLANES: Final = (64, 128, 256, 512)  # a quarter of the channels that conv2_x … conv5_x give


@dataclass(frozen=True)
class Design:
    """What tells the family's networks apart.

    depths: blocks in conv2_x … conv5_x. groups: of the 3×3 convolution. inner: the widths of the block's first two
    convolutions, as multiples of its planes. deep_stem: three 3×3 convolutions instead of one 7×7. projection: the side
    of the kernel in the shortcuts that halve the maps. dropout: before the last layer. stride_in: the convolution that
    halves. padded_pool: False for Caffe's max pool, which rounds up.
    """

    depths: tuple[int, int, int, int]
    groups: int = 1
    inner: tuple[int, int] = (1, 1)
    deep_stem: bool = False
    projection: int = 1
    dropout: float = 0.0
    stride_in: StrideIn = "conv2"
    padded_pool: bool = True


class SqueezeExcitation(nn.Module):
    """(N, C, H, W) → the same maps, each channel weighed by a number in 0–1. Source: §3.1–3.2, eq. 2–4."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, channels // REDUCTION, 1)
        self.relu = nn.ReLU()
        self.fc2 = nn.Conv2d(channels // REDUCTION, channels, 1)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        weights = self.gate(self.fc2(self.relu(self.fc1(self.squeeze(x)))))  # (N, C, 1, 1), 0–1
        return cast(Tensor, x * weights)


class SEBottleneck(nn.Module):
    """1×1, 3×3, 1×1, squeeze-and-excitation and a shortcut: (N, in_channels, H, W) → (N, 4 · planes, H/s, W/s) ≥ 0."""

    expansion: Final = 4

    def __init__(self, in_channels: int, planes: int, stride: int, design: Design) -> None:
        super().__init__()
        first, second = (stride, 1) if design.stride_in == "conv1" else (1, stride)
        narrow, wide = (planes * multiple for multiple in design.inner)
        out_channels = self.expansion * planes
        self.conv1 = nn.Conv2d(in_channels, narrow, 1, stride=first, bias=False)
        self.bn1 = nn.BatchNorm2d(narrow)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(narrow, wide, 3, stride=second, padding=1, groups=design.groups, bias=False)
        self.bn2 = nn.BatchNorm2d(wide)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(wide, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.se = SqueezeExcitation(out_channels)
        self.drop_path = nn.Identity()
        self.shortcut = _shortcut(in_channels, out_channels, stride, kernel=design.projection if stride == 2 else 1)
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.relu2(self.bn2(self.conv2(y)))
        y = self.se(self.bn3(self.conv3(y)))
        return cast(Tensor, self.relu3(self.drop_path(y) + self.shortcut(x)))


def _shortcut(in_channels: int, out_channels: int, stride: int, kernel: int) -> nn.Module:
    """Nothing where shapes agree, else a convolution of this kernel and stride, and its batch norm."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(out_channels)))


def _stem(design: Design) -> nn.Sequential:
    """conv1: (N, 3, H, W) → (N, 64 or 128, H/2, W/2) ≥ 0."""
    if not design.deep_stem:
        return conv_bn_relu(3, 64, 7, stride=2, padding=3)
    return nn.Sequential(
        OrderedDict(
            conv1_1=conv_bn_relu(3, 64, 3, stride=2, padding=1),
            conv1_2=conv_bn_relu(64, 64, 3, padding=1),
            conv1_3=conv_bn_relu(64, 128, 3, padding=1),
        )
    )


class SENet(nn.Module):
    """(N, 3, H, W) RGB pictures → (N, num_classes) logits; 224² is the paper's size."""

    takes: Final = Pictures(channels=3, side=224, smallest=32)

    def __init__(self, design: Design, num_classes: int = 1000) -> None:
        super().__init__()
        self.stages = nn.Sequential(OrderedDict(conv1=_stem(design)))  # sides of 112
        channels = 128 if design.deep_stem else 64
        for number, (depth, planes) in enumerate(zip(design.depths, PLANES, strict=True), start=2):
            blocks = []
            for place in range(depth):
                blocks.append(SEBottleneck(channels, planes, 2 if place == 0 and number > 2 else 1, design))
                channels = planes * SEBottleneck.expansion
            stage = nn.Sequential(*blocks)  # sides 56, 28, 14, 7
            if number == 2:
                pool = nn.MaxPool2d(3, 2, padding=1) if design.padded_pool else nn.MaxPool2d(3, 2, ceil_mode=True)
                stage = nn.Sequential(OrderedDict(pool=pool, blocks=stage))
            self.stages.add_module(f"conv{number}_x", stage)
        self.classifier = nn.Sequential(
            OrderedDict(
                average=nn.AdaptiveAvgPool2d(1),  # (N, 2048, 1, 1)
                flatten=nn.Flatten(),  # (N, 2048)
                dropout=nn.Dropout(design.dropout),
                fc=nn.Linear(channels, num_classes),
            )
        )
        initial.he(self)

    def forward(self, x: Tensor) -> Tensor:
        self.takes.check(x, "SENet")
        return cast(Tensor, self.classifier(self.stages(x)))


RESNET50: Final = Design((3, 4, 6, 3))
RESNET50_V1: Final = Design((3, 4, 6, 3), stride_in="conv1", padded_pool=False)
RESNET101_V1: Final = Design((3, 4, 23, 3), stride_in="conv1", padded_pool=False)
RESNET152_V1: Final = Design((3, 8, 36, 3), stride_in="conv1", padded_pool=False)
RESNEXT50: Final = Design((3, 4, 6, 3), groups=32, inner=(2, 2))
RESNEXT50_V1: Final = Design((3, 4, 6, 3), groups=32, inner=(2, 2), padded_pool=False)
RESNEXT101: Final = Design((3, 4, 23, 3), groups=32, inner=(2, 2))
RESNEXT101_V1: Final = Design((3, 4, 23, 3), groups=32, inner=(2, 2), padded_pool=False)
WIDE154: Final = Design((3, 8, 36, 3), groups=64, inner=(2, 4), deep_stem=True, projection=3, dropout=0.2)
WIDE154_V1: Final = Design(
    (3, 8, 36, 3), groups=64, inner=(2, 4), deep_stem=True, projection=3, dropout=0.2, padded_pool=False
)


def seresnet50(num_classes: int = 1000) -> SENet:
    """SE-ResNet-50, later form."""
    return SENet(RESNET50, num_classes)


def seresnet50_v1(num_classes: int = 1000) -> SENet:
    """SE-ResNet-50, the authors' form."""
    return SENet(RESNET50_V1, num_classes)


def seresnet101_v1(num_classes: int = 1000) -> SENet:
    """SE-ResNet-101, the authors' form."""
    return SENet(RESNET101_V1, num_classes)


def seresnet152_v1(num_classes: int = 1000) -> SENet:
    """SE-ResNet-152, the authors' form."""
    return SENet(RESNET152_V1, num_classes)


def seresnext50_32x4d(num_classes: int = 1000) -> SENet:
    """SE-ResNeXt-50 (32×4d), later form."""
    return SENet(RESNEXT50, num_classes)


def seresnext50_32x4d_v1(num_classes: int = 1000) -> SENet:
    """SE-ResNeXt-50 (32×4d), the authors' form."""
    return SENet(RESNEXT50_V1, num_classes)


def seresnext101_32x4d(num_classes: int = 1000) -> SENet:
    """SE-ResNeXt-101 (32×4d), later form."""
    return SENet(RESNEXT101, num_classes)


def seresnext101_32x4d_v1(num_classes: int = 1000) -> SENet:
    """SE-ResNeXt-101 (32×4d), the authors' form."""
    return SENet(RESNEXT101_V1, num_classes)


def senet154(num_classes: int = 1000) -> SENet:
    """SENet-154, later form."""
    return SENet(WIDE154, num_classes)


def senet154_v1(num_classes: int = 1000) -> SENet:
    """SENet-154, the authors' form, which won the contest of 2017."""
    return SENet(WIDE154_V1, num_classes)
