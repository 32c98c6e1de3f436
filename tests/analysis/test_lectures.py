"""Every number that the lectures print about layers and architectures, with their slips said to be such."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from analysis import lecture_networks
from graft.analysis.readers.trace import analyze_module
from graft.analysis.table import Analysis, Layer

KB = 1024


def weights(layer: Layer) -> int:
    """Parameters without biases, one of which every output channel has."""
    return layer.parameters - layer.output_shape[0]


def costly(analysis: Analysis) -> list[Layer]:
    return [layer for layer in analysis.layers if layer.kind in ("conv", "max pool", "avg pool", "linear")]


def on_meta(build: type[nn.Module] | object) -> nn.Module:
    with torch.device("meta"):
        return build()  # type: ignore[operator, no-any-return]


def test_convolution_of_six_5x5_filters() -> None:
    (layer,) = analyze_module(nn.Conv2d(3, 6, 5), (3, 32, 32)).layers
    assert layer.output_shape == (6, 28, 28)
    assert layer.parameters == 6 * (75 + 1) == 456
    assert layer.macs == 6 * 28 * 28 * 75


def filtered(picture: list[list[int]], kernel: list[list[int]], padding: int = 0) -> list[list[float]]:
    """A picture under one filter, through a layer whose output has the shape that the analysis gives."""
    layer = nn.Conv2d(1, 1, len(kernel), padding=padding, bias=False)
    layer.weight.data = torch.tensor([[kernel]], dtype=torch.float32)
    x = torch.tensor([[picture]], dtype=torch.float32)
    y = layer(x).detach()
    assert analyze_module(layer, tuple(x.shape[1:])).layers[0].output_shape == tuple(y.shape[1:])
    return y[0, 0].tolist()  # type: ignore[no-any-return]


def test_vertical_edges_by_hand() -> None:
    picture = [
        [3, 0, 1, 2, 4, 7], [1, 5, 8, 9, 3, 1], [2, 7, 2, 5, 1, 3],
        [0, 1, 3, 1, 7, 8], [4, 2, 1, 6, 2, 8], [2, 4, 5, 2, 3, 9],
    ]  # fmt: skip
    found = filtered(picture, [[1, 0, -1]] * 3)
    assert found == [[-5, -4, 3, 5], [-10, -2, 2, 3], [0, -2, -4, -7], [-3, -2, -3, -16]]


def test_a_small_convolution_and_its_pools_by_hand() -> None:
    picture = [[2, 0, 1, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 3, 0, 0]]
    assert filtered(picture, [[1, 0, 1], [0, 0, 0], [0, 1, 0]]) == [[3, 2], [3, 1]]
    x = torch.tensor([[picture]], dtype=torch.float32)
    assert nn.MaxPool2d(2)(x)[0, 0].tolist() == [[2, 1], [3, 1]]
    # the lectures print 1.5, 1, 1.5, 0.5: sums divided by 2, where a window has four elements
    assert nn.AvgPool2d(2)(x)[0, 0].tolist() == [[0.75, 0.5], [0.75, 0.25]]


def test_edge_detection_answers_where_the_grey_changes() -> None:
    """8 in the middle of −1s sums to 0: nothing on flat grey, and beside a step of 1 the three neighbours across it."""
    step = [[0, 0, 0, 1, 1, 1]] * 5
    found = filtered(step, [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], padding=1)
    assert found[2][1:5] == [0, -3, 3, 0]


def test_first_layers_of_alexnet_without_padding() -> None:
    conv, pool = analyze_module(nn.Sequential(nn.Conv2d(3, 96, 11, 4), nn.MaxPool2d(3, 2)), (3, 227, 227)).layers
    assert (conv.output_shape, weights(conv)) == ((96, 55, 55), 34_848)
    assert (pool.output_shape, pool.parameters) == ((96, 27, 27), 0)


def test_two_3x3_against_one_5x5_and_three_see_seven() -> None:
    channels = 10
    double = analyze_module(
        nn.Sequential(*(nn.Conv2d(channels, channels, 3, bias=False) for _ in range(2))), (10, 9, 9)
    )
    single = analyze_module(nn.Conv2d(channels, channels, 5, bias=False), (10, 9, 9))
    assert (double.parameters, single.parameters) == (18 * channels**2, 25 * channels**2)
    three = analyze_module(nn.Sequential(*(nn.Conv2d(1, 1, 3) for _ in range(3))), (1, 9, 9))
    assert [layer.field and layer.field.size for layer in three.layers] == [(3, 3), (5, 5), (7, 7)]


@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_field_of_stacked_layers_is_one_plus_depth_times_kernel_less_one(kernel: int) -> None:
    layers = analyze_module(nn.Sequential(*(nn.Conv2d(1, 1, kernel) for _ in range(5))), (1, 64, 64)).layers
    assert [layer.field.size[0] for layer in layers if layer.field] == [1 + n * (kernel - 1) for n in range(1, 6)]


def test_the_small_keras_network() -> None:
    network = nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding="same"), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding="same"), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(3136, 128), nn.Linear(128, 10)),
    )
    analysis = analyze_module(network, (1, 28, 28))
    assert [layer.parameters for layer in analysis.layers] == [320, 0, 18_496, 0, 0, 401_536, 1_290]
    assert analysis.parameters == 421_642


def test_alexnet_one_tower_by_layer() -> None:
    analysis = analyze_module(on_meta(lecture_networks.alexnet), (3, 227, 227))
    rows = costly(analysis)
    assert [(layer.output_shape[0], layer.output_shape[1:2] or None) for layer in rows] == [
        *((64, (56,)), (64, (27,)), (192, (27,)), (192, (13,)), (384, (13,)), (256, (13,)), (256, (13,)), (256, (6,))),
        *((4096, None), (4096, None), (1000, None)),
    ]
    assert [round(layer.output_bytes / KB + 1e-9) for layer in rows] == [
        784,
        182,
        547,
        127,
        254,
        169,
        169,
        36,
        16,
        16,
        4,
    ]
    flatten = next(layer for layer in analysis.layers if layer.kind == "flatten")
    assert (flatten.output_shape, flatten.output_bytes, flatten.activation_bytes) == ((9216,), 36 * KB, 0)
    assert rows[0].parameters == 23_296
    assert rows[1].output_bytes == 182.25 * KB
    assert [round(layer.parameters / 1000) for layer in rows if layer.kind == "conv"] == [23, 307, 664, 885, 590]
    assert rows[0].macs == 72_855_552
    assert rows[1].pool_operations == 419_904
    assert rows[1].macs == 0  # a pool multiplies nothing; the lectures count its window as operations
    assert [layer.macs // 10**6 for layer in rows if layer.kind == "linear"] == [
        37,
        16,
        4,
    ]  # printed rounded: 38, 17, 4


def test_alexnet_macs_where_the_lectures_slip() -> None:
    convs = [x for x in costly(analyze_module(on_meta(lecture_networks.alexnet), (3, 227, 227))) if x.kind == "conv"]
    assert [round(x.macs / 1e6) for x in convs] == [73, 224, 112, 150, 100]
    assert convs[3].macs == 149_520_384  # the lectures print 145 M for conv4


def test_alexnet_linear_parameters_where_the_lectures_slip() -> None:
    linear = [x for x in costly(analyze_module(on_meta(lecture_networks.alexnet), (3, 227, 227))) if x.kind == "linear"]
    assert [x.parameters for x in linear] == [37_752_832, 16_781_312, 4_097_000]
    # the lectures print 37,749 K, 16,777 K and 4,096 K: weights without biases
    assert [weights(x) for x in linear] == [37_748_736, 16_777_216, 4_096_000]
    assert linear[0].parameters != 37_725_832  # printed elsewhere for fc6, which neither count gives


def test_alexnet_totals() -> None:
    analysis = analyze_module(on_meta(lecture_networks.alexnet), (3, 227, 227))
    weighted = sum(layer.output_bytes for layer in analysis.layers if layer.kind in ("conv", "linear"))
    assert round(weighted / 2**20, 1) == 1.9  # the lectures' 1.9 MB leaves out the pools
    assert round(analysis.activation_bytes / 2**20, 2) == 2.25
    assert round(analysis.parameters / 1e6) == 61
    assert round(analysis.macs / 1e9, 1) == 0.7


def test_googlenet_stem() -> None:
    rows = costly(analyze_module(on_meta(lecture_networks.googlenet), (3, 224, 224)))
    stem = rows[:5]
    assert [x.output_shape for x in stem] == [(64, 112, 112), (64, 56, 56), (64, 56, 56), (192, 56, 56), (192, 28, 28)]
    assert [x.output_bytes // KB for x in stem] == [3136, 784, 784, 2352, 588]
    assert [weights(x) // 1000 if x.parameters else 0 for x in stem] == [9, 0, 4, 110, 0]  # 110.6 is printed as 111
    assert [round((x.macs + x.pool_operations) / 1e6) for x in stem] == [118, 2, 13, 347, 1]
    assert round(sum(x.output_bytes for x in stem) / 2**20, 1) == 7.5
    assert round(sum(weights(x) for x in stem if x.parameters) / 1000) == 124
    window = sum(x.pool_operations for x in stem)
    assert sum(round(x.macs / 1e6) for x in stem) == 478
    # the lectures' total, 418 M, swaps two digits of their rows' sum
    assert round((sum(x.macs for x in stem) + window) / 1e6) == 481


def test_googlenet_end() -> None:
    *_, pool, linear = costly(analyze_module(on_meta(lecture_networks.googlenet), (3, 224, 224)))
    assert (pool.input_shape, pool.output_shape) == ((1024, 7, 7), (1024, 1, 1))
    assert (linear.parameters, linear.macs) == (1_025_000, 1_024_000)


@pytest.mark.parametrize(
    ("name", "printed_kilo", "printed_mega", "exact"),
    [
        ("3a", 159, 128, 163_328),
        ("3b", 380, 304, 388_096),
        ("4a", 364, 73, 375_552),
        ("4b", 437, 88, 448_512),
        ("4c", 463, 100, 509_440),
        ("4d", 580, 119, 604_672),
        ("4e", 840, 170, 867_328),
        ("5a", 1072, 54, 1_042_432),
        ("5b", 1388, 71, 1_442_816),
    ],
)
def test_googlenet_modules(name: str, printed_kilo: int, printed_mega: int, exact: int) -> None:
    """Printed parameters do not follow from the printed widths (9 % below to 3 % above), nor do 5a's MACs."""
    inside, one, reduce3, three, reduce5, five, pool, side = lecture_networks.MODULES[name]
    by_hand = inside * (one + reduce3 + reduce5 + pool) + 9 * reduce3 * three + 25 * reduce5 * five
    assert by_hand == exact
    widths = (inside, one, reduce3, three, reduce5, five, pool)
    analysis = analyze_module(on_meta(lambda: lecture_networks.Inception(*widths)), (inside, side, side))
    assert sum(weights(x) for x in analysis.layers if x.kind == "conv") == exact
    assert -0.092 < printed_kilo * 1000 / exact - 1 < 0.029
    assert analysis.macs == exact * side * side
    assert abs(analysis.macs / 1e6 - printed_mega) < (0.7 if name != "5a" else 3)
    assert name != "5a" or round(analysis.macs / 1e6) == 51  # and not the 54 M printed


def test_googlenet_is_twelve_times_smaller_than_alexnet() -> None:
    google = analyze_module(on_meta(lecture_networks.googlenet)).parameters
    assert google == 6_998_552  # "about 5 M" in the lectures leaves out the last layer and rounds down
    assert round(analyze_module(on_meta(lecture_networks.alexnet), (3, 227, 227)).parameters / google) == 9
    assert round(60e6 / 5e6) == 12  # the ratio is that of the two rounded numbers


def test_vgg16_by_layer() -> None:
    rows = costly(analyze_module(on_meta(lecture_networks.vgg16)))
    elements = [x.output_bytes // 4 for x in rows]
    k = 1000
    assert [round(n / k) for n in elements] == [
        *(3211, 3211, 803, 1606, 1606, 401, 803, 803, 803, 201, 401, 401, 401, 100, 100, 100, 100, 25, 4, 4, 1)
    ]  # the lectures' 3.2 M, 800 K, 1.6 M, 400 K, 200 K, 100 K, 25 K, 4096, 4096, 1000
    assert [weights(x) for x in rows if x.parameters] == [
        *(1_728, 36_864, 73_728, 147_456, 294_912, 589_824, 589_824, 1_179_648),
        *(2_359_296, 2_359_296, 2_359_296, 2_359_296, 2_359_296, 102_760_448, 16_777_216, 4_096_000),
    ]


def test_vgg16_totals_where_the_lectures_slip() -> None:
    analysis = analyze_module(on_meta(lecture_networks.vgg16))
    assert analysis.macs == 15_470_264_320
    assert round(analysis.macs / 1e9, 2) == 15.47
    left_out = next(x.macs for x in costly(analysis) if x.output_shape == x.input_shape == (256, 56, 56))
    assert round(left_out / 1e9, 2) == 1.85
    assert round((analysis.macs - left_out) / 1e9, 1) == 13.6  # the printed total
    assert round(analysis.activation_bytes / 2**20, 1) == 57.6  # printed as 93 MB, and as 48.6 MB
    assert round(analysis.parameters / 1e6) == 138


@pytest.mark.parametrize(
    ("stages", "ones", "weight_layers", "mega"),
    [
        ((1, 1, 2, 2, 2), False, 11, 133),
        ((2, 2, 2, 2, 2), False, 13, 133),
        ((2, 2, 3, 3, 3), True, 16, 134),
        ((2, 2, 3, 3, 3), False, 16, 138),
        ((2, 2, 4, 4, 4), False, 19, 144),
    ],
    ids=["A", "B", "C", "D", "E"],
)
def test_vgg_configurations(stages: tuple[int, ...], ones: bool, weight_layers: int, mega: int) -> None:
    def build() -> nn.Module:
        layers: list[nn.Module] = []
        inside = 3
        for outside, depth in zip((64, 128, 256, 512, 512), stages, strict=True):
            for i in range(depth):
                kernel = 1 if ones and i == 2 else 3
                layers += lecture_networks.conv(inside, outside, kernel, 1, kernel // 2)
                inside = outside
            layers.append(nn.MaxPool2d(2))
        return nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(25088, 4096), nn.Linear(4096, 4096), nn.Linear(4096, 1000)
        )

    analysis = analyze_module(on_meta(build))
    assert sum(bool(x.parameters) for x in analysis.layers) == weight_layers
    assert round(analysis.parameters / 1e6) == mega
    if weight_layers == 19:
        assert analysis.parameters == 143_667_240


@pytest.mark.parametrize(("depths", "giga"), [((3, 4, 6, 3), 3.8), ((3, 4, 23, 3), 7.6), ((3, 8, 36, 3), 11.3)])
def test_bottleneck_resnets(depths: tuple[int, ...], giga: float) -> None:
    """Table 1 of the paper, whose blocks stride in their first 1×1; 3.86 is printed there as 3.8."""
    analysis = analyze_module(on_meta(lambda: lecture_networks.resnet50(depths)))
    assert 0 <= analysis.macs / 1e9 - giga < 0.07 or round(analysis.macs / 1e9, 1) == giga


def test_inception_v3_as_keras_counts_it() -> None:
    """Keras has no scale in its batch norms and counts their running statistics, which are no parameters here."""
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        network = torchvision.models.inception_v3(weights=None, aux_logits=False, init_weights=False)
    analysis = analyze_module(network, (3, 299, 299))
    channels = sum(x.output_shape[0] for x in analysis.layers if x.kind == "batch norm")
    assert 2 * channels == 34_432  # a mean and a variance each
    assert analysis.parameters - channels + 2 * channels == 23_851_784


def test_alphago_policy_network() -> None:
    class PositionBias(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(1, 19, 19))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x + self.bias).flatten(1).softmax(1)

    network = nn.Sequential(
        *(nn.ConstantPad2d(2, 0.0), nn.Conv2d(48, 192, 5)),
        *(layer for _ in range(11) for layer in (nn.ReLU(), nn.Conv2d(192, 192, 3, padding=1))),
        *(nn.Conv2d(192, 1, 1, bias=False), PositionBias()),
    )
    analysis = analyze_module(network, (48, 19, 19))
    convs = [x for x in analysis.layers if x.kind == "conv"]
    assert [x.output_shape for x in convs] == [(192, 19, 19)] * 12 + [(1, 19, 19)]
    assert analysis.layers[-1].parameters == 361
    assert analysis.layers[-1].output_shape == (361,)


def test_yolo_output() -> None:
    def head() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(1024 * 49, 4096), nn.Linear(4096, 7 * 7 * (2 * 5 + 20)))

    assert analyze_module(on_meta(head), (1024, 7, 7)).layers[-1].output_shape == (7 * 7 * 30,)


def test_lenet_has_about_sixty_thousand_parameters() -> None:
    network = nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)),
    )
    analysis = analyze_module(network, (1, 32, 32))
    assert analysis.parameters == 61_706
    assert [x.output_shape for x in analysis.layers if x.kind in ("conv", "avg pool")] == [
        *((6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5))
    ]


def test_where_alexnet_spends() -> None:
    """Memory in the early convolutions, parameters in the linear layers, operations in the convolutions."""
    rows = costly(analyze_module(on_meta(lecture_networks.alexnet), (3, 227, 227)))
    convs, linear = ([x for x in rows if x.kind == kind] for kind in ("conv", "linear"))
    assert sum(x.output_bytes for x in convs[:2]) > 0.5 * sum(x.output_bytes for x in rows)
    assert sum(x.parameters for x in linear) > 0.95 * sum(x.parameters for x in rows)
    assert sum(x.macs for x in convs) > 0.9 * sum(x.macs for x in rows)
