"""Receptive fields against the gradient of one output position: what has a gradient is seen, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from analysis import lecture_networks
from graft.analysis.readers.trace import analyze_module
from graft.analysis.receptive_field import PIXEL, Field, Span, adaptive_window

torchvision = pytest.importorskip("torchvision")


def seen(network: nn.Module, side: int) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Rows and columns (first, after last) of the picture that the middle of the last map depends on, and its position.

    Weights are positive and pools average, so that no gradient cancels or is dropped.
    """
    x = torch.ones(1, 3, side, side, requires_grad=True)
    y = network.eval()(x)
    at = (y.shape[2] // 2, y.shape[3] // 2)
    (gradient,) = torch.autograd.grad(y[0, :, at[0], at[1]].sum(), x)
    rows, columns = (torch.nonzero(gradient.abs().sum(dim).flatten()).flatten() for dim in ((0, 1, 3), (0, 1, 2)))
    return (int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1), at


def positive(network: nn.Module) -> nn.Module:
    """The same network with constant positive weights, average for maximum pools and no scaling."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode))
            elif isinstance(child, nn.BatchNorm2d | nn.LocalResponseNorm | nn.ReLU | nn.ReLU6):
                setattr(parent, name, nn.Identity())
            elif isinstance(child, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.constant_(child.weight, 1 / child.weight[0].numel())
    return network


def span(layer_field: Span, at: int) -> tuple[Fraction, Fraction]:
    """First pixel and the one after the last of position `at`."""
    centre = layer_field.centre + at * layer_field.jump
    return centre - layer_field.size / 2, centre + layer_field.size / 2


def torchvision_part(name: str, last: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        extra = {"init_weights": False} if name == "googlenet" else {}
        network = getattr(torchvision.models, name)(weights=None, **extra)
        children = dict(network.named_children())
        if last in children:
            names = list(children)
            return nn.Sequential(*(children[n] for n in names[: names.index(last) + 1]))
        return network.features[: int(last) + 1]

    return build


class Branches(nn.Module):
    """Kernels of other heights than widths, dilation, and branches that meet twice."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 4, (1, 7), padding=(0, 3))
        self.dilated = nn.Conv2d(3, 4, 3, padding=2, dilation=2)
        self.down = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=2)
        self.even = nn.Conv2d(8, 8, 4, stride=2, padding=0)
        self.skip = nn.Conv2d(8, 8, 2, stride=2, padding=0)
        self.last = nn.Conv2d(8, 8, 3, padding="same", dilation=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(torch.cat([self.wide(x), self.dilated(x)], 1))
        return self.last(self.even(x) + self.skip(x)[:, :, 1:, 1:])


@pytest.mark.parametrize(
    ("build", "side"),
    [
        (torchvision_part("alexnet", "12"), 256),
        (torchvision_part("vgg11", "15"), 160),
        (torchvision_part("resnet18", "layer2"), 160),
        (torchvision_part("resnet50", "layer2"), 160),
        (torchvision_part("googlenet", "inception4a"), 224),
        (torchvision_part("squeezenet1_1", "7"), 128),
        (torchvision_part("mobilenet_v2", "7"), 160),
        (torchvision_part("densenet121", "4"), 128),
        (Branches, 96),
    ],
    ids=["alexnet", "vgg11", "resnet18", "resnet50", "googlenet", "squeezenet", "mobilenet", "densenet", "branches"],
)
def test_field_and_centre_are_where_the_gradient_is(build: Callable[[], nn.Module], side: int) -> None:
    network = positive(build())
    rows, columns, at = seen(network, side)
    field = analyze_module(network, (3, side, side)).layers[-1].field
    assert field is not None
    assert rows[0] > 0
    assert rows[1] < side, "the field must lie inside the picture for this test to say anything"
    assert span(field.rows, at[0]) == rows
    assert span(field.columns, at[1]) == columns


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(4, 2, 1), (3, 2, 1), (2, 2, 0), (5, 3, 2), (3, 1, 1)])
def test_transposed_convolution_sees_at_most_what_is_said(kernel: int, stride: int, padding: int) -> None:
    network = positive(nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ConvTranspose2d(4, 4, kernel, stride, padding)))
    layer = analyze_module(network, (3, 64, 64)).layers[-1]
    assert layer.field is not None
    widths = []
    x = torch.ones(1, 3, 64, 64, requires_grad=True)
    y = network(x)
    for at in range(12, 12 + 2 * stride):
        (gradient,) = torch.autograd.grad(y[0, :, at, at].sum(), x, retain_graph=True)
        lines = torch.nonzero(gradient.sum((0, 1, 3))).flatten()
        widths.append(int(lines[-1] - lines[0]) + 1)
        low, high = span(layer.field.rows, at)
        middle = (int(lines[0]) + int(lines[-1]) + 1) / 2
        assert abs(float(low + high) / 2 - middle) <= layer.field.rows.jump * stride / 2
    assert max(widths) == layer.field.size[0]


def test_squeeze_and_excitation_is_marked_and_left_out() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.gate = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return x * self.gate(x.mean((2, 3), keepdim=True)).sigmoid()

    network = Gated()
    layer = analyze_module(network, (3, 32, 32)).layers[-1]
    assert layer.kind == "multiply"
    assert layer.field is not None
    assert (layer.field.size, layer.field.gated) == ((3, 3), True)
    rows, _, _ = seen(positive(network), 32)
    assert rows == (0, 32)  # strictly, the whole picture reaches every position


def test_attention_sees_the_whole_picture_and_nothing_beside_it() -> None:
    with torch.device("meta"):
        network = torchvision.models.vit_b_32(weights=None)
    adds = [layer for layer in analyze_module(network).layers if layer.kind == "add" and "layer_5" in layer.name]
    assert [layer.field and layer.field.size for layer in adds] == [(224, 224)] * 2


def test_published_fields() -> None:
    """Araujo et al., Distill 2019, the table of models: VGG-16 212, ResNet-50 483, ResNet-101 1027."""
    networks = {
        "VGG-16": (lecture_networks.vgg16, 212),
        "ResNet-50": (lecture_networks.resnet50, 483),
        "ResNet-101": (lambda: lecture_networks.resnet50((3, 4, 23, 3)), 1027),
        "ResNet-50 with the stride in the 3×3": (lambda: torchvision.models.resnet50(weights=None), 427),
    }
    for name, (build, size) in networks.items():
        with torch.device("meta"):
            network = build()
        maps = [x for x in analyze_module(network).layers if len(x.output_shape) == 3 and x.kind != "avg pool"]
        assert maps[-1].field is not None
        assert maps[-1].field.size == (size, size), name


def test_spans_by_hand() -> None:
    """11×11 at stride 4 with padding 2, then 3×3 at stride 2: 11 and 4, then 11 + 2·4 = 19 and 8."""
    first = PIXEL.window(11, 4, 2)
    assert (first.size, first.jump, first.centre) == (11, 4, Fraction(7, 2))  # pixels −2 to 8: centre 3.5
    second = first.window(3, 2)
    assert (second.size, second.jump, second.centre) == (19, 8, Fraction(15, 2))
    assert PIXEL.window(3, dilation=4).size == 9
    assert first.all_of(6).size == 11 + 5 * 4
    assert PIXEL.enlarged(Fraction(2), 1) == Span(Fraction(1), Fraction(1, 2), Fraction(1, 4))
    assert PIXEL.window(3).union(PIXEL.window(5, padding=1)).size == 5


def test_adaptive_windows_are_those_that_torch_uses() -> None:
    for inside, outside in ((7, 7), (14, 7), (13, 6), (6, 6), (10, 3), (5, 1), (4, 7)):
        x = torch.ones(1, 1, inside, 1, requires_grad=True)
        y = nn.AdaptiveAvgPool2d((outside, 1))(x)
        widths = [int((torch.autograd.grad(y[0, 0, i, 0], x, retain_graph=True)[0] > 0).sum()) for i in range(outside)]
        assert adaptive_window(inside, outside) == (max(widths), Fraction(inside, outside))


def test_one_pixel_field() -> None:
    assert Field().size == (1, 1)


def test_normalising_across_channels_moves_nothing() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 5, 2), nn.LocalResponseNorm(5), nn.Conv2d(8, 8, 3))
    fields = [layer.field and layer.field.size for layer in analyze_module(network, (3, 32, 32)).layers]
    assert fields == [(5, 5), (5, 5), (9, 9)]
