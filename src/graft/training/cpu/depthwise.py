"""Depthwise convolutions whose backward passes are fast on a CPU too.

oneDNN computes most passes of a depthwise convolution fast, and some slowly (`python -m benchmarks.depthwise`): the
gradient of kernels that are wider than three columns, or have more rows than the maps, and in bfloat16 the gradient of
the input of a strided one. They are stated here by passes that are fast: a wide kernel is a few narrow ones side by
side, low maps get rows of zeros, and a strided convolution's gradient is a plain convolution of the gradient with zeros
set between its values [1].

[1] Dumoulin, Visin, A guide to convolution arithmetic for deep learning, arXiv 1603.07285, 2016, §4.5.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

NARROW: Final = 3  # columns of the widest kernel whose gradient oneDNN computes fast

Pair = tuple[int, int]


class FastDepthwise(nn.Conv2d):
    """A depthwise convolution like any other, but for its backward pass."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """(N, C, H, W) → (N, C, H', W'): what `forward` calls, with the layer's own weights."""
        if torch.is_autocast_enabled(x.device.type):
            wanted = torch.get_autocast_dtype(x.device.type)
            x, weight = x.to(wanted), weight.to(wanted)
            bias = None if bias is None else bias.to(wanted)
        y: Tensor = _Depthwise.apply(x, weight, bias, _pair(self.stride), _pair(self.padding))
        return y


@contextlib.contextmanager
def fast_depthwise(network: nn.Module) -> Iterator[None]:
    """Within it, the network's depthwise convolutions run backwards by the fast passes; the values are the same."""
    layers = [layer for layer in network.modules() if _is_depthwise(layer)]
    for layer in layers:
        layer.__class__ = FastDepthwise
    try:
        yield
    finally:
        for layer in layers:
            layer.__class__ = nn.Conv2d


def input_gradient(gradient: Tensor, weight: Tensor, size: Pair, stride: Pair, padding: Pair) -> Tensor:
    """∂loss/∂x of a depthwise convolution: gradient (N, C, H', W'), weight (C, 1, kh, kw) → (N, C, H, W) of `size`.

    By a convolution of stride 1 with the kernel turned by 180°, over the gradient with zeros between its values.
    """
    kernel, channels = weight.shape[2:], len(weight)
    rows, columns = (s - k + 2 * p + 1 for s, k, p in zip(size, kernel, padding, strict=True))
    spread = torch.empty(
        (len(gradient), channels, rows, columns),
        dtype=gradient.dtype, device=gradient.device, memory_format=torch.channels_last,
    ).zero_()  # fmt: skip
    spread[:, :, :: stride[0], :: stride[1]][:, :, : gradient.shape[2], : gradient.shape[3]] = gradient
    margin = [k - 1 - p for k, p in zip(kernel, padding, strict=True)]
    return F.conv2d(spread, weight.flip(2, 3), None, 1, margin, 1, channels)


def weight_gradient(x: Tensor, gradient: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """∂loss/∂w of a depthwise convolution: x (N, C, H, W), gradient (N, C, H', W') → (C, 1, kh, kw).

    By strips of at most NARROW columns of the kernel, each with the columns of x that it meets. Where x has fewer rows
    than the kernel, zeros make up for them, and a gradient of zero goes with them.
    """
    rows, columns = weight.shape[2:]
    if (missing := rows - x.shape[2]) > 0:
        x = F.pad(x, (0, 0, 0, missing))
        reached = (2 * padding[0] + x.shape[2] - rows) // stride[0] + 1
        gradient = F.pad(gradient, (0, 0, 0, reached - gradient.shape[2]))
        gradient = gradient.contiguous(memory_format=torch.channels_last)
    wide = F.pad(x, (padding[1], padding[1]))
    reach = stride[1] * (gradient.shape[3] - 1)
    strips = []
    for start in range(0, columns, NARROW):
        width = min(NARROW, columns - start)
        met = wide[..., start : start + reach + width].contiguous(memory_format=torch.channels_last)
        strip = weight[..., start : start + width].contiguous()
        strips.append(_gradients(gradient, met, strip, stride, (padding[0], 0), (False, True))[1])
    return torch.cat(strips, dim=3)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, bias, stride, padding, 1, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        stride, padding = ctx.stride, ctx.padding
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_x, of_weight = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        spread = of_x and stride != (1, 1) and x.dtype == torch.bfloat16
        strips = of_weight and _by_strips(x, weight, stride)
        given: tuple[Tensor | None, Tensor | None] = (None, None)
        if (of_x and not spread) or (of_weight and not strips):
            given = _gradients(gradient, x, weight, stride, padding, (of_x and not spread, of_weight and not strips))
        return (
            input_gradient(gradient, weight, x.shape[2:], stride, padding) if spread else given[0],
            weight_gradient(x, gradient, weight, stride, padding) if strips else given[1],
            gradient.sum(dim=(0, 2, 3)) if ctx.needs_input_grad[2] else None,
            None,
            None,
        )


def _by_strips(x: Tensor, weight: Tensor, stride: Pair) -> bool:
    """Whether strips give the weights' gradient sooner: in float32 their copies of x cost more than a stride saves."""
    wide = weight.shape[3] > NARROW and (stride == (1, 1) or x.dtype == torch.bfloat16)
    return wide or x.shape[2] < weight.shape[2]


def _gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: Pair, padding: Pair, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    """torch's own gradients of x and of the weights; only the wanted ones are computed."""
    of_x, of_weight, _ = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, stride, padding, (1, 1), False, (0, 0), len(weight), (*wanted, False)
    )
    return of_x, of_weight


def _is_depthwise(layer: nn.Module) -> bool:
    """A depthwise convolution that is torch's own, of one kernel a channel, that pads with zeros or not at all."""
    return (
        type(layer) is nn.Conv2d
        and layer.groups == layer.in_channels == layer.out_channels > 1
        and _pair(layer.dilation) == (1, 1)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
        and all(p < k for p, k in zip(_pair(layer.padding), _pair(layer.kernel_size), strict=True))
    )


def _pair(value: Any) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
