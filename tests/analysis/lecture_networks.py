"""The lectures' networks, written out from their tables for the tests, and as Caffe describes them."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

MODULES = {  # input channels, #1×1, #3×3 reduce, #3×3, #5×5 reduce, #5×5, pool projection; side of the maps
    "3a": (192, 64, 96, 128, 16, 32, 32, 28),
    "3b": (256, 128, 128, 192, 32, 96, 64, 28),
    "4a": (480, 192, 96, 208, 16, 48, 64, 14),
    "4b": (512, 160, 112, 224, 24, 64, 64, 14),
    "4c": (512, 128, 128, 256, 24, 64, 64, 14),
    "4d": (512, 112, 144, 288, 32, 64, 64, 14),
    "4e": (528, 256, 160, 320, 32, 128, 128, 14),
    "5a": (832, 256, 160, 320, 32, 128, 128, 7),
    "5b": (832, 384, 192, 384, 48, 128, 128, 7),
}


def conv(inside: int, outside: int, kernel: int, stride: int = 1, padding: int = 0) -> list[nn.Module]:
    return [nn.Conv2d(inside, outside, kernel, stride, padding), nn.ReLU(inplace=True)]


class Inception(nn.Module):
    """(N, C, H, W) → (N, #1×1 + #3×3 + #5×5 + projection, H, W)."""

    def __init__(self, inside: int, one: int, reduce3: int, three: int, reduce5: int, five: int, pool: int) -> None:
        super().__init__()
        self.one = nn.Sequential(*conv(inside, one, 1))
        self.three = nn.Sequential(*conv(inside, reduce3, 1), *conv(reduce3, three, 3, 1, 1))
        self.five = nn.Sequential(*conv(inside, reduce5, 1), *conv(reduce5, five, 5, 1, 2))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), *conv(inside, pool, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1)


def googlenet() -> nn.Sequential:
    def pool() -> nn.MaxPool2d:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    blocks = {name: Inception(*widths[:-1]) for name, widths in MODULES.items()}
    return nn.Sequential(
        *(*conv(3, 64, 7, 2, 3), pool(), *conv(64, 64, 1), *conv(64, 192, 3, 1, 1), pool()),
        *(blocks["3a"], blocks["3b"], pool(), *(blocks[f"4{letter}"] for letter in "abcde"), pool()),
        *(blocks["5a"], blocks["5b"], nn.AvgPool2d(7), nn.Flatten(), nn.Linear(1024, 1000)),
    )


def alexnet() -> nn.Sequential:
    """One tower, 227², conv1 padded by 2: the lectures' table."""
    return nn.Sequential(
        *(*conv(3, 64, 11, 4, 2), nn.MaxPool2d(3, 2), *conv(64, 192, 5, 1, 2), nn.MaxPool2d(3, 2)),
        *(*conv(192, 384, 3, 1, 1), *conv(384, 256, 3, 1, 1), *conv(256, 256, 3, 1, 1), nn.MaxPool2d(3, 2)),
        *(nn.Flatten(), nn.Linear(9216, 4096), nn.ReLU(inplace=True), nn.Linear(4096, 4096), nn.ReLU(inplace=True)),
        nn.Linear(4096, 1000),
    )


VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def vgg16() -> nn.Sequential:
    layers: list[nn.Module] = []
    inside = 3
    for stage in VGG16:
        for outside in stage:
            layers += conv(inside, outside, 3, 1, 1)
            inside = outside
        layers.append(nn.MaxPool2d(2, 2))
    widths = (25088, 4096, 4096, 1000)
    linears = [nn.Linear(a, b) for a, b in pairwise(widths)]
    return nn.Sequential(*layers, nn.Flatten(), *linears)


class Bottleneck(nn.Module):
    """As in the paper, the first 1×1 carries the stride."""

    def __init__(self, inside: int, width: int, stride: int, projected: bool) -> None:
        super().__init__()
        self.a, self.bn_a = nn.Conv2d(inside, width, 1, stride, bias=False), nn.BatchNorm2d(width)
        self.b, self.bn_b = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.c, self.bn_c = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.skip: nn.Module = nn.Identity()
        if projected:
            self.skip = nn.Sequential(nn.Conv2d(inside, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn_a(self.a(x)).relu_()
        y = self.bn_b(self.b(y)).relu_()
        return (self.skip(x) + self.bn_c(self.c(y))).relu_()


RESNET50 = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # width, blocks, stride of each stage


def resnet50(depths: tuple[int, ...] = (3, 4, 6, 3)) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
    layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
    inside = 64
    for (width, _, stride), blocks in zip(RESNET50, depths, strict=True):
        for block in range(blocks):
            layers.append(Bottleneck(inside, width, stride if block == 0 else 1, block == 0))
            inside = 4 * width
    return nn.Sequential(*layers, nn.AvgPool2d(7), nn.Flatten(), nn.Linear(2048, 1000))


# ── the same as Caffe's prototxt ──


def _layer(name: str, kind: str, bottom: str | list[str], top: str, parameters: str = "") -> str:
    bottoms = [bottom] if isinstance(bottom, str) else bottom
    reads = " ".join(f'bottom: "{b}"' for b in bottoms)
    return f'layer {{ name: "{name}" type: "{kind}" {reads} top: "{top}" {parameters} }}\n'


def _conv(name: str, bottom: str, outside: int, kernel: int, stride: int = 1, pad: int = 0, bias: bool = True) -> str:
    geometry = f"num_output: {outside} kernel_size: {kernel} stride: {stride} pad: {pad}"
    text = f"convolution_param {{ {geometry} bias_term: {str(bias).lower()} }}"
    return _layer(name, "Convolution", bottom, name, text)


def _relu(blob: str) -> str:
    return _layer(f"relu_{blob}", "ReLU", blob, blob)


def _pool(name: str, bottom: str, kernel: int, stride: int, pad: int = 0, more: str = "pool: MAX") -> str:
    text = f"pooling_param {{ kernel_size: {kernel} stride: {stride} pad: {pad} {more} }}"
    return _layer(name, "Pooling", bottom, name, text)


def _linear(name: str, bottom: str, outside: int) -> str:
    return _layer(name, "InnerProduct", bottom, name, f"inner_product_param {{ num_output: {outside} }}")


def _norm(blob: str) -> str:
    """Batch norm as Caffe has it: statistics, then a scale and an offset, in place."""
    return _layer(f"bn_{blob}", "BatchNorm", blob, blob) + _layer(
        f"scale_{blob}", "Scale", blob, blob, "scale_param { bias_term: true }"
    )


def _input(channels: int, side: int) -> str:
    shape = f"dim: 10 dim: {channels} dim: {side} dim: {side}"
    return f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape: {{ {shape} }} }} }}\n'


def alexnet_prototxt() -> str:
    """Its 56² maps are pooled to 27², as in the lectures: Caffe rounds up to 28 unless told not to."""
    text = 'name: "AlexNet"\n' + _input(3, 227)
    text += (
        _conv("conv1", "data", 64, 11, 4, 2) + _relu("conv1") + _pool("pool1", "conv1", 3, 2, more="round_mode: FLOOR")
    )
    text += _conv("conv2", "pool1", 192, 5, 1, 2) + _relu("conv2") + _pool("pool2", "conv2", 3, 2)
    below = "pool2"
    for i, width in enumerate((384, 256, 256), 3):
        text += _conv(f"conv{i}", below, width, 3, 1, 1) + _relu(f"conv{i}")
        below = f"conv{i}"
    text += _pool("pool5", below, 3, 2) + _linear("fc6", "pool5", 4096) + _relu("fc6")
    return text + _linear("fc7", "fc6", 4096) + _relu("fc7") + _linear("fc8", "fc7", 1000)


def vgg16_prototxt() -> str:
    """With the older way to declare an input, and the older layer types."""
    text = 'name: "VGG-16"\ninput: "data"\ninput_dim: 10\ninput_dim: 3\ninput_dim: 224\ninput_dim: 224\n'
    below = "data"
    for s, stage in enumerate(VGG16, 1):
        for i, outside in enumerate(stage, 1):
            name = f"conv{s}_{i}"
            text += _conv(name, below, outside, 3, 1, 1) + _relu(name)
            below = name
        text += _pool(f"pool{s}", below, 2, 2)
        below = f"pool{s}"
    for i, outside in enumerate((4096, 4096, 1000), 6):
        text += _linear(f"fc{i}", below, outside)
        below = f"fc{i}"
    old = {"Convolution": "CONVOLUTION", "ReLU": "RELU", "Pooling": "POOLING", "InnerProduct": "INNER_PRODUCT"}
    for new, before in old.items():
        text = text.replace(f'type: "{new}"', f"type: {before}")
    return text.replace("layer {", "layers {")


def googlenet_prototxt() -> str:
    text = 'name: "GoogLeNet"\n' + _input(3, 224)
    text += _conv("conv1", "data", 64, 7, 2, 3) + _relu("conv1") + _pool("pool1", "conv1", 3, 2)
    text += _conv("conv2r", "pool1", 64, 1) + _relu("conv2r")
    text += _conv("conv2", "conv2r", 192, 3, 1, 1) + _relu("conv2") + _pool("pool2", "conv2", 3, 2)
    below = "pool2"
    for name, (_, one, reduce3, three, reduce5, five, pool, _) in MODULES.items():
        a, b, c, d = f"{name}_1x1", f"{name}_3x3", f"{name}_5x5", f"{name}_proj"
        text += _conv(a, below, one, 1) + _relu(a)
        text += _conv(f"{b}_r", below, reduce3, 1) + _relu(f"{b}_r") + _conv(b, f"{b}_r", three, 3, 1, 1) + _relu(b)
        text += _conv(f"{c}_r", below, reduce5, 1) + _relu(f"{c}_r") + _conv(c, f"{c}_r", five, 5, 1, 2) + _relu(c)
        text += _pool(f"{name}_pool", below, 3, 1, 1) + _conv(d, f"{name}_pool", pool, 1) + _relu(d)
        text += _layer(name, "Concat", [a, b, c, d], name)
        below = name
        if name in ("3b", "4e"):
            text += _pool(f"pool_{name}", below, 3, 2)
            below = f"pool_{name}"
    return text + _pool("pool5", below, 7, 1, more="pool: AVE") + _linear("fc", "pool5", 1000)


def resnet50_prototxt(stride_in_3x3: bool = False) -> str:
    text = 'name: "ResNet-50"\n' + _input(3, 224)
    text += _conv("conv1", "data", 64, 7, 2, 3, bias=False) + _norm("conv1") + _relu("conv1")
    text += _pool("pool1", "conv1", 3, 2)
    below = "pool1"
    for s, (width, blocks, stride) in enumerate(RESNET50, 2):
        for block in range(blocks):
            name, step = f"res{s}{chr(97 + block)}", stride if block == 0 else 1
            a, b, c = f"{name}_a", f"{name}_b", f"{name}_c"
            first, second = (1, step) if stride_in_3x3 else (step, 1)
            text += _conv(a, below, width, 1, first, bias=False) + _norm(a) + _relu(a)
            text += _conv(b, a, width, 3, second, 1, bias=False) + _norm(b) + _relu(b)
            text += _conv(c, b, 4 * width, 1, bias=False) + _norm(c)
            skip = below
            if block == 0:
                skip = f"{name}_skip"
                text += _conv(skip, below, 4 * width, 1, step, bias=False) + _norm(skip)
            text += _layer(name, "Eltwise", [skip, c], name) + _relu(name)
            below = name
    pool = _layer("pool5", "Pooling", below, "pool5", "pooling_param { pool: AVE global_pooling: true }")
    return text + pool + _linear("fc", "pool5", 1000)
