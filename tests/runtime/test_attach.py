"""A head on an exported trunk's graph: the same numbers as PyTorch, and nothing left that it does not need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from graft.heads.head import Kernel, unit
from graft.models.heads import KernelFeatures
from graft.runtime.attach import with_head
from graft.runtime.detach import below_head
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
    data = with_head(trunk, weight, bias, ("a", "b"))
    logits = PIXELS.mean(axis=(1, 2)) @ weight.T.astype(np.float64) + bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(OnnxRunner(data)(PIXELS), expected, atol=1e-5)
    assert b"ladder" not in data


def test_a_kernel_head_is_pytorchs_kernel_and_linear_layer(trunk: Path) -> None:
    draw = np.random.default_rng(1)
    kernel = Kernel(unit(draw.uniform(0, 255, (40, 3)).astype(np.float32)), float(np.float32(7.3)))
    weight, bias = draw.normal(0, 30, (2, 40)).astype(np.float32), np.array([0.5, -1], np.float32)
    data = with_head(trunk, weight, bias, ("a", "b"), kernel=kernel)
    assert b"ladder" not in data
    model = onnx.load_model_from_string(data)
    assert [output.name for output in model.graph.output] == ["probabilities", "logits"]
    model.graph.output.reverse()  # a runner reads the first output
    features = torch.from_numpy(PIXELS.mean(axis=(1, 2)).astype(np.float32))
    module = KernelFeatures(torch.from_numpy(kernel.landmarks), kernel.gamma)
    expected = (module(features) @ torch.from_numpy(weight).T + torch.from_numpy(bias)).numpy()
    given = OnnxRunner(model.SerializeToString())(PIXELS)
    assert np.abs(given - expected).max() <= 1e-4 * np.abs(expected).max()
    black = OnnxRunner(model.SerializeToString())(np.zeros((1, 4, 4, 3), np.uint8))
    at_zero = (module(torch.zeros(1, 3)) @ torch.from_numpy(weight).T + torch.from_numpy(bias)).numpy()
    assert np.abs(black - at_zero).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("rungs", [[0], [1], [1, 0]])
@pytest.mark.parametrize("landmarks", [0, 12])
@pytest.mark.parametrize("trunk", ["ladder"], indirect=True)
def test_a_head_on_rungs_of_the_ladder_has_them_side_by_side(trunk: Path, rungs: list[int], landmarks: int) -> None:
    ladder = [PIXELS.max(axis=(1, 2)).astype(np.float32), PIXELS.mean(axis=(1, 2)).astype(np.float32)]
    x = np.concatenate([ladder[rung] for rung in rungs], axis=1)  # (5, 3) or (5, 6)
    draw = np.random.default_rng(2)
    kernel = Kernel(unit(draw.uniform(0, 255, (landmarks, x.shape[1])).astype(np.float32)), 4.0) if landmarks else None
    z = x if kernel is None else kernel.features(x)
    weight = (draw.normal(size=(2, z.shape[1])) / z.std()).astype(np.float32)
    bias = np.array([0.5, -1], np.float32)
    data = with_head(trunk, weight, bias, ("a", "b"), kernel=kernel, rungs=rungs)
    logits = z @ weight.T + bias
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(OnnxRunner(data)(PIXELS), expected / expected.sum(axis=1, keepdims=True), atol=1e-4)
    made = {output for node in onnx.load_model_from_string(data).graph.node for output in node.output}
    assert "ladder" not in made
    assert ("brightest" in made, "features" in made) == (0 in rungs, 1 in rungs)  # only what is stood on
    below = OnnxRunner(below_head(data, name="model"))(PIXELS)
    np.testing.assert_allclose(below, x, rtol=1e-6)
