"""A kernel machine's features before a network's last linear layer.

Source: Williams and Seeger, Using the Nyström method to speed up kernel machines, NIPS 2000. Departure: their map also
has the inverse root of the landmarks' own kernel matrix, which is folded into the linear layer here.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from graft.models.network import Built, head

KERNEL = "kernel"
"""The name of the module in a network's classifier."""


class KernelFeatures(nn.Module):
    """(N, D) features → (N, M) likenesses to landmarks, exp(−γ‖x/‖x‖ − landmark‖²), above 0 and at most 1.

    landmarks: (M, D), each of length 1. gamma: above 0. Both are buffers: fine-tuning leaves them as they are.
    """

    landmarks: Tensor
    gamma: Tensor

    def __init__(self, landmarks: Tensor, gamma: float) -> None:
        super().__init__()
        self.register_buffer("landmarks", landmarks)
        self.register_buffer("gamma", torch.tensor(gamma, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        cosines = functional.normalize(x, dim=1) @ self.landmarks.T  # (N, M)
        return torch.exp(2 * self.gamma * (cosines - 1))  # ‖a − b‖² = 2 − 2·cosine for vectors of length 1


def with_kernel(built: Built, count: int, *, landmarks: str, gamma: str) -> Built:
    """`built` with room for a kernel machine of `count` landmarks: its last linear layer (K, D) becomes (K, count).

    landmarks, gamma: the names of the kernel's tensors in files of weights. What stands in the new layers is to be
    replaced. The network is changed in place.
    """
    last = head(built.network)
    classifier = cast(nn.Sequential, built.network.classifier)
    *below, (name, _) = classifier.named_children()
    grown = OrderedDict([
        *below,
        (KERNEL, KernelFeatures(torch.zeros(count, last.in_features), 1.0)),
        (name, nn.Linear(count, last.out_features)),
    ])  # fmt: skip
    network = built.network
    network.classifier = nn.Sequential(grown).eval()
    ours = next(key for key in network.state_dict() if key.endswith(f"{KERNEL}.landmarks"))
    owner = ours.removesuffix("landmarks")
    return replace(built, published={**built.published, ours: landmarks, f"{owner}gamma": gamma})
