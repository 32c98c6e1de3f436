"""The one table that every source fills and every output reads: a row for each layer, and what the rows add up to.

Conventions: one multiply-add is one MAC; MACs are those of convolutions, linear layers and matrix products, and
nothing else; an element is 4 bytes; shapes leave out the batch. The lectures also count a pool's window, C·H'·W'·K·K:
that number is kept apart, as `pool_operations`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from graft.analysis.receptive_field import Field

Shape = tuple[int, ...]
Pair = tuple[int, int]

ELEMENT_BYTES: Final = 4
PICTURE: Final = -1  # stands in `Layer.inputs` for the network's input
NOT_CALLED: Final = "not called"
_NORMS: Final = ("batch norm", "scale")
_ACTIVATIONS: Final = ("relu", "relu6", "leaky relu", "prelu", "elu", "gelu", "silu", "hard swish", "sigmoid", "tanh")
OVERWRITES: Final = frozenset(("relu", "relu6", "leaky relu", "elu", "sigmoid", "tanh", "dropout"))
FOLLOWERS: Final = frozenset((*_NORMS, *_ACTIVATIONS, "dropout", "flatten"))  # may be drawn with the layer before


@dataclass(frozen=True)
class Layer:
    """One layer, or one call of it.

    inputs: the rows that feed it, PICTURE for the network's input. kernel, stride, padding (before the first position)
    and dilation: (rows, columns), None where the layer has none. activation_bytes: what it adds to memory for one
    picture, 0 when it can write over its input or only reshapes it. parameters: each counted where it is first used.
    field: None where positions of the picture cannot be followed. uncounted: why `macs` is too low, or empty.
    """

    name: str
    kind: str
    inputs: tuple[int, ...]
    input_shape: Shape
    output_shape: Shape
    kernel: Pair | None = None
    stride: Pair | None = None
    padding: Pair | None = None
    dilation: Pair | None = None
    groups: int | None = None
    activation_bytes: int = 0
    parameters: int = 0
    macs: int = 0
    pool_operations: int = 0
    field: Field | None = None
    uncounted: str = ""

    @property
    def output_bytes(self) -> int:
        """The size of its output for one picture, whether or not it is memory of its own."""
        return ELEMENT_BYTES * math.prod(self.output_shape) if self.output_shape else 0


@dataclass(frozen=True)
class Analysis:
    """A network as a table. input_shape: (C, H, W). Rows are in the order they run, inputs before readers."""

    network: str
    input_shape: Shape
    layers: tuple[Layer, ...]

    @property
    def activation_bytes(self) -> int:
        """Bytes of all outputs of one picture together."""
        return sum(layer.activation_bytes for layer in self.layers)

    @property
    def parameters(self) -> int:
        """Weights that training would change: running statistics are none."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions, linear layers and matrix products for one picture."""
        return sum(layer.macs for layer in self.layers)

    @property
    def pool_operations(self) -> int:
        """The lectures' count of pools, C·H'·W'·K·K, which `macs` leaves out."""
        return sum(layer.pool_operations for layer in self.layers)

    @property
    def uncounted(self) -> tuple[Layer, ...]:
        """Rows whose MACs are not known in full."""
        return tuple(layer for layer in self.layers if layer.uncounted)


@dataclass(frozen=True)
class Memory:
    """An estimate, in bytes. It leaves out the workspace of the convolutions and the framework itself."""

    infer: int
    train: int


def overwriting(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The rows with no memory for those that can write over their input, whether or not the source does so.

    These are activations whose gradient follows from their output, and dropout, where nothing else reads their input.
    So a network costs the same however its ReLUs are written, as the lectures count it.
    """
    readers = Counter(source for layer in layers for source in layer.inputs)
    return tuple(
        replace(layer, activation_bytes=0)
        if layer.kind in OVERWRITES and layer.inputs != (PICTURE,) and [readers[s] for s in layer.inputs] == [1]
        else layer
        for layer in layers
    )


def memory(analysis: Analysis, *, batch: int = 1, optimizer_slots: int = 1) -> Memory:
    """What running and training need, in bytes, at 4 bytes an element.

    batch: pictures at a time. optimizer_slots: numbers kept per weight, 0 for plain SGD, 1 with momentum, 2 for Adam.
    To infer: the weights and the most activations alive at once, each freed after its last reader. To train: the
    weights, their gradients and slots, and the input and every activation, which the backward pass reads.
    Raises ValueError unless batch ≥ 1 and optimizer_slots ≥ 0.
    """
    if batch < 1 or optimizer_slots < 0:
        raise ValueError(f"batch must be at least 1 and optimizer_slots at least 0, got {batch} and {optimizer_slots}")
    weights = ELEMENT_BYTES * analysis.parameters
    picture = ELEMENT_BYTES * math.prod(analysis.input_shape)
    return Memory(
        infer=weights + batch * _peak(analysis, picture),
        train=weights * (2 + optimizer_slots) + batch * (picture + analysis.activation_bytes),
    )


def _peak(analysis: Analysis, picture: int) -> int:
    """The most bytes of activations alive at once for one picture, its input included."""
    owner = {PICTURE: PICTURE}  # the row whose memory a row's output lives in
    for i, layer in enumerate(analysis.layers):
        in_place = layer.activation_bytes == 0 and layer.inputs
        owner[i] = owner[layer.inputs[0]] if in_place else i
    last_read: dict[int, int] = {}
    for i, layer in enumerate(analysis.layers):
        last_read.update((owner[source], i) for source in (*layer.inputs, i))
    ends: dict[int, list[int]] = {}
    for row, end in last_read.items():
        ends.setdefault(end, []).append(row)
    size = {PICTURE: picture} | {i: layer.activation_bytes for i, layer in enumerate(analysis.layers)}
    alive = peak = picture
    for i in range(len(analysis.layers)):
        alive += size[i]
        peak = max(peak, alive)
        alive -= sum(size[row] for row in ends.get(i, ()))
    return peak


def folded(analysis: Analysis) -> Analysis:
    """The same network with norms, activations, dropout and flattening made part of the layer that they follow.

    Totals stay the same. A layer that several others read keeps its followers apart.
    """
    readers: dict[int, int] = {}
    for layer in analysis.layers:
        for source in layer.inputs:
            readers[source] = readers.get(source, 0) + 1
    kept: list[Layer] = []
    place: dict[int, int] = {PICTURE: PICTURE}
    for i, layer in enumerate(analysis.layers):
        source = layer.inputs[0] if len(layer.inputs) == 1 else PICTURE
        if layer.kind in FOLLOWERS and source != PICTURE and readers[source] == 1:
            place[i] = place[source]
            kept[place[i]] = _joined(kept[place[i]], layer)
        else:
            place[i] = len(kept)
            kept.append(replace(layer, inputs=tuple(dict.fromkeys(place[s] for s in layer.inputs))))
    return replace(analysis, layers=tuple(kept))


def _joined(first: Layer, follower: Layer) -> Layer:
    return replace(
        first,
        output_shape=follower.output_shape,
        activation_bytes=first.activation_bytes + follower.activation_bytes,
        parameters=first.parameters + follower.parameters,
        macs=first.macs + follower.macs,
        field=follower.field,
        uncounted=first.uncounted or follower.uncounted,
    )


@dataclass(frozen=True)
class Stage:
    """Several layers under one name. output_shape and field are those of the last layer that has them."""

    name: str
    output_shape: Shape
    activation_bytes: int
    parameters: int
    macs: int
    field: Field | None


def stages(analysis: Analysis, names: Sequence[str] = ()) -> tuple[Stage, ...]:
    """The table by stage. names: dotted prefixes of layer names, in order; none for the first part of each name.

    With names, layers under none of them are left out; a longer prefix wins over a shorter one.
    """
    groups: dict[str, list[Layer]] = {name: [] for name in names}
    for layer in analysis.layers:
        under = [name for name in names if layer.name == name or layer.name.startswith(name + ".")]
        if under:
            groups[max(under, key=len)].append(layer)
        elif not names:
            groups.setdefault(layer.name.split(".")[0], []).append(layer)
    return tuple(_stage(name, layers) for name, layers in groups.items() if layers)


def _stage(name: str, layers: list[Layer]) -> Stage:
    called = [layer for layer in layers if layer.kind != NOT_CALLED]
    fields = [layer.field for layer in called if layer.field is not None]
    return Stage(
        name=name,
        output_shape=called[-1].output_shape if called else (),
        activation_bytes=sum(layer.activation_bytes for layer in layers),
        parameters=sum(layer.parameters for layer in layers),
        macs=sum(layer.macs for layer in layers),
        field=fields[-1] if fields else None,
    )
