"""VGG A, A-LRN, B, C, D and E — Simonyan and Zisserman, ICLR 2015, table 1, arXiv:1409.1556.

Five stages of 3×3 convolutions, each ended by a 2×2 max pool. Convolutions are named as in the authors' Caffe files:
conv3_1 is the first of the third stage.
Departures: weights start as He et al. (the paper grows the deep networks from A, trained); other sizes than 224 have
their last maps averaged to 7×7 (the paper slides the fully connected layers over larger pictures when testing). Batch
norm, where asked for, stands between a convolution and its ReLU (the paper is older than batch norm).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, cast

from torch import Tensor, nn

from graft.models import initial
from graft.models.families.alexnet import response_norm
from graft.models.inputs import Pictures

WIDTHS: Final = (64, 128, 256, 512, 512)  # filters of the five stages


@dataclass(frozen=True)
class Configuration:
    """One column of table 1: the sides of each stage's kernels, and whether conv1_1 is followed by an LRN."""

    kernels: tuple[tuple[int, ...], ...]
    response_norm: bool = False


A: Final = Configuration(((3,), (3,), (3, 3), (3, 3), (3, 3)))
A_LRN: Final = Configuration(A.kernels, response_norm=True)
B: Final = Configuration(((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)))
C: Final = Configuration(((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)))
D: Final = Configuration(((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)))
E: Final = Configuration(((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)))


def _stage(number: int, in_channels: int, configuration: Configuration, batch_norm: bool) -> nn.Sequential:
    """Stage `number`, 1–5: (N, in_channels, H, W) → (N, WIDTHS[number − 1], H, W) ≥ 0, its layers named."""
    width = WIDTHS[number - 1]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for place, kernel in enumerate(configuration.kernels[number - 1], start=1):
        layers[f"conv{number}_{place}"] = nn.Conv2d(in_channels, width, kernel, padding=kernel // 2)
        if batch_norm:
            layers[f"bn{number}_{place}"] = nn.BatchNorm2d(width)
        layers[f"relu{number}_{place}"] = nn.ReLU()
        in_channels = width
    if configuration.response_norm and number == 1:
        layers["norm1"] = response_norm()
    return nn.Sequential(layers)


class VGG(nn.Module):
    """(N, 3, H, W) RGB pictures → (N, num_classes) logits; 224² is the paper's size."""

    takes: Final = Pictures(channels=3, side=224, smallest=32)

    def __init__(self, configuration: Configuration, num_classes: int = 1000, *, batch_norm: bool = False) -> None:
        super().__init__()
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        for number, in_channels in enumerate((3, *WIDTHS[:-1]), start=1):
            stages[f"conv{number}"] = _stage(number, in_channels, configuration, batch_norm)
            stages[f"pool{number}"] = nn.MaxPool2d(2)  # halves both sides: 112, 56, 28, 14, 7
        self.stages = nn.Sequential(stages)
        self.classifier = nn.Sequential(
            OrderedDict(
                average=nn.AdaptiveAvgPool2d(7),  # (N, 512, 7, 7), the identity at 224
                flatten=nn.Flatten(),  # (N, 25088)
                fc6=nn.Linear(25088, 4096),
                relu6=nn.ReLU(),
                drop6=nn.Dropout(0.5),
                fc7=nn.Linear(4096, 4096),
                relu7=nn.ReLU(),
                drop7=nn.Dropout(0.5),
                fc8=nn.Linear(4096, num_classes),
            )
        )
        initial.he(self)

    def forward(self, x: Tensor) -> Tensor:
        self.takes.check(x, "VGG")
        return cast(Tensor, self.classifier(self.stages(x)))


def vgg11(num_classes: int = 1000) -> VGG:
    """VGG A: 11 weight layers."""
    return VGG(A, num_classes)


def vgg11_lrn(num_classes: int = 1000) -> VGG:
    """VGG A-LRN: A with a local response normalisation after conv1_1, which the paper found of no use."""
    return VGG(A_LRN, num_classes)


def vgg13(num_classes: int = 1000) -> VGG:
    """VGG B: 13 weight layers."""
    return VGG(B, num_classes)


def vgg16_c(num_classes: int = 1000) -> VGG:
    """VGG C: 16 weight layers, three of them 1×1."""
    return VGG(C, num_classes)


def vgg16(num_classes: int = 1000) -> VGG:
    """VGG D: 16 weight layers, all 3×3."""
    return VGG(D, num_classes)


def vgg19(num_classes: int = 1000) -> VGG:
    """VGG E: 19 weight layers."""
    return VGG(E, num_classes)


def vgg11_bn(num_classes: int = 1000) -> VGG:
    """VGG A with batch norm."""
    return VGG(A, num_classes, batch_norm=True)


def vgg13_bn(num_classes: int = 1000) -> VGG:
    """VGG B with batch norm."""
    return VGG(B, num_classes, batch_norm=True)


def vgg16_c_bn(num_classes: int = 1000) -> VGG:
    """VGG C with batch norm."""
    return VGG(C, num_classes, batch_norm=True)


def vgg16_bn(num_classes: int = 1000) -> VGG:
    """VGG D with batch norm."""
    return VGG(D, num_classes, batch_norm=True)


def vgg19_bn(num_classes: int = 1000) -> VGG:
    """VGG E with batch norm."""
    return VGG(E, num_classes, batch_norm=True)
