"""A kernel machine's features: how near a picture is to each of a set of landmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from graft.features.rows import Floats
from graft.models.names import GAMMA, LANDMARKS

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Kernel:
    """Values of the RBF kernel for landmarks: exp(−γ‖x/‖x‖ − landmark‖²), above 0 and at most 1.

    landmarks: (M, D), each of length 1. gamma: above 0, exact in float32. Source: Williams and Seeger, Using the
    Nyström method to speed up kernel machines, NIPS 2000.
    """

    landmarks: Floats
    gamma: float

    def features(self, x: Floats) -> Floats:
        """(N, D) features → (N, M) kernel values. A row of zeros stays one: it is equally near every landmark."""
        return kernel_values(unit(x) @ self.landmarks.T, self.gamma)

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """Its arrays by their names in a file of weights."""
        return {LANDMARKS: self.landmarks, GAMMA: np.array(self.gamma, np.float32)}

    def nodes(self, read: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], str]:
        """In ONNX, as exp(2γ·(x/‖x‖)·landmark − 2γ)."""
        from onnx import helper, numpy_helper

        twice = np.float32(2 * self.gamma)
        constants = [
            numpy_helper.from_array(self.landmarks * twice, "head.landmarks"),  # (M, D)
            numpy_helper.from_array(np.full(1, -twice), "head.offset"),  # for every landmark
        ]
        closeness = ["head.unit", "head.landmarks", "head.offset"]
        nodes = [
            helper.make_node("LpNormalization", [read], ["head.unit"], name="head.unit", axis=1, p=2),
            helper.make_node("Gemm", closeness, ["head.closeness"], name="head.closeness", transB=1),
            helper.make_node("Exp", ["head.closeness"], ["head.likeness"], name="head.likeness"),
        ]
        return nodes, constants, "head.likeness"


def unit(x: Floats) -> Floats:
    """Rows (N, D) scaled to length 1; a row of zeros stays as it is."""
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12), np.float32)


def kernel_values(cosines: Floats, gamma: float) -> Floats:
    """exp(−γ‖a − b‖²) of vectors of length 1, whose ‖a − b‖² is 2 − 2·cosine."""
    return np.asarray(np.exp(np.float32(2 * gamma) * (cosines - np.float32(1))))
