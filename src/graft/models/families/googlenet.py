"""GoogLeNet — Szegedy et al., CVPR 2015, table 1 and §5, arXiv:1409.4842.

A stem, nine inception modules with 1×1 bottlenecks, a global average pool, and two auxiliary classifiers for training.
Departures: pools round sizes up instead of padding, which gives the table's sizes; the constants of the local response
normalisation are AlexNet's; weights start as Glorot and Bengio (the paper does not say).
`googlenet_bn` is the form whose weights torchvision publishes: batch norm after every convolution instead of response
normalisation, 3×3 where the paper has 5×5, a 2×2 last max pool, auxiliary classifiers that average to 4×4.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Final, cast

from torch import Tensor, nn

from graft.models import initial
from graft.models.families.alexnet import response_norm
from graft.models.families.layers import Branches, conv_bn_relu
from graft.models.inputs import Pictures


@dataclass(frozen=True)
class Widths:
    """One row of table 1: the filters of a module's convolutions, in the table's order."""

    conv1x1: int
    reduce3x3: int
    conv3x3: int
    reduce5x5: int
    conv5x5: int
    project: int

    @property
    def out_channels(self) -> int:
        """Channels of the module's output: its four branches side by side."""
        return self.conv1x1 + self.conv3x3 + self.conv5x5 + self.project


MODULES: Final[dict[str, Widths]] = {
    "inception3a": Widths(64, 96, 128, 16, 32, 32),
    "inception3b": Widths(128, 128, 192, 32, 96, 64),
    "inception4a": Widths(192, 96, 208, 16, 48, 64),
    "inception4b": Widths(160, 112, 224, 24, 64, 64),
    "inception4c": Widths(128, 128, 256, 24, 64, 64),
    "inception4d": Widths(112, 144, 288, 32, 64, 64),
    "inception4e": Widths(256, 160, 320, 32, 128, 128),
    "inception5a": Widths(256, 160, 320, 32, 128, 128),
    "inception5b": Widths(384, 192, 384, 48, 128, 128),
}
AUXILIARY: Final = ("inception4a", "inception4d")  # the modules whose maps the auxiliary classifiers read


def _conv(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, padding: int = 0, batch_norm: bool
) -> nn.Sequential:
    """A convolution and its ReLU, with batch norm between them where asked for (then without a bias)."""
    if batch_norm:
        return conv_bn_relu(in_channels, out_channels, kernel, stride=stride, padding=padding, epsilon=1e-3)
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=padding)
    return nn.Sequential(OrderedDict(conv=conv, relu=nn.ReLU()))


def inception(in_channels: int, widths: Widths, *, batch_norm: bool = False) -> Branches:
    """An inception module, fig. 2(b): (N, in_channels, h, w) → (N, widths.out_channels, h, w) ≥ 0."""
    conv = partial(_conv, batch_norm=batch_norm)
    large = 3 if batch_norm else 5
    return Branches(
        OrderedDict(
            branch1=conv(in_channels, widths.conv1x1, 1),
            branch2=nn.Sequential(
                OrderedDict(
                    reduce3x3=conv(in_channels, widths.reduce3x3, 1),
                    conv3x3=conv(widths.reduce3x3, widths.conv3x3, 3, padding=1),
                )
            ),
            branch3=nn.Sequential(
                OrderedDict(
                    reduce5x5=conv(in_channels, widths.reduce5x5, 1),
                    conv5x5=conv(widths.reduce5x5, widths.conv5x5, large, padding=large // 2),
                )
            ),
            branch4=nn.Sequential(
                OrderedDict(pool=nn.MaxPool2d(3, stride=1, padding=1), project=conv(in_channels, widths.project, 1))
            ),
        )
    )


def _auxiliary(in_channels: int, num_classes: int, *, batch_norm: bool) -> nn.Sequential:
    """§5: (N, in_channels, 14, 14) maps → (N, num_classes) logits."""
    return nn.Sequential(
        OrderedDict(
            pool=nn.AdaptiveAvgPool2d(4) if batch_norm else nn.AvgPool2d(5, stride=3),  # (N, in_channels, 4, 4)
            conv=_conv(in_channels, 128, 1, batch_norm=batch_norm),
            flatten=nn.Flatten(),  # (N, 2048)
            fc1=nn.Linear(2048, 1024),
            relu=nn.ReLU(),
            dropout=nn.Dropout(0.7),
            fc2=nn.Linear(1024, num_classes),
        )
    )


class GoogLeNet(nn.Module):
    """(N, 3, H, W) RGB pictures → (N, num_classes) logits; 224² is the paper's size.

    batch_norm: torchvision's form, see above. auxiliary: with the two auxiliary classifiers, for training at 224²
    through `graft.models.auxiliary`; `forward` never runs them.
    """

    takes: Final = Pictures(channels=3, side=224, smallest=32)

    def __init__(self, num_classes: int = 1000, *, batch_norm: bool = False, auxiliary: bool = False) -> None:
        super().__init__()
        conv = partial(_conv, batch_norm=batch_norm)
        norm = nn.Identity if batch_norm else response_norm
        pool = partial(nn.MaxPool2d, 3, stride=2, ceil_mode=True)
        stages: OrderedDict[str, nn.Module] = OrderedDict(
            conv1=conv(3, 64, 7, stride=2, padding=3),  # (N, 64, 112, 112)
            pool1=nn.Sequential(OrderedDict(pool=pool(), norm=norm())),  # (N, 64, 56, 56)
            conv2=nn.Sequential(
                OrderedDict(reduce=conv(64, 64, 1), conv=conv(64, 192, 3, padding=1), norm=norm())
            ),  # (N, 192, 56, 56)
            pool2=pool(),  # (N, 192, 28, 28)
        )
        channels, heads = 192, OrderedDict[str, nn.Module]()
        for name, widths in MODULES.items():
            if name == "inception4a":
                stages["pool3"] = pool()  # (N, 480, 14, 14)
            if name == "inception5a":
                stages["pool4"] = nn.MaxPool2d(2, stride=2, ceil_mode=True) if batch_norm else pool()  # (N, 832, 7, 7)
            stages[name] = inception(channels, widths, batch_norm=batch_norm)
            channels = widths.out_channels
            if auxiliary and name in AUXILIARY:
                heads[name] = _auxiliary(channels, num_classes, batch_norm=batch_norm)
        self.stages = nn.Sequential(stages)
        self.classifier = nn.Sequential(
            OrderedDict(
                average=nn.AdaptiveAvgPool2d(1),  # (N, 1024, 1, 1)
                flatten=nn.Flatten(),  # (N, 1024)
                dropout=nn.Dropout(0.4),
                fc=nn.Linear(channels, num_classes),
            )
        )
        self.auxiliary = nn.ModuleDict(heads)
        initial.he(self) if batch_norm else initial.glorot(self)

    def forward(self, x: Tensor) -> Tensor:
        self.takes.check(x, "GoogLeNet")
        return cast(Tensor, self.classifier(self.stages(x)))


def googlenet_bn(num_classes: int = 1000, *, auxiliary: bool = False) -> GoogLeNet:
    """GoogLeNet with batch norm, in the form whose weights torchvision publishes."""
    return GoogLeNet(num_classes, batch_norm=True, auxiliary=auxiliary)
