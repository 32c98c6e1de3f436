"""Taking the head off: what is left computes the head's own input, and knows nothing of the classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from graft.classifier.artefact import load
from graft.errors import BadModel
from graft.runtime.detach import below_head
from graft.runtime.onnx import OnnxRunner


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
