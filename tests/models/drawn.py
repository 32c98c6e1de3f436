"""Networks with drawn weights, for tests that compare two: random scales and statistics hide no wrong branch."""

from __future__ import annotations

import importlib

import torch
from torch import Tensor, nn

from graft.models.card import Card


def on_meta(card: Card, num_classes: int | None = None, *, auxiliary: bool = False) -> nn.Module:
    """A card's network without memory for its weights: for counts and shapes, or to be filled from elsewhere."""
    module, function = card.builder.split(":")
    builder = getattr(importlib.import_module(module), function)
    classes = card.classes if num_classes is None else num_classes
    with torch.device("meta"):
        network: nn.Module = builder(classes, auxiliary=True) if auxiliary else builder(classes)
    return network


def drawn_pictures(shape: tuple[int, int, int, int]) -> Tensor:
    """(N, C, H, W) from N(0, 1), always the same."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


def draw_weights(network: nn.Module, *, seed: int) -> None:
    """Fill every weight of a network whose memory may hold anything: N(0, 2 / fan_in); biases N(0, 0.1²).

    The numbers are one drawn run over and over, of prime length so that no two filters are alike: drawing 140 million
    of them would take longer than the test.
    """
    run = torch.randn(1_000_003, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for parameter in network.parameters():
            scale = (2 / parameter[0].numel()) ** 0.5 if parameter.ndim > 1 else 0.1
            for part in parameter.view(-1).split(run.numel()):
                part.copy_(run[: part.numel()]).mul_(scale)
            run = run.roll(-parameter.numel())


def draw_norms(network: nn.Module, pictures: Tensor, *, seed: int) -> None:
    """Fill batch norms: scales 0.5–1.5, shifts N(0, 0.1²), statistics as these pictures give them; ends in eval mode.

    Real statistics keep signals alive through a hundred layers, where drawn ones would let them die out. But they also
    magnify every difference, rounding's included: each variance is moved half way to its layer's mean, for channels
    that hardly vary, and raised by a half, for the π / (π − 1) that a norm and a ReLU make of a difference's square.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = [module for module in network.eval().modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5, generator=generator)
        nn.init.normal_(norm.bias, 0.0, 0.1, generator=generator)
        norm.reset_running_stats()
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        network(pictures)
    for norm in norms:
        norm.running_var.lerp_(norm.running_var.mean(), 0.5).mul_(1.5)
        norm.momentum = 0.1
        norm.eval()
