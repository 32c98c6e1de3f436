"""ONNX files: nodes worked by hand, and a network exported by PyTorch against the same network traced."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from graft.analysis.readers.onnx_graph import analyze_onnx, read_onnx
from graft.analysis.readers.trace import analyze_module
from graft.errors import UsageError


def model(
    nodes: Sequence[onnx.NodeProto],
    weights: dict[str, NDArray[np.generic]],
    shape: Sequence[int | str] = (1, 3, 10, 12),
    dtype: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", dtype, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def zeros(*shape: int) -> NDArray[np.float32]:
    return np.zeros(shape, np.float32)


def test_convolution_pool_and_linear_by_hand() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", strides=[2, 1], pads=[1, 2, 1, 2], group=3),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("MaxPool", ["r"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "v", "u"], ["y"], name="fc", transB=1),
    ]
    weights = {"w": zeros(6, 1, 3, 5), "b": zeros(6), "v": zeros(4, 72), "u": zeros(4)}
    analysis = analyze_onnx(model(nodes, weights), name="m")
    conv, relu, pool, flatten, linear = analysis.layers
    assert (conv.output_shape, conv.kernel, conv.stride, conv.padding, conv.groups) == (
        *((6, 5, 12), (3, 5), (2, 1), (1, 2), 3),
    )
    assert (conv.parameters, conv.macs) == (90 + 6, 6 * 5 * 12 * 15)
    assert conv.field is not None
    assert (conv.field.size, conv.field.rows.jump) == ((3, 5), 2)
    assert (relu.kind, relu.inputs, relu.macs) == ("relu", (0,), 0)
    assert (pool.output_shape, pool.pool_operations) == ((6, 2, 6), 6 * 2 * 6 * 4)
    assert (flatten.output_shape, flatten.activation_bytes) == ((72,), 0)
    assert (linear.kind, linear.parameters, linear.macs) == ("linear", 72 * 4 + 4, 72 * 4)
    assert linear.field is not None
    assert linear.field.size == (5 + 1 * 4, 6 + 5 * 2)


def test_constants_are_no_parameters() -> None:
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["s"]),
        helper.make_node("Div", ["s", "std"], ["d"]),
        helper.make_node("Conv", ["d", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "gamma", "beta", "running", "variance"], ["n"]),
        helper.make_node("Mul", ["n", "half"], ["h"]),
        helper.make_node("Mul", ["h", "layer_scale"], ["y"]),
    ]
    weights = {"mean": zeros(1, 3, 1, 1), "std": zeros(1, 3, 1, 1), "w": zeros(4, 3, 1, 1)}
    weights |= {name: zeros(4) for name in ("gamma", "beta", "running", "variance")}
    weights |= {"half": zeros(), "layer_scale": zeros(1, 4, 1, 1)}
    analysis = analyze_onnx(model(nodes, weights), name="m")
    assert [layer.parameters for layer in analysis.layers] == [0, 0, 12, 8, 0, 4]


def test_a_weight_read_twice_counts_once() -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"]), helper.make_node("Conv", ["a", "w"], ["y"])]
    analysis = analyze_onnx(model(nodes, {"w": zeros(3, 3, 1, 1)}), name="m")
    assert [layer.parameters for layer in analysis.layers] == [9, 0]


def test_an_operator_that_cannot_be_counted_is_named() -> None:
    nodes = [helper.make_node("Einsum", ["x", "w"], ["y"], name="product", equation="nchw,cd->ndhw")]
    analysis = analyze_onnx(model(nodes, {"w": zeros(3, 5)}), name="m")
    assert [(x.name, x.uncounted) for x in analysis.uncounted] == [("product", "multiply-adds of Einsum are not known")]


def test_same_padding_and_a_gate() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], auto_pad="SAME_UPPER", strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Sigmoid", ["g"], ["s"]),
        helper.make_node("Mul", ["c", "s"], ["y"]),
    ]
    conv, pool, _, gate = analyze_onnx(model(nodes, {"w": zeros(4, 3, 3, 3)}), name="m").layers
    assert (conv.output_shape, conv.padding) == ((4, 5, 6), (0, 0))  # 10 → 5 needs one more, at the end
    assert pool.kernel == (5, 6)
    assert gate.field is not None
    assert (gate.field.gated, gate.field.size, gate.inputs) == (True, (3, 3), (0, 2))


def test_open_sides_need_an_input() -> None:
    net = model([helper.make_node("Conv", ["x", "w"], ["y"])], {"w": zeros(4, 3, 3, 3)}, ("n", 3, "h", "w"))
    with pytest.raises(UsageError, match="leaves side 2 of its input open; add --input"):
        analyze_onnx(net, name="m")
    assert analyze_onnx(net, name="m", input_shape=(3, 8, 9)).layers[0].output_shape == (4, 6, 7)
    with pytest.raises(UsageError, match="takes 3 sides after the batch, got 2"):
        analyze_onnx(net, name="m", input_shape=(3, 8))
    with pytest.raises(UsageError, match="takes 3 channels, got 5; change --input"):
        analyze_onnx(net, name="m", input_shape=(5, 8, 9))


def test_a_uint8_picture_with_channels_last_is_followed() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["y"]),
    ]
    net = model(nodes, {"w": zeros(4, 3, 3, 3)}, (1, 10, 12, 3), TensorProto.UINT8)
    (conv,) = analyze_onnx(net, name="m").layers
    assert conv.output_shape == (4, 8, 10)
    assert conv.field is not None
    assert conv.field.size == (3, 3)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.depthwise, self.point = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 8, 1)
        self.up, self.fc = nn.ConvTranspose2d(8, 4, 4, 2, 1), nn.Linear(4 * 16 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = x + self.point(self.depthwise(x)).relu()
        return self.fc(self.up(x).flatten(1))


def test_an_exported_network_against_the_network(tmp_path: Path) -> None:
    network, path = Small().eval(), tmp_path / "small.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(network, (torch.zeros(1, 3, 16, 16),), path, dynamo=True, verbose=False)
    ours, theirs = analyze_module(network, (3, 16, 16)), read_onnx(path)
    assert (theirs.macs, theirs.parameters) == (ours.macs, ours.parameters)
    kinds = ("conv", "transposed conv", "add", "linear")
    for a, b in zip(*([x for x in t.layers if x.kind in kinds] for t in (ours, theirs)), strict=True):
        assert (a.kind, a.output_shape, a.macs, a.parameters) == (b.kind, b.output_shape, b.macs, b.parameters)
        assert (a.kernel, a.stride, a.padding, a.groups) == (b.kernel, b.stride, b.padding, b.groups)
        assert a.field == b.field


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    for content in (b"", b"no model", b"\x08\x07"):
        path.write_bytes(content)
        with pytest.raises(UsageError) as error:
            read_onnx(path)
        assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="cannot read"):
        read_onnx(tmp_path / "none.onnx")
