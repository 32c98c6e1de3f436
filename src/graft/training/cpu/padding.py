"""timm's convolutions that pad as TensorFlow does, stated as plain ones behind a padding step.

What speeds convolutions up in training looks for plain ones; the strided layers of timm's `tf_` networks are not (our
EfficientNet-Lite pads in a layer of its own). The values are the same, and so are the names of the weights.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn


@contextlib.contextmanager
def plain_padding(network: nn.Module) -> Iterator[None]:
    """Within it, every convolution of the network that pads by itself is an `nn.Conv2d` without padding."""
    layers = sys.modules.get("timm.layers")  # loaded by whoever built a network that needs it
    found = [] if layers is None else [layer for layer in network.modules() if type(layer) is layers.Conv2dSame]
    hooks = []
    for layer in found:
        layer.__class__ = nn.Conv2d
        hooks.append(layer.register_forward_pre_hook(_padded))
    try:
        yield
    finally:
        for layer, hook in zip(found, hooks, strict=True):
            hook.remove()
            layer.__class__ = layers.Conv2dSame  # type: ignore[union-attr]


def _padded(layer: nn.Module, given: tuple[Any, ...]) -> Tensor:
    from timm.layers.padding import pad_same

    assert isinstance(layer, nn.Conv2d)
    x: Tensor = pad_same(given[0], list(layer.kernel_size), list(layer.stride), list(layer.dilation))
    return x
