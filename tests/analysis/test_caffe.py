"""Caffe networks: the same table as the modules they describe, Caffe's own rules by hand, and files that are wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from analysis import lecture_networks as networks
from graft.analysis.readers.caffe import analyze_prototxt, read_prototxt
from graft.analysis.readers.prototext import parse
from graft.analysis.readers.trace import analyze_module
from graft.analysis.table import Analysis
from graft.errors import UsageError

DATA = 'input: "data" input_shape { dim: 1 dim: 3 dim: 10 dim: 10 }\n'


def comparable(analysis: Analysis) -> list[tuple[object, ...]]:
    """What both sources must agree on, for layers that compute on windows, and joins."""
    rows = []
    for x in analysis.layers:
        if x.kind in ("conv", "max pool", "avg pool", "linear", "add", "concat"):
            cost = (x.parameters, x.macs, x.pool_operations, x.output_bytes)
            shapes = (x.input_shape, x.output_shape) if x.kind != "linear" else (x.output_shape,)
            field = (x.field.rows, x.field.columns) if x.field else None
            window = x.kernel, x.stride if x.kind == "conv" else None, x.padding, x.groups
            rows.append(
                (x.kind, *shapes, *window, *cost, field if x.kind != "avg pool" and x.kind != "linear" else None)
            )
    return sorted(rows, key=repr)


@pytest.mark.parametrize(
    ("build", "text", "side"),
    [
        (networks.alexnet, networks.alexnet_prototxt, 227),
        (networks.vgg16, networks.vgg16_prototxt, 224),
        (networks.googlenet, networks.googlenet_prototxt, 224),
        (networks.resnet50, networks.resnet50_prototxt, 224),
    ],
    ids=["AlexNet", "VGG-16", "GoogLeNet", "ResNet-50"],
)
def test_prototxt_gives_the_table_of_the_module(
    build: Callable[[], nn.Module], text: Callable[[], str], side: int
) -> None:
    with torch.device("meta"):
        ours = analyze_module(build(), (3, side, side))
    caffe = analyze_prototxt(text())
    assert caffe.input_shape == (3, side, side)
    assert caffe.parameters == ours.parameters
    assert caffe.macs == ours.macs
    assert caffe.pool_operations == ours.pool_operations
    assert caffe.activation_bytes == ours.activation_bytes
    assert comparable(caffe) == comparable(ours)
    last_ours, last_caffe = (next(x for x in reversed(a.layers) if x.kind == "linear") for a in (ours, caffe))
    assert last_caffe.field is not None
    assert last_ours.field is not None
    assert last_caffe.field.size == last_ours.field.size


def one(layer: str, data: str = DATA) -> Analysis:
    return analyze_prototxt(data + layer)


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "pad", "out"),
    [
        (55, 3, 2, 0, 27),  # ⌈52 / 2⌉ + 1, exact
        (56, 3, 2, 0, 28),  # ⌈53 / 2⌉ + 1, where PyTorch would give 27
        (10, 2, 3, 0, 4),  # ⌈8 / 3⌉ + 1, the last window hangs over the edge
        (10, 2, 2, 1, 6),  # ⌈10 / 2⌉ + 1; the last window starts at 10 < 10 + 1
        (5, 2, 2, 1, 3),  # ⌈5 / 2⌉ + 1 = 4, but the fourth would start at 6 ≥ 5 + 1
        (4, 1, 5, 1, 1),  # ⌈5 / 5⌉ + 1 = 2, but the second would start at 5 ≥ 4 + 1
    ],
)
def test_pools_round_up(side: int, kernel: int, stride: int, pad: int, out: int) -> None:
    data = f'input: "data" input_shape {{ dim: 1 dim: 3 dim: {side} dim: {side} }}\n'
    geometry = f"kernel_size: {kernel} stride: {stride} pad: {pad}"
    (layer,) = one(
        f'layer {{ name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param {{ {geometry} }} }}', data
    ).layers
    assert layer.output_shape == (3, out, out)
    with_ceil = nn.MaxPool2d(kernel, stride, min(pad, kernel // 2), ceil_mode=True)
    if pad <= kernel // 2:  # the most that PyTorch allows
        assert tuple(with_ceil(torch.zeros(1, 3, side, side)).shape[1:]) == layer.output_shape


def test_global_pooling_and_average() -> None:
    (layer,) = one(
        'layer { name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { pool: AVE global_pooling: true } }'
    ).layers
    assert (layer.kind, layer.kernel, layer.output_shape, layer.pool_operations) == (
        "avg pool",
        (10, 10),
        (3, 1, 1),
        300,
    )
    assert layer.field is not None
    assert layer.field.size == (10, 10)


CONVOLUTIONS = [
    ("num_output: 6 kernel_size: 3", nn.Conv2d(3, 6, 3)),
    ("num_output: 6 kernel_size: 3 dilation: 2 pad: 2 stride: 2", nn.Conv2d(3, 6, 3, 2, 2, dilation=2)),
    ("num_output: 6 group: 3 kernel_size: 3 bias_term: false", nn.Conv2d(3, 6, 3, groups=3, bias=False)),
    ("num_output: 6 kernel_h: 1 kernel_w: 5 pad_h: 0 pad_w: 2 stride_h: 2", nn.Conv2d(3, 6, (1, 5), (2, 1), (0, 2))),
    ("num_output: 6 kernel_size: 3 kernel_size: 5", nn.Conv2d(3, 6, (3, 5))),
    ("num_output: 6 kernel_size: [3, 5]", nn.Conv2d(3, 6, (3, 5))),
]


@pytest.mark.parametrize(("parameters", "module"), CONVOLUTIONS)
def test_convolutions_against_torch(parameters: str, module: nn.Module) -> None:
    text = 'layer {{ name: "c" type: "{}" bottom: "data" top: "c" convolution_param {{ {} }} }}'
    (layer,) = one(text.format("Convolution", parameters)).layers
    (wanted,) = analyze_module(module, (3, 10, 10)).layers
    for name in ("output_shape", "kernel", "stride", "padding", "dilation", "groups", "parameters", "macs", "field"):
        assert getattr(layer, name) == getattr(wanted, name), name


def test_deconvolution_against_torch() -> None:
    geometry = "num_output: 6 kernel_size: 4 stride: 2 pad: 1 group: 3"
    (layer,) = one(
        f'layer {{ name: "d" type: "Deconvolution" bottom: "data" top: "d" convolution_param {{ {geometry} }} }}'
    ).layers
    (wanted,) = analyze_module(nn.ConvTranspose2d(3, 6, 4, 2, 1, groups=3), (3, 10, 10)).layers
    for name in ("kind", "output_shape", "parameters", "macs", "field", "groups"):
        assert getattr(layer, name) == getattr(wanted, name), name


def test_layers_that_write_over_their_input_take_no_memory_and_norms_have_two_numbers_a_channel() -> None:
    analysis = one(
        'layer { name: "bn" type: "BatchNorm" bottom: "data" top: "data" }'
        'layer { name: "scale" type: "Scale" bottom: "data" top: "data" scale_param { bias_term: true } }'
        'layer { name: "relu" type: "ReLU" bottom: "data" top: "out" }'
        'layer { name: "drop" type: "Dropout" bottom: "out" top: "out" dropout_param { dropout_ratio: 0.5 } }'
        'layer { name: "lrn" type: "LRN" bottom: "out" top: "lrn" lrn_param { local_size: 5 alpha: 1e-4 beta: 0.75 } }'
    )
    assert [x.activation_bytes for x in analysis.layers] == [1200, 0, 0, 0, 1200]
    assert [x.parameters for x in analysis.layers] == [0, 6, 0, 0, 0]
    assert [x.inputs for x in analysis.layers] == [(-1,), (0,), (1,), (2,), (3,)]


PHASES = """
layer { name: "train" type: "Data" top: "data" top: "label" include { phase: TRAIN }
        transform_param { crop_size: 227 mirror: true } data_param { source: "a b" batch_size: 256 } }
layer { name: "test" type: "Data" top: "data" top: "label" include { phase: TEST } transform_param { crop_size: 224 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 8 kernel_size: 3 } }
layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" exclude { phase: TEST } }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 10 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" include: { phase: TRAIN } }
layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy" include { phase: TEST } }
"""


def test_phases_choose_layers() -> None:
    test, train = analyze_prototxt(PHASES), analyze_prototxt(PHASES, phase="TRAIN")
    assert (test.input_shape, train.input_shape) == ((3, 224, 224), (3, 227, 227))
    assert [x.name for x in test.layers] == ["conv", "fc"]
    assert [x.name for x in train.layers] == ["conv", "drop", "fc"]


def test_input_from_outside_replaces_the_file_s_own() -> None:
    text = networks.alexnet_prototxt()
    assert analyze_prototxt(text, input_shape=(3, 224, 224)).layers[0].output_shape == (64, 55, 55)
    without = "\n".join(line for line in text.splitlines() if '"Input"' not in line)
    assert analyze_prototxt('layer { type: "Data" top: "data" }' + without, input_shape=(3, 227, 227)).macs > 0


def test_split_slice_and_gates() -> None:
    analysis = one(
        'layer { name: "slice" type: "Slice" bottom: "data" top: "a" top: "b" slice_param { axis: 1 slice_point: 1 } }'
        'layer { name: "conv" type: "Convolution" bottom: "b" top: "c" '
        "convolution_param { num_output: 2 kernel_size: 1 } }"
        'layer { name: "cat" type: "Concat" bottom: "a" bottom: "c" top: "cat" }'
        'layer { name: "pool" type: "Pooling" bottom: "cat" top: "g" pooling_param { global_pooling: true } }'
        'layer { name: "gate" type: "Scale" bottom: "cat" bottom: "g" top: "out" scale_param { axis: 0 } }'
    )
    conv, cat, _, gate = analysis.layers
    assert conv.input_shape == (2, 10, 10)
    assert (cat.output_shape, cat.inputs) == ((3, 10, 10), (-1, 0))
    assert gate.field is not None
    assert (gate.parameters, gate.field.gated, gate.field.size) == (0, True, (1, 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no layers"),
        ("layer {", "line 1 .* never closed"),
        ("}", "closes nothing"),
        ('layer { name "x" }', "':' or '{' after 'name'"),
        ("layer { name: }", "a value must stand there"),
        ("\n\nlayer { @ }", "line 3 .*'@' does not belong"),
        ("a {" * 60, "nested more than 50 deep"),
        ('layer { name: "c" type: "ReLU" bottom: "data" top: "c" }', "no input shape; add --input"),
        (DATA + 'layer { name: "c" type: "Convolutoin" bottom: "data" top: "c" }', "did you mean 'Convolution'"),
        (
            DATA + 'layer { name: "c" type: "ReLU" bottom: "dat" top: "c" }',
            "no layer before it makes; did you mean 'data'",
        ),
        (DATA + 'layer { name: "c" type: "ReLU" }', "needs a bottom and a top, got 0 and 0"),
        (
            DATA
            + 'layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 8 } }',
            "kernel_size, stride, num_output and group of at least 1, got 0",
        ),
        (
            DATA + 'layer { name: "c" type: "Convolution" bottom: "data" top: "c" '
            "convolution_param { num_output: 8 kernel_size: 3 group: 2 } }",
            "cannot split 3 channels into 8 by 2 groups",
        ),
        (
            DATA + 'layer { name: "c" type: "Convolution" bottom: "data" top: "c" '
            "convolution_param { num_output: 8 kernel_size: 11 } }",
            "makes nothing of an input of 3×10×10",
        ),
        (
            DATA + 'layer { name: "c" type: "Convolution" bottom: "data" top: "c" '
            "convolution_param { num_output: 8 kernel_size: 1.5 } }",
            "kernel_size must be a whole number, got '1.5'",
        ),
        (
            DATA
            + 'layer { name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { kernel_size: 2 stride: 2 } }'
            'layer { name: "e" type: "Eltwise" bottom: "data" bottom: "p" top: "e" }',
            "cannot combine 3×10×10, 3×5×5",
        ),
    ],
)
def test_wrong_files_are_one_line(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        analyze_prototxt(text)
    assert "\n" not in str(error.value)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(networks.vgg16_prototxt())
    assert read_prototxt(path).network == "VGG-16"
    path.write_bytes(b"\xff\xfe\x00")
    for wrong in (path, tmp_path / "none"):
        with pytest.raises(UsageError, match="cannot read"):
            read_prototxt(wrong)


def test_text_format() -> None:
    message = parse("""# a comment
        a: 1  a: -2, b: 0x1F; c: 1.5e-3f  d: "it's \\"so\\"" 'and so'  e: true
        m { n: WORD } m: { n: [1, 2] }""")
    assert message.integers("a") == [1, -2]
    assert message.all("b") == [31]
    assert message.all("c") == [0.0015]
    assert message.text("d") == 'it\'s "so"and so'
    assert message.flag("e", False) is True
    assert [m.all("n") for m in message.messages("m")] == [["WORD"], [1, 2]]
