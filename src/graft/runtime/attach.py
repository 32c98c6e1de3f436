"""Grow a head on an exported trunk, linear or a kernel machine, in the ONNX file itself: no torch, no second export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FEATURES: Final = "features"
"""The tensor that a head grows on, by the name it has in a trunk's graph."""
RUNGS: Final = "head.rungs"
"""The tensor that a head on earlier stages, or on several, grows on."""


class Landmarks(Protocol):
    """What a kernel machine likens features to: landmarks, each of length 1, and how fast likeness falls, gamma."""

    @property
    def landmarks(self) -> NDArray[np.float32]:
        """(M, D)."""
        ...

    @property
    def gamma(self) -> float:
        """Above 0."""
        ...


def with_head(
    trunk: Path,
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    classes: tuple[str, ...],
    *,
    kernel: Landmarks | None = None,
    rungs: Sequence[int] | None = None,
) -> bytes:
    """The trunk's graph with a linear layer and a softmax behind it, serialised.

    trunk: ONNX file that takes pixels (N, S, S, 3) and has a tensor `features` (N, D), its output or one on the way.
    weight: (K, D), or (K, M) where a kernel stands before it, exp(−γ‖x/‖x‖ − landmark‖²). bias: (K,). classes: K names,
    kept in the file's metadata. The graph's first output is `probabilities` (N, K), its second `logits` (N, K); what
    only the ladder needed is gone. rungs: numbers of the ladder's rungs that the head stands on, side by side,
    as the tensor RUNGS, in place of the features.
    """
    model = onnx.load(trunk)
    graph = model.graph
    features = FEATURES if rungs is None else _side_by_side(graph, rungs)
    _keep_only_what_makes(graph, features)
    if kernel is not None:
        features = _grow_kernel(graph, features, kernel)
    graph.initializer.extend(
        [numpy_helper.from_array(weight, "head.weight"), numpy_helper.from_array(bias, "head.bias")]
    )
    graph.node.extend([
        helper.make_node("Gemm", [features, "head.weight", "head.bias"], ["logits"], name="head", transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], name="probabilities", axis=1),
    ])  # fmt: skip
    del graph.output[:]
    shape: list[str | int | None] = ["n", len(classes)]
    graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("probabilities", "logits"))
    helper.set_model_props(model, {"classes": "\n".join(name.replace("\n", " ") for name in classes)})
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _side_by_side(graph: onnx.GraphProto, rungs: Sequence[int]) -> str:
    """Join some rungs of the ladder, which is the graph's output; the name of their tensor."""
    ladder = next(node for node in graph.node if graph.output[0].name in node.output)
    chosen = [ladder.input[number] for number in rungs]
    graph.node.append(helper.make_node("Concat", chosen, [RUNGS], name=RUNGS, axis=1))
    return RUNGS


def _grow_kernel(graph: onnx.GraphProto, features: str, kernel: Landmarks) -> str:
    """Add the likeness to landmarks, exp(2γ·(x/‖x‖)·landmark − 2γ); the name of its tensor (N, M)."""
    twice = np.float32(2 * kernel.gamma)
    graph.initializer.extend([
        numpy_helper.from_array(kernel.landmarks * twice, "head.landmarks"),  # (M, D)
        numpy_helper.from_array(np.full(1, -twice), "head.offset"),  # for every landmark
    ])  # fmt: skip
    graph.node.extend([
        helper.make_node("LpNormalization", [features], ["head.unit"], name="head.unit", axis=1, p=2),
        helper.make_node(
            "Gemm", ["head.unit", "head.landmarks", "head.offset"], ["head.closeness"], name="head.closeness", transB=1
        ),
        helper.make_node("Exp", ["head.closeness"], ["head.likeness"], name="head.likeness"),
    ])  # fmt: skip
    return "head.likeness"


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
