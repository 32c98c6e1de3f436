"""Inception v3 — Szegedy et al., CVPR 2016, table 1, fig. 5–7 and §6, arXiv:1512.00567.

Stages carry the names of the authors' code (Conv2d_1a_3x3 … Mixed_7c), which every port has kept.
Departures, all as that code: 35² modules have 5×5 convolutions beside the doubled 3×3, a first 1×1 convolution where
the table has a 3×3, average pools before the projections; they count their padding, as the ports to PyTorch do. Batch
norm has scales, which the authors' own lacks: 23,834,568 parameters against 23,817,352. The paper's auxiliary
classifier stands on the last 17² maps and is for training only.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Final, cast

from torch import Tensor, nn

from graft.models import initial
from graft.models.families.layers import Branches, conv_bn_relu
from graft.models.inputs import Pictures

_conv: Final = partial(conv_bn_relu, epsilon=1e-3)
_wide: Final = partial(_conv, kernel=(1, 7), padding=(0, 3))
_tall: Final = partial(_conv, kernel=(7, 1), padding=(3, 0))


def _chain(*layers: nn.Module) -> nn.Sequential:
    """Convolutions one after another, named conv1, conv2, …"""
    return nn.Sequential(OrderedDict((f"conv{number}", layer) for number, layer in enumerate(layers, start=1)))


def _pooled(in_channels: int, out_channels: int) -> nn.Sequential:
    """The average pool of a module and its 1×1 projection: (N, in_channels, h, w) → (N, out_channels, h, w)."""
    return nn.Sequential(
        OrderedDict(pool=nn.AvgPool2d(3, stride=1, padding=1), conv1=_conv(in_channels, out_channels, 1))
    )


def _split(in_channels: int, out_channels: int) -> Branches:
    """A 1×3 and a 3×1 convolution side by side, fig. 7: (N, in_channels, h, w) → (N, 2 · out_channels, h, w)."""
    return Branches(
        OrderedDict(
            a=_conv(in_channels, out_channels, (1, 3), padding=(0, 1)),
            b=_conv(in_channels, out_channels, (3, 1), padding=(1, 0)),
        )
    )


def module_35(in_channels: int, pooled: int) -> Branches:
    """Fig. 5: (N, in_channels, 35, 35) → (N, 224 + pooled, 35, 35)."""
    return Branches(
        OrderedDict(
            branch1x1=_conv(in_channels, 64, 1),
            branch5x5=_chain(_conv(in_channels, 48, 1), _conv(48, 64, 5, padding=2)),
            branch3x3dbl=_chain(_conv(in_channels, 64, 1), _conv(64, 96, 3, padding=1), _conv(96, 96, 3, padding=1)),
            branch_pool=_pooled(in_channels, pooled),
        )
    )


def reduction_35(in_channels: int) -> Branches:
    """Fig. 10: (N, in_channels, 35, 35) → (N, 480 + in_channels, 17, 17)."""
    return Branches(
        OrderedDict(
            branch3x3=_conv(in_channels, 384, 3, stride=2),
            branch3x3dbl=_chain(_conv(in_channels, 64, 1), _conv(64, 96, 3, padding=1), _conv(96, 96, 3, stride=2)),
            branch_pool=nn.MaxPool2d(3, stride=2),
        )
    )


def module_17(in_channels: int, width: int) -> Branches:
    """Fig. 6 with n = 7: (N, in_channels, 17, 17) → (N, 768, 17, 17)."""
    return Branches(
        OrderedDict(
            branch1x1=_conv(in_channels, 192, 1),
            branch7x7=_chain(_conv(in_channels, width, 1), _wide(width, width), _tall(width, 192)),
            branch7x7dbl=_chain(
                _conv(in_channels, width, 1),
                _tall(width, width),
                _wide(width, width),
                _tall(width, width),
                _wide(width, 192),
            ),
            branch_pool=_pooled(in_channels, 192),
        )
    )


def reduction_17(in_channels: int) -> Branches:
    """(N, in_channels, 17, 17) → (N, 512 + in_channels, 8, 8)."""
    return Branches(
        OrderedDict(
            branch3x3=_chain(_conv(in_channels, 192, 1), _conv(192, 320, 3, stride=2)),
            branch7x7x3=_chain(
                _conv(in_channels, 192, 1),
                _wide(192, 192),
                _tall(192, 192),
                _conv(192, 192, 3, stride=2),
            ),
            branch_pool=nn.MaxPool2d(3, stride=2),
        )
    )


def module_8(in_channels: int) -> Branches:
    """Fig. 7: (N, in_channels, 8, 8) → (N, 2048, 8, 8)."""
    return Branches(
        OrderedDict(
            branch1x1=_conv(in_channels, 320, 1),
            branch3x3=_chain(_conv(in_channels, 384, 1), _split(384, 384)),
            branch3x3dbl=_chain(_conv(in_channels, 448, 1), _conv(448, 384, 3, padding=1), _split(384, 384)),
            branch_pool=_pooled(in_channels, 192),
        )
    )


def _auxiliary(num_classes: int) -> nn.Sequential:
    """(N, 768, 17, 17) maps → (N, num_classes) logits, fig. 8."""
    return nn.Sequential(
        OrderedDict(
            pool=nn.AvgPool2d(5, stride=3),  # (N, 768, 5, 5)
            conv0=_conv(768, 128, 1),
            conv1=_conv(128, 768, 5),  # (N, 768, 1, 1)
            average=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),  # (N, 768)
            fc=nn.Linear(768, num_classes),
        )
    )


class InceptionV3(nn.Module):
    """(N, 3, H, W) RGB pictures → (N, num_classes) logits; 299² is the paper's size.

    auxiliary: with the auxiliary classifier, for training at 299² through `graft.models.auxiliary`; `forward` never
    runs it.
    """

    takes: Final = Pictures(channels=3, side=299, smallest=75)

    def __init__(self, num_classes: int = 1000, *, auxiliary: bool = False) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            OrderedDict(
                Conv2d_1a_3x3=_conv(3, 32, 3, stride=2),  # (N, 32, 149, 149)
                Conv2d_2a_3x3=_conv(32, 32, 3),  # (N, 32, 147, 147)
                Conv2d_2b_3x3=_conv(32, 64, 3, padding=1),  # (N, 64, 147, 147)
                MaxPool_3a_3x3=nn.MaxPool2d(3, stride=2),  # (N, 64, 73, 73)
                Conv2d_3b_1x1=_conv(64, 80, 1),  # (N, 80, 73, 73)
                Conv2d_4a_3x3=_conv(80, 192, 3),  # (N, 192, 71, 71)
                MaxPool_5a_3x3=nn.MaxPool2d(3, stride=2),  # (N, 192, 35, 35)
                Mixed_5b=module_35(192, pooled=32),  # (N, 256, 35, 35)
                Mixed_5c=module_35(256, pooled=64),  # (N, 288, 35, 35)
                Mixed_5d=module_35(288, pooled=64),  # (N, 288, 35, 35)
                Mixed_6a=reduction_35(288),  # (N, 768, 17, 17)
                Mixed_6b=module_17(768, width=128),
                Mixed_6c=module_17(768, width=160),
                Mixed_6d=module_17(768, width=160),
                Mixed_6e=module_17(768, width=192),
                Mixed_7a=reduction_17(768),  # (N, 1280, 8, 8)
                Mixed_7b=module_8(1280),  # (N, 2048, 8, 8)
                Mixed_7c=module_8(2048),  # (N, 2048, 8, 8)
            )
        )
        self.classifier = nn.Sequential(
            OrderedDict(
                average=nn.AdaptiveAvgPool2d(1),  # (N, 2048, 1, 1)
                flatten=nn.Flatten(),  # (N, 2048)
                dropout=nn.Dropout(0.5),
                fc=nn.Linear(2048, num_classes),
            )
        )
        self.auxiliary = nn.ModuleDict({"Mixed_6e": _auxiliary(num_classes)} if auxiliary else {})
        initial.truncated_gaussian(self, std=0.1)
        if auxiliary:
            initial.truncated_gaussian(self.auxiliary, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        self.takes.check(x, "Inception v3")
        return cast(Tensor, self.classifier(self.stages(x)))
