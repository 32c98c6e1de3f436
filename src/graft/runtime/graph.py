"""Exported graphs cut and joined as they are, in the ONNX file itself: no torch, no second export.

A trunk's graph ends in every stage's maps averaged over the picture, then the features, side by side. `finish_trunk`
readies it; `with_head` grows a head on some of them, and `below_head` takes it off again.

Measured with EfficientNet-Lite0 at 224², one thread: the nine averages of its stages cost 5 % of the network's time as
torch's newer exporter writes them (ReduceMean, for which ONNX Runtime turns its blocked maps back into N C H W), and
2 % as GlobalAveragePool, which it computes on them as they lie, and which a traced network has from the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from graft.errors import BadModel, shown

FEATURES: Final = "features"
"""The tensor that a head on the top reads, by the name it has in a trunk's graph."""
READ: Final = "head.rungs"
"""The tensor that a head on stages, or on several outputs, reads: the name it has had in every model so far."""
OUTPUTS: Final = ("probabilities", "logits")
"""Of a classifier's graph, in this order."""


class Linear(Protocol):
    """The end of a head: logits = z @ weight.T + bias, z being what it reads or what a transform makes of it."""

    @property
    def weight(self) -> NDArray[np.float32]:
        """(K, M)."""
        ...

    @property
    def bias(self) -> NDArray[np.float32]:
        """(K,)."""
        ...

    def before_linear(self, read: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], str]:
        """Nodes and constants that make z of the tensor `read`, and the name of z; none, and `read`, where it is z."""
        ...


def with_head(trunk: Path, head: Linear, classes: tuple[str, ...], *, reads: Sequence[int] | None = None) -> bytes:
    """The trunk's graph with a head and a softmax behind it, serialised.

    trunk: ONNX file that takes pixels (N, S, S, 3) and has a tensor `features` (N, D), its output or one on the way.
    classes: K names, kept in the file's metadata. reads: numbers of the trunk's outputs that the head reads, side by
    side, as the tensor READ, in place of the features. The graph's outputs are `probabilities` and `logits`, (N, K);
    what they do not need is gone.
    """
    model = onnx.load(trunk)
    graph = model.graph
    read = FEATURES if reads is None else _side_by_side(graph, reads)
    _keep_only_what_makes(graph, read)
    nodes, constants, z = head.before_linear(read)
    graph.initializer.extend(constants)
    graph.node.extend(nodes)
    graph.initializer.extend(
        [numpy_helper.from_array(head.weight, "head.weight"), numpy_helper.from_array(head.bias, "head.bias")]
    )
    graph.node.extend([
        helper.make_node("Gemm", [z, "head.weight", "head.bias"], ["logits"], name="head", transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], name="probabilities", axis=1),
    ])  # fmt: skip
    del graph.output[:]
    shape: list[str | int | None] = ["n", len(classes)]
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in OUTPUTS)
    helper.set_model_props(model, {"classes": "\n".join(name.replace("\n", " ") for name in classes)})
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def below_head(graph: bytes, *, name: str) -> bytes:
    """A classifier's graph cut below its head: pixels (N, S, S, 3) uint8 → what the head reads, (N, D) float32.

    graph: as `with_head` makes it. name: what an error calls it. Nothing of the head is left, its class names included:
    two models with one network below their heads give the same bytes. Raises BadModel for a graph without such a
    tensor.
    """
    model = onnx.load_model_from_string(graph)
    made = {output for node in model.graph.node for output in node.output}
    read = READ if READ in made else FEATURES
    if read not in made:
        raise BadModel(
            f"{shown(name)} has no tensor called {FEATURES!r} below its head; search needs a model that graft trained"
        )
    _keep_only_what_makes(model.graph, read)
    del model.graph.output[:], model.graph.value_info[:], model.metadata_props[:]
    model.graph.output.append(helper.make_tensor_value_info(read, TensorProto.FLOAT, ["n", "d"]))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def finish_trunk(file: Path, *, output: str) -> None:
    """Rewrite the graph in `file`, whose `output` joins a trunk's stages and features, so that averages run fast.

    The features get the name FEATURES. Its outputs have the same values as before, but for the rounding of averages.
    """
    model = onnx.load(file)
    graph = model.graph
    joined = next(node for node in graph.node if output in node.output)
    assert joined.op_type == "Concat", f"a trunk's graph must end in Concat, it ends in {joined.op_type}"
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if _is_small(tensor)}
    old = joined.input[-1]
    for node in graph.node:
        if node.op_type == "ReduceMean" and _keeps_rank(node) and _axes(node, constants) in ([2, 3], [-2, -1]):
            average = helper.make_node("GlobalAveragePool", node.input[:1], node.output, name=node.name)
            node.CopyFrom(average)
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                if name == old:
                    names[at] = FEATURES
    onnx.checker.check_model(model)
    onnx.save(model, file)


def _side_by_side(graph: onnx.GraphProto, reads: Sequence[int]) -> str:
    """Join some of the trunk's outputs, which the graph ends in; the name of their tensor."""
    joined = next(node for node in graph.node if graph.output[0].name in node.output)
    chosen = [joined.input[number] for number in reads]
    graph.node.append(helper.make_node("Concat", chosen, [READ], name=READ, axis=1))
    return READ


def _keep_only_what_makes(graph: onnx.GraphProto, tensor: str) -> None:
    """Drop the nodes that `tensor` does not need, and what only they knew of."""
    needed, kept = {tensor}, []
    for node in reversed(graph.node):  # a graph's nodes stand in the order they run
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    kept.reverse()
    del graph.node[:]
    graph.node.extend(kept)
    for tensors in (graph.initializer, graph.value_info):
        known = [one for one in tensors if one.name in needed]
        del tensors[:]
        tensors.extend(known)


def _is_small(tensor: onnx.TensorProto) -> bool:
    """A list of axes, rather than weights."""
    return tensor.data_type == onnx.TensorProto.INT64 and len(tensor.dims) <= 1


def _axes(node: onnx.NodeProto, constants: dict[str, NDArray[np.int64]]) -> list[int]:
    """The axes that a ReduceMean goes over, in ascending order; none where they are not a constant."""
    axes = constants.get(node.input[1]) if len(node.input) > 1 else None
    return [] if axes is None else sorted(int(axis) for axis in axes)


def _keeps_rank(node: onnx.NodeProto) -> bool:
    return all(attribute.i == 1 for attribute in node.attribute if attribute.name == "keepdims")
