"""What several families share: a convolution with its batch norm and ReLU, and branches that run side by side."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

Pair = tuple[int, int]


def conv_bn_relu(
    in_channels: int,
    out_channels: int,
    kernel: int | Pair,
    *,
    stride: int = 1,
    padding: int | Pair = 0,
    epsilon: float = 1e-5,
) -> nn.Sequential:
    """(N, in_channels, H, W) → (N, out_channels, H', W') ≥ 0; children `conv` (no bias), `bn` and `relu`.

    epsilon: what batch norm adds to the variance. Source: Ioffe and Szegedy, ICML 2015, §3.2, arXiv:1502.03167.
    """
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=padding, bias=False),
            bn=nn.BatchNorm2d(out_channels, eps=epsilon),
            relu=nn.ReLU(),
        )
    )


class Branches(nn.Module):
    """(N, C, H, W) → (N, ΣC', H', W'): every branch reads the same maps, and their outputs are joined in order.

    branches: each with its name, all with outputs of one height and width.
    """

    def __init__(self, branches: OrderedDict[str, nn.Module]) -> None:
        super().__init__()
        for name, branch in branches.items():
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.children()], dim=1)
