"""A head on an exported trunk's graph, and taken off again: PyTorch's numbers, and nothing left that is not needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from graft.classifier.artefact import load
from graft.errors import BadModel
from graft.heads.head import Head
from graft.heads.kernel import Kernel, unit
from graft.models.heads import KernelFeatures
from graft.runtime.graph import below_head, with_head
from graft.runtime.onnx import OnnxRunner

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)


@pytest.fixture(params=["features", "ladder"])
def trunk(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """pixels (N, 4, 4, 3) → their mean colour, `features` (N, 3), or that below the `ladder` (N, 6) it ends in."""
    nodes = [
        helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x", "axes"], ["features"], keepdims=0),
    ]
    width = 3
    if request.param == "ladder":
        nodes.append(helper.make_node("ReduceMax", ["x", "axes_of_ladder"], ["brightest"], keepdims=0))
        nodes.append(helper.make_node("Concat", ["brightest", "features"], ["ladder"], axis=1))
        width = 6
    graph = helper.make_graph(
        nodes, "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", 4, 4, 3])],
        [helper.make_tensor_value_info(request.param, TensorProto.FLOAT, ["n", width])],
        [numpy_helper.from_array(np.array([1, 2], np.int64), name) for name in ("axes", "axes_of_ladder")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "trunk.onnx")
    return tmp_path / "trunk.onnx"


def test_a_linear_head_is_a_matrix_on_the_features(trunk: Path) -> None:
    weight, bias = np.arange(6, dtype=np.float32).reshape(2, 3) / 255, np.array([0.5, -1], np.float32)
    data = with_head(trunk, Head("lda", weight, bias), ("a", "b"))
    logits = PIXELS.mean(axis=(1, 2)) @ weight.T.astype(np.float64) + bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(OnnxRunner(data)(PIXELS), expected, atol=1e-5)
    assert b"ladder" not in data


def test_a_kernel_head_is_pytorchs_kernel_and_linear_layer(trunk: Path) -> None:
    draw = np.random.default_rng(1)
    kernel = Kernel(unit(draw.uniform(0, 255, (40, 3)).astype(np.float32)), float(np.float32(7.3)))
    weight, bias = draw.normal(0, 30, (2, 40)).astype(np.float32), np.array([0.5, -1], np.float32)
    data = with_head(trunk, Head("rbf", weight, bias, kernel), ("a", "b"))
    assert b"ladder" not in data
    model = onnx.load_model_from_string(data)
    assert [output.name for output in model.graph.output] == ["probabilities", "logits"]
    features = torch.from_numpy(PIXELS.mean(axis=(1, 2)).astype(np.float32))
    module = KernelFeatures(torch.from_numpy(kernel.landmarks), kernel.gamma)
    expected = (module(features) @ torch.from_numpy(weight).T + torch.from_numpy(bias)).numpy()
    given = OnnxRunner(data, output="logits")(PIXELS)
    assert np.abs(given - expected).max() <= 1e-4 * np.abs(expected).max()
    black = OnnxRunner(data, output="logits")(np.zeros((1, 4, 4, 3), np.uint8))
    at_zero = (module(torch.zeros(1, 3)) @ torch.from_numpy(weight).T + torch.from_numpy(bias)).numpy()
    assert np.abs(black - at_zero).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("reads", [[0], [1], [1, 0]])
@pytest.mark.parametrize("landmarks", [0, 12])
@pytest.mark.parametrize("trunk", ["ladder"], indirect=True)
def test_a_head_on_several_outputs_has_them_side_by_side(trunk: Path, reads: list[int], landmarks: int) -> None:
    outputs = [PIXELS.max(axis=(1, 2)).astype(np.float32), PIXELS.mean(axis=(1, 2)).astype(np.float32)]
    x = np.concatenate([outputs[number] for number in reads], axis=1)  # (5, 3) or (5, 6)
    draw = np.random.default_rng(2)
    kernel = Kernel(unit(draw.uniform(0, 255, (landmarks, x.shape[1])).astype(np.float32)), 4.0) if landmarks else None
    z = x if kernel is None else kernel.features(x)
    weight = (draw.normal(size=(2, z.shape[1])) / z.std()).astype(np.float32)
    bias = np.array([0.5, -1], np.float32)
    data = with_head(trunk, Head("rbf", weight, bias, kernel), ("a", "b"), reads=reads)
    logits = z @ weight.T + bias
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(OnnxRunner(data)(PIXELS), expected / expected.sum(axis=1, keepdims=True), atol=1e-4)
    made = {output for node in onnx.load_model_from_string(data).graph.node for output in node.output}
    assert "ladder" not in made
    assert ("brightest" in made, "features" in made) == (0 in reads, 1 in reads)  # only what is stood on
    below = OnnxRunner(below_head(data, name="model"))(PIXELS)
    np.testing.assert_allclose(below, x, rtol=1e-6)


def test_the_models_own_head_on_the_features_gives_its_probabilities(model: Path) -> None:
    classifier = load(model)
    features = OnnxRunner(below_head(classifier.graph, name="model"))
    tensors = classifier.tensors()
    weight, bias = (tensors[f"{classifier.manifest.head.layer}.{what}"] for what in ("weight", "bias"))
    for golden in classifier.golden():
        logits = features(golden.pixels[None])[0].astype(np.float64) @ weight.T + bias
        odds = np.exp(logits - logits.max())
        np.testing.assert_allclose(odds / odds.sum(), golden.probabilities, atol=1e-3)


def test_nothing_of_the_head_is_left(model: Path) -> None:
    graph = load(model).graph
    whole, cut = onnx.load_model_from_string(graph), onnx.load_model_from_string(below_head(graph, name="model"))
    assert [output.name for output in cut.graph.output] == ["features"]
    assert not cut.metadata_props
    gone = {tensor.name for tensor in whole.graph.initializer} - {tensor.name for tensor in cut.graph.initializer}
    assert gone == {"head.weight", "head.bias"}


def test_another_head_on_the_same_network_leaves_the_same_bytes(model: Path) -> None:
    graph = load(model).graph
    other = onnx.load_model_from_string(graph)
    (weight,) = (tensor for tensor in other.graph.initializer if tensor.name == "head.weight")
    weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), "head.weight"))
    onnx.helper.set_model_props(other, {"classes": "a\nb\nc\nd"})
    assert below_head(other.SerializeToString(), name="model") == below_head(graph, name="model")


def test_a_graph_without_features_is_refused() -> None:
    identity = onnx.helper.make_node("Identity", ["x"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    graph = onnx.helper.make_model(onnx.helper.make_graph([identity], "g", [x], [y]))
    with pytest.raises(BadModel, match="odd has no tensor called 'features'"):
        below_head(graph.SerializeToString(), name="odd")
