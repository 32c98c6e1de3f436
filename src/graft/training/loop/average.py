"""The moving average of a network's weights over the steps of a run: evaluated and kept in place of the last.

Source: Polyak and Juditsky, SIAM J. Control Optim. 30(4), 1992; the exponential form as Szegedy et al., CVPR 2016, §8,
evaluate theirs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of the network whose `update_parameters(network)`, called after each step, moves it towards the network.

    decay: d in average ← d · average + (1 − d) · weights, 0–1. In the first steps d is (1 + n) / (10 + n) where that is
    less, n being the updates so far, so that the start is soon forgotten. Batch norm's statistics are averaged too.
    """

    @torch.no_grad()
    def towards(
        average: tuple[Tensor, ...] | list[Tensor], present: tuple[Tensor, ...] | list[Tensor], updates: Tensor | int
    ) -> None:
        if not average[0].is_floating_point():  # batch norm's count of batches
            for old, new in zip(average, present, strict=True):
                old.copy_(new)
            return
        torch._foreach_lerp_(list(average), list(present), 1 - effective_decay(decay, int(updates)))

    return AveragedModel(network, multi_avg_fn=towards, use_buffers=True)


def effective_decay(decay: float, updates: int) -> float:
    """The decay after `updates` updates: at most (1 + n) / (10 + n)."""
    return min(decay, (1 + updates) / (10 + updates))
