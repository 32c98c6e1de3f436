"""Grow a linear head on an exported trunk, in the ONNX file itself: no torch, no second export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


def with_head(trunk: Path, weight: NDArray[np.float32], bias: NDArray[np.float32], classes: tuple[str, ...]) -> bytes:
    """The trunk's graph with a linear layer and a softmax behind it, serialised.

    trunk: ONNX file, pixels (N, S, S, 3) → features (N, D). weight: (K, D). bias: (K,). classes: K names, kept in the
    file's metadata. The graph's first output is `probabilities` (N, K), its second `logits` (N, K).
    """
    model = onnx.load(trunk)
    graph = model.graph
    features = graph.output[0].name
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
