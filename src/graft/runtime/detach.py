"""Take the head off a classifier's ONNX file: what is left gives the features that the head stood on."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from graft.errors import BadModel, shown
from graft.runtime.attach import FEATURES, RUNGS


def below_head(graph: bytes, *, name: str) -> bytes:
    """A classifier's graph cut below its head: pixels (N, S, S, 3) uint8 → what it stood on, (N, D) float32.

    graph: as `graft.runtime.attach.with_head` makes it. name: what an error calls it. Nothing of the head is left, its
    class names included: two models with one network below their heads give the same bytes.
    Raises BadModel for a graph without such a tensor.
    """
    model = onnx.load_model_from_string(graph)
    producers = {output: node for node in model.graph.node for output in node.output}
    found = RUNGS if RUNGS in producers else FEATURES
    if found not in producers:
        raise BadModel(
            f"{shown(name)} has no tensor called {FEATURES!r} below its head; search needs a model that graft trained"
        )
    needed, waiting = set(), [found]
    while waiting:
        tensor = waiting.pop()
        if tensor not in needed:
            needed.add(tensor)
            waiting += producers[tensor].input if tensor in producers else []
    nodes = [node for node in model.graph.node if needed.intersection(node.output)]
    weights = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    features = helper.make_tensor_value_info(found, TensorProto.FLOAT, ["n", "d"])
    lower = helper.make_graph(nodes, model.graph.name, list(model.graph.input), [features], weights)
    cut = helper.make_model(
        lower, opset_imports=list(model.opset_import), ir_version=model.ir_version, functions=list(model.functions)
    )
    onnx.checker.check_model(cut)
    return bytes(cut.SerializeToString(deterministic=True))
