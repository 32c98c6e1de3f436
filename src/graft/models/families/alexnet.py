"""AlexNet in both forms — Krizhevsky et al., NeurIPS 2012, §3 and fig. 2; "One weird trick…", arXiv:1404.5997 — and
ZFNet — Zeiler and Fergus, ECCV 2014, fig. 3 and table 2, arXiv:1311.2901.

AlexNet2012  the two-GPU form: 96, 256, 384, 384, 256 filters, conv2, conv4 and conv5 in two groups, local response
             normalisation, 227² pictures (the paper prints 224², from which its 55² maps do not follow).
AlexNet      the later form for one tower: 64, 192, 384, 256, 256 filters, no groups, no normalisation.
ZFNet        AlexNet's layers with conv1 7×7 at stride 2, not grouped; `widths` gives the wider twin of table 2.

Departures: one network on one device. The one-tower form averages its last maps to 6×6, so that other sizes than 224
and 227 run too (the paper has one size); it follows torchvision's placing of dropout. ZFNet normalises across
channels as AlexNet does, where the paper says "contrast normalised across feature maps" with no constants.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, cast

from torch import Tensor, nn

from graft.models import initial
from graft.models.inputs import Pictures


def response_norm() -> nn.LocalResponseNorm:
    """Krizhevsky et al., §3.3: x / (2 + 1e-4 · Σ x²)^0.75, the sum over five neighbouring channels.

    torch divides its alpha by the number of channels in the sum, which the paper does not: hence 5e-4.
    """
    return nn.LocalResponseNorm(size=5, alpha=5e-4, beta=0.75, k=2.0)


def _fully_connected(in_features: int, num_classes: int) -> nn.Sequential:
    """(N, C, h, w) maps of C·h·w = in_features → (N, num_classes) logits, dropout before fc7 and fc8's inputs."""
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc6=nn.Linear(in_features, 4096),
            relu6=nn.ReLU(),
            drop6=nn.Dropout(0.5),
            fc7=nn.Linear(4096, 4096),
            relu7=nn.ReLU(),
            drop7=nn.Dropout(0.5),
            fc8=nn.Linear(4096, num_classes),
        )
    )


class AlexNet2012(nn.Module):
    """(N, 3, 227, 227) RGB pictures → (N, num_classes) logits: the form that won the contest of 2012."""

    takes: Final = Pictures(channels=3, side=227, smallest=None)

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            OrderedDict(
                conv1=nn.Sequential(nn.Conv2d(3, 96, 11, stride=4), nn.ReLU(), response_norm()),  # (N, 96, 55, 55)
                pool1=nn.MaxPool2d(3, stride=2),  # (N, 96, 27, 27)
                conv2=nn.Sequential(nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(), response_norm()),
                pool2=nn.MaxPool2d(3, stride=2),  # (N, 256, 13, 13)
                conv3=nn.Sequential(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU()),  # (N, 384, 13, 13)
                conv4=nn.Sequential(nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU()),
                conv5=nn.Sequential(nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU()),  # (N, 256, 13, 13)
                pool5=nn.MaxPool2d(3, stride=2),  # (N, 256, 6, 6)
            )
        )
        self.classifier = _fully_connected(9216, num_classes)
        initial.gaussian(self, std=0.01)
        for layer in ("stages.conv2.0", "stages.conv4.0", "stages.conv5.0", "classifier.fc6", "classifier.fc7"):
            nn.init.ones_(cast(Tensor, self.get_submodule(layer).bias))  # §5: so that ReLUs start with positive inputs

    def forward(self, x: Tensor) -> Tensor:
        self.takes.check(x, "AlexNet")
        return cast(Tensor, self.classifier(self.stages(x)))


class AlexNet(nn.Module):
    """(N, 3, H, W) RGB pictures → (N, num_classes) logits: the form for one tower, 61 M parameters."""

    takes: Final = Pictures(channels=3, side=224, smallest=63)

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            OrderedDict(
                conv1=nn.Sequential(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU()),  # (N, 64, 55, 55)
                pool1=nn.MaxPool2d(3, stride=2),  # (N, 64, 27, 27)
                conv2=nn.Sequential(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU()),  # (N, 192, 27, 27)
                pool2=nn.MaxPool2d(3, stride=2),  # (N, 192, 13, 13)
                conv3=nn.Sequential(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),  # (N, 384, 13, 13)
                conv4=nn.Sequential(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),  # (N, 256, 13, 13)
                conv5=nn.Sequential(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),  # (N, 256, 13, 13)
                pool5=nn.MaxPool2d(3, stride=2),  # (N, 256, 6, 6)
            )
        )
        self.classifier = nn.Sequential(
            OrderedDict(
                average=nn.AdaptiveAvgPool2d(6),  # (N, 256, 6, 6), the identity at 224 and 227
                flatten=nn.Flatten(),  # (N, 9216)
                drop5=nn.Dropout(0.5),
                fc6=nn.Linear(9216, 4096),
                relu6=nn.ReLU(),
                drop6=nn.Dropout(0.5),
                fc7=nn.Linear(4096, 4096),
                relu7=nn.ReLU(),
                fc8=nn.Linear(4096, num_classes),
            )
        )
        initial.he(self)  # N(0, 0.01²) without a normalisation starves the deeper layers

    def forward(self, x: Tensor) -> Tensor:
        self.takes.check(x, "AlexNet (one tower)")
        return cast(Tensor, self.classifier(self.stages(x)))


class ZFNet(nn.Module):
    """(N, 3, 224, 224) RGB pictures → (N, num_classes) logits.

    widths: filters of conv3, conv4 and conv5; (384, 384, 256) is the paper's fig. 3.
    """

    takes: Final = Pictures(channels=3, side=224, smallest=None)

    def __init__(self, num_classes: int = 1000, widths: tuple[int, int, int] = (384, 384, 256)) -> None:
        super().__init__()
        third, fourth, fifth = widths
        self.stages = nn.Sequential(
            OrderedDict(
                conv1=nn.Sequential(nn.Conv2d(3, 96, 7, stride=2, padding=1), nn.ReLU()),  # (N, 96, 110, 110)
                pool1=nn.Sequential(nn.MaxPool2d(3, stride=2, ceil_mode=True), response_norm()),  # (N, 96, 55, 55)
                conv2=nn.Sequential(nn.Conv2d(96, 256, 5, stride=2), nn.ReLU()),  # (N, 256, 26, 26)
                pool2=nn.Sequential(nn.MaxPool2d(3, stride=2, ceil_mode=True), response_norm()),  # (N, 256, 13, 13)
                conv3=nn.Sequential(nn.Conv2d(256, third, 3, padding=1), nn.ReLU()),  # (N, 384, 13, 13)
                conv4=nn.Sequential(nn.Conv2d(third, fourth, 3, padding=1), nn.ReLU()),  # (N, 384, 13, 13)
                conv5=nn.Sequential(nn.Conv2d(fourth, fifth, 3, padding=1), nn.ReLU()),  # (N, 256, 13, 13)
                pool5=nn.MaxPool2d(3, stride=2),  # (N, 256, 6, 6)
            )
        )
        self.classifier = _fully_connected(fifth * 36, num_classes)
        initial.gaussian(self, std=0.01)  # §3: "initialized to 10⁻² and biases … to 0"

    def forward(self, x: Tensor) -> Tensor:
        self.takes.check(x, "ZFNet")
        return cast(Tensor, self.classifier(self.stages(x)))


def zfnet_wide(num_classes: int = 1000) -> ZFNet:
    """ZFNet with 512, 1024 and 512 filters in conv3–5, as the lectures describe it. Source: table 2, model (b)."""
    return ZFNet(num_classes, widths=(512, 1024, 512))
