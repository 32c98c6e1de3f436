"""What a probe ends with: one linear layer, on the features that it reads or on what a transform makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from graft.evaluate.calibration import softmax
from graft.features.rows import Floats, Rows
from graft.features.trunk import TOP

if TYPE_CHECKING:
    import onnx

Labels = NDArray[np.int64]
LOGISTIC: Final = "logistic"
"""The kind of a head that is logistic regression, and of a layer that was trained with its network."""


class Transform(Protocol):
    """What a head that is not linear makes of features before its linear layer.

    In PyTorch it is a module of `graft.models.heads.MODULES`, which takes the same tensors.
    """

    def features(self, x: Floats) -> Floats:
        """(N, D) features → (N, M)."""
        ...

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """Its arrays by their names in a file of weights."""
        ...

    def nodes(self, read: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], str]:
        """The same in ONNX: nodes and constants that transform the tensor `read`, and the name of what they make."""
        ...


@dataclass(frozen=True)
class Head:
    """From features to scores: logits = z @ weight.T + bias, z the features or what `transform` makes of them.

    kind: how it was fitted. weight: (K, D), or (K, M) behind a transform. bias: (K,). reads: the outputs of the network
    that are its features, side by side. The temperature at which the logits' softmax is calibrated is in both.
    """

    kind: str
    weight: Floats
    bias: Floats
    transform: Transform | None = None
    reads: tuple[str, ...] = TOP

    def logits(self, x: Floats) -> Floats:
        """(N, D) features → (N, K) logits."""
        z = x if self.transform is None else self.transform.features(x)
        return np.asarray(z @ self.weight.T + self.bias)

    def tensors(self, layer: str) -> dict[str, NDArray[np.float32]]:
        """Its arrays by their names in a file of weights; layer: the published name of the network's last layer."""
        own = {f"{layer}.weight": self.weight, f"{layer}.bias": self.bias}
        return own if self.transform is None else own | self.transform.tensors()

    def before_linear(self, read: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], str]:
        """As `graft.runtime.graph.Linear` has it."""
        return ([], [], read) if self.transform is None else self.transform.nodes(read)


@dataclass(frozen=True)
class Fitted:
    """A head with what it was chosen by.

    held_out: (N, K) calibrated logits from fits that never saw the row, NaN for rows of no fold. settings: what
    cross-validation chose, in words.
    """

    head: Head
    held_out: Floats
    settings: str


def logits(rows: Rows, head: Head) -> Floats:
    """The head's logits (N, K) of every row (N, D); the same bits on any number of cores."""
    with threadpool_limits(limits=1, user_api="blas"):  # our threads share the work
        return np.concatenate(list(rows.each(lambda _, x: head.logits(x), head.weight.shape[1])))


def probabilities(rows: Rows, head: Head) -> Floats:
    """The head's probabilities (N, K) of every row (N, D)."""
    return softmax(logits(rows, head))
