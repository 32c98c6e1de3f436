"""Passes of depthwise convolutions on this CPU, torch's own against graft's, and what that does to whole networks.

python -m benchmarks.depthwise          (3 minutes on two cores)

Layers are those of EfficientNet-Lite0 at 224², the last one at 128², batch 32, channels last. Milliseconds are medians
of seven; networks train on random pictures, images a second, medians of five steps, the two ways in turns.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.machine import keep
from graft.models.catalog import create
from graft.training.cpu.depthwise import fast_depthwise

LAYERS: Final = (
    (32, 112, 3, 1),
    (96, 112, 3, 2),
    (144, 56, 5, 2),
    (240, 28, 3, 2),
    (480, 14, 5, 1),
    (672, 14, 5, 2),
    (1152, 7, 5, 1),
    (1152, 4, 5, 1),
)
"""Channels, side, kernel, stride."""

BATCH: Final = 32


def main() -> None:
    """Measure layers and networks, and keep what came out."""
    keep("depthwise", {"milliseconds a pass": _layers(), "images a second": _networks()})


def _layers() -> dict[str, dict[str, float]]:
    found = {}
    for channels, side, kernel, stride in LAYERS:
        for precision in (torch.float32, torch.bfloat16):
            layer = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)
            owner = nn.Sequential(layer).to(precision)
            x = torch.rand(BATCH, channels, side, side, dtype=precision).to(memory_format=torch.channels_last)
            x.requires_grad_()
            name = f"{channels} channels, {side}², {kernel}×{kernel}, stride {stride}, {str(precision)[6:]}"
            found[name] = {"forward": _milliseconds(lambda owner=owner, x=x: owner(x)), **_backward(owner, x)}
            print(name, found[name], flush=True)
    return found


def _backward(layer: nn.Module, x: Tensor) -> dict[str, float]:
    y = layer(x)
    gradient = torch.rand_like(y)
    own = _milliseconds(lambda: torch.autograd.grad(y, [x, *layer.parameters()], gradient, retain_graph=True))
    with fast_depthwise(layer):
        z = layer(x)
        fast = _milliseconds(lambda: torch.autograd.grad(z, [x, *layer.parameters()], gradient, retain_graph=True))
    return {"backward": own, "graft's backward": fast}


def _milliseconds(work: Callable[[], object], times: int = 7) -> float:
    work()
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return round(1000 * statistics.median(seconds), 2)


def _networks() -> dict[str, float]:
    found = {}
    cases = (
        ("EfficientNet-Lite0", create("efficientnet-lite0", num_classes=6, seed=0), 224),
        ("MobileNet", create("mobilenet", num_classes=6, seed=0), 128),
    )
    for name, network, side in cases:
        network.train().to(memory_format=torch.channels_last)
        x = torch.rand(BATCH, 3, side, side).to(memory_format=torch.channels_last)
        target = torch.zeros(BATCH, dtype=torch.int64)
        for precision in (torch.float32, torch.bfloat16):
            for fast in (False, True):
                with fast_depthwise(network) if fast else contextlib.nullcontext():
                    spent = _milliseconds(lambda n=network, p=precision, x=x, t=target: _step(n, x, t, p), 5)
                key = f"{name} at {side}², {str(precision)[6:]}, {'graft' if fast else 'torch'}"
                found[key] = round(1000 * BATCH / spent, 1)
                print(key, found[key], flush=True)
    return found


def _step(network: nn.Module, x: Tensor, target: Tensor, precision: torch.dtype) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        logits = network(x)
    torch.autograd.backward(F.cross_entropy(logits.float(), target))
    network.zero_grad()


if __name__ == "__main__":
    main()
