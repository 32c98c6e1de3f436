"""MobileNet (the first) at full width — Howard et al., 2017, table 1, arXiv:1704.04861.

A convolution and thirteen depthwise-separable ones: a 3×3 for each channel on its own, then a 1×1 across channels.
Departures: ReLU6 where the paper says ReLU, as the authors' code and all published weights have it; symmetric padding
(that code pads more on the right and below); weights start as He et al. (the paper does not say).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, cast

from torch import Tensor, nn

from graft.models import initial
from graft.models.inputs import Pictures

SEPARABLE: Final = (  # (filters, stride) of the thirteen, table 1
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),  # the table prints stride 2, from which its own 7×7 maps do not follow
)


def _conv(in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """(N, in_channels, H, W) → (N, out_channels, H/stride, W/stride), 0–6; children conv, bn, relu."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(out_channels), relu=nn.ReLU6()))


def separable(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Depthwise, then pointwise, fig. 3 right: (N, in_channels, H, W) → (N, out_channels, H/stride, W/stride), 0–6."""
    return nn.Sequential(
        OrderedDict(
            depthwise=_conv(in_channels, in_channels, 3, stride=stride, groups=in_channels),
            pointwise=_conv(in_channels, out_channels, 1),
        )
    )


class MobileNet(nn.Module):
    """(N, 3, H, W) RGB pictures → (N, num_classes) logits; 224² is the paper's size."""

    takes: Final = Pictures(channels=3, side=224, smallest=32)

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        stages: OrderedDict[str, nn.Module] = OrderedDict(conv1=_conv(3, 32, 3, stride=2))  # (N, 32, 112, 112)
        channels = 32
        for number, (width, stride) in enumerate(SEPARABLE, start=1):
            stages[f"separable{number}"] = separable(channels, width, stride)  # sides 112, 56, 56, 28, 28, 14 … 7, 7
            channels = width
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
        self.takes.check(x, "MobileNet")
        return cast(Tensor, self.classifier(self.stages(x)))
