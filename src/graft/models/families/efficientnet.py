"""EfficientNet-Lite0, 1 and 2 — Tan and Le, ICML 2019, table 1 and §3.3, arXiv:1905.11946, in the authors' lite form.

That form, of March 2020, is for devices that run some operations badly: no squeeze-and-excitation, ReLU6 for swish, and
the first and last stages keep their depth, the stem and the last convolution their width, however large the network.
Departures: weights start as He et al.; no dropout before the last layer (a setting of training has it).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final, cast

from torch import Tensor, nn
from torch.nn import functional as F

from graft.models import initial
from graft.models.inputs import Pictures

BLOCKS: Final = (  # (expansion, filters, blocks, kernel, stride) of stages 2 … 8, table 1
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 40, 2, 5, 2),
    (6, 80, 3, 3, 2),
    (6, 112, 3, 5, 1),
    (6, 192, 4, 5, 2),
    (6, 320, 1, 3, 1),
)
STEM, TOP = 32, 1280  # filters of the first and the last convolution
EPSILON: Final = 1e-3  # what batch norm adds to the variance


class SamePad(nn.Module):
    """(N, C, H, W) → zeros around it, so that a convolution of `stride` gives ⌈H/stride⌉ × ⌈W/stride⌉ maps.

    An odd row or column is added below and on the right, as TensorFlow does.
    """

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        down, across = (self.lacking(int(side)) for side in x.shape[2:])  # plain numbers, in a traced graph too
        return F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2), value=0.0)

    def lacking(self, side: int) -> int:
        """How many pixels a side needs more, in all."""
        return max((math.ceil(side / self.stride) - 1) * self.stride + self.kernel - side, 0)


def _conv(
    in_channels: int, out_channels: int, kernel: int = 1, *, stride: int = 1, groups: int = 1, linear: bool = False
) -> nn.Sequential:
    """(N, in_channels, H, W) → (N, out_channels, ⌈H/stride⌉, ⌈W/stride⌉); children pad (where strided), conv, bn, relu.

    linear: without the ReLU6 that bounds the output to 0–6.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if stride > 1:
        layers["pad"] = SamePad(kernel, stride)
    padding = 0 if stride > 1 else kernel // 2
    layers["conv"] = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False)
    layers["bn"] = nn.BatchNorm2d(out_channels, eps=EPSILON)
    if not linear:
        layers["relu"] = nn.ReLU6(inplace=True)  # the wide maps are kept for the backward pass once
    return nn.Sequential(layers)


class InvertedResidual(nn.Module):
    """A 1×1 that widens, a depthwise convolution, a 1×1 that narrows, and a shortcut where shapes agree.

    (N, in_channels, H, W) → (N, out_channels, ⌈H/stride⌉, ⌈W/stride⌉). expansion: how many times wider; 1 leaves the
    first 1×1 out. Source: Sandler et al., CVPR 2018, §3.3 and table 1, arXiv:1801.04381.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        width = expansion * in_channels
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if expansion > 1:
            layers["expand"] = _conv(in_channels, width)
        layers["depthwise"] = _conv(width, width, kernel, stride=stride, groups=width)
        layers["project"] = _conv(width, out_channels, linear=True)
        self.layers = nn.Sequential(layers)
        self.shortcut = stride == 1 and in_channels == out_channels
        if self.shortcut:
            self.drop_path = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return cast(Tensor, self.drop_path(y) + x) if self.shortcut else y


class EfficientNetLite(nn.Module):
    """(N, 3, H, W) RGB pictures → (N, num_classes) logits.

    width, depth: how many times more filters and blocks than table 1 has, §3.3. side: of the pictures it was made for.
    """

    def __init__(self, num_classes: int = 1000, *, width: float, depth: float, side: int) -> None:
        super().__init__()
        self.takes: Final = Pictures(channels=3, side=side, smallest=32)
        blocks, channels = nn.Sequential(), STEM
        for number, (expansion, filters, repeats, kernel, stride) in enumerate(BLOCKS):
            out_channels = _rounded(filters * width)
            times = repeats if number in (0, len(BLOCKS) - 1) else math.ceil(repeats * depth)
            stage = nn.Sequential()
            for place in range(times):
                stage.append(
                    InvertedResidual(
                        channels, out_channels, kernel, stride=stride if place == 0 else 1, expansion=expansion
                    )
                )
                channels = out_channels
            blocks.append(stage)  # sides of Lite0 on 224²: 112, 56, 28, 14, 14, 7, 7
        self.stages = nn.Sequential(
            OrderedDict(stem=_conv(3, STEM, 3, stride=2), blocks=blocks, conv_head=_conv(channels, TOP))
        )
        self.stage_names = ("stem", *(f"blocks.{number}" for number in range(len(BLOCKS))), "conv_head")
        self.classifier = nn.Sequential(
            OrderedDict(
                average=nn.AdaptiveAvgPool2d(1),  # (N, 1280, 1, 1)
                flatten=nn.Flatten(),  # (N, 1280)
                fc=nn.Linear(TOP, num_classes),
            )
        )
        initial.he(self)

    def forward(self, x: Tensor) -> Tensor:
        self.takes.check(x, "EfficientNet-Lite")
        return cast(Tensor, self.classifier(self.stages(x)))


def _rounded(filters: float) -> int:
    """The multiple of 8 that is nearest, but never a tenth less, as the authors' code has it."""
    nearest = max(8, int(filters + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * filters else nearest + 8


def lite0(num_classes: int = 1000) -> EfficientNetLite:
    """EfficientNet-Lite0: table 1 as it is."""
    return EfficientNetLite(num_classes, width=1.0, depth=1.0, side=224)


def lite1(num_classes: int = 1000) -> EfficientNetLite:
    """EfficientNet-Lite1: a tenth deeper, on 240² pictures."""
    return EfficientNetLite(num_classes, width=1.0, depth=1.1, side=240)


def lite2(num_classes: int = 1000) -> EfficientNetLite:
    """EfficientNet-Lite2: a tenth wider and a fifth deeper, on 260² pictures."""
    return EfficientNetLite(num_classes, width=1.1, depth=1.2, side=260)
