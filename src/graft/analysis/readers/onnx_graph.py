"""The table of an ONNX file: a row for each node that computes, with ONNX's own shape inference.

A weight is a floating-point constant that a convolution, product, norm, PReLU, sum or scale reads; shapes, indices,
scalars, running statistics, and what only prepares the picture before the first weighted layer (a mean, a standard
deviation) are none. A graph whose batch norms were folded into its convolutions has fewer than its network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper, shape_inference

from graft.analysis.receptive_field import Field
from graft.analysis.table import ELEMENT_BYTES, PICTURE, Analysis, Layer, Pair, Shape, overwriting
from graft.errors import UsageError, shown

_KINDS: Final = {
    "Conv": "conv",
    "ConvTranspose": "transposed conv",
    "Gemm": "linear",
    "MatMul": "linear",
    "MaxPool": "max pool",
    "AveragePool": "avg pool",
    "GlobalAveragePool": "avg pool",
    "GlobalMaxPool": "max pool",
    "BatchNormalization": "batch norm",
    "LayerNormalization": "layer norm",
    "LRN": "lrn",
    "Concat": "concat",
    "Add": "add",
    "Sum": "add",
    "Mul": "multiply",
    "LeakyRelu": "leaky relu",
    "PRelu": "prelu",
    "HardSwish": "hard swish",
    "HardSigmoid": "hard sigmoid",
}
_NO_ROW: Final = frozenset(
    ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Shape", "Gather", "Cast", "Identity", "Slice", "Split", "Expand")
)
_FREE: Final = frozenset(
    (
        *("BatchNormalization", "LayerNormalization", "InstanceNormalization", "GroupNormalization", "LRN", "Softmax"),
        *("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "ReduceSum"),
        *("Add", "Sub", "Mul", "Div", "Sum", "Pow", "Sqrt", "Exp", "Log", "Erf", "Neg", "Abs", "Max", "Min", "Mean"),
        *("Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh"),
        *("Softplus", "Mish", "Clip", "Where", "Equal", "Dropout", "Flatten", "Concat", "Pad", "Resize", "Upsample"),
        *("DepthToSpace", "SpaceToDepth", "ArgMax", "Reciprocal", "LogSoftmax", "Swish", "Floor", "Ceil", "Round"),
    )
)
_POINTWISE_FIELD: Final = frozenset(
    (
        *("BatchNormalization", "LRN", "Add", "Sub", "Mul", "Div", "Sum", "Max", "Min", "Pow", "Sqrt", "Relu"),
        *("LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu", "Erf", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh"),
        *("Softplus", "Mish", "Clip", "Dropout", "Concat", "Cast", "Identity", "Swish", "Flatten"),
    )
)


@dataclass(frozen=True)
class _Value:
    """A tensor that depends on the picture. grid: its positions, also where flattening has put them among channels."""

    rows: tuple[int, ...]
    field: Field | None
    grid: Pair
    weighted: bool  # whether a layer with weights came before


def read_onnx(path: Path, *, input_shape: Shape | None = None) -> Analysis:
    """A row for each computing node of an ONNX file.

    input_shape: (C, H, W), in place of the file's own; needed where the file leaves its sides open.
    Raises UsageError for what is no ONNX file, or when shapes stay unknown.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (OSError, DecodeError) as error:
        reason = shown(str(error).strip().split("\n")[0])
        raise UsageError(f"cannot read {shown(path)} as an ONNX model: {reason}; export it again") from error
    return analyze_onnx(model, name=path.name, input_shape=input_shape)


def analyze_onnx(model: onnx.ModelProto, *, name: str, input_shape: Shape | None = None) -> Analysis:
    """The same for a loaded model, which is left as it is. Raises UsageError when shapes stay unknown."""
    graph = onnx.ModelProto()
    graph.CopyFrom(model)
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    inputs = [value for value in graph.graph.input if value.name not in constants]
    if not inputs:
        raise UsageError(f"{shown(name)} has no input; analyse a model that takes a picture")
    image = inputs[0]
    shape = _pictured(image, input_shape, name)
    try:
        inferred = shape_inference.infer_shapes(graph, strict_mode=True, data_prop=True).graph
    except shape_inference.InferenceError as error:
        size = "×".join(map(str, shape))
        reason = shown(str(error).strip().split("\n")[0])
        raise UsageError(f"{shown(name)} does not take an input of {size}: {reason}; change --input") from error
    shapes = {value.name: _shape(value) for value in (*inferred.value_info, *inferred.output, *inferred.input)}
    shapes |= {key: tuple(tensor.dims) for key, tensor in constants.items()}
    channels_last = len(shape) == 3 and shape[0] > 4 >= shape[2]
    grid = (shape[0], shape[1]) if channels_last else _grid((1, *shape))
    start = Field() if len(shape) == 3 else None
    walk = _Walk(name, constants, shapes, {image.name: _Value((PICTURE,), start, grid, False)})
    for node in inferred.node:
        walk.node(node)
    picture = (shape[2], *shape[:2]) if channels_last else shape  # (C, H, W)
    return Analysis(name, picture, overwriting(walk.rows))


def _pictured(image: onnx.ValueInfoProto, wanted: Shape | None, name: str) -> Shape:
    """Fix the graph's input to a batch of one and the wanted sides; returns the shape without the batch."""
    dims = image.type.tensor_type.shape.dim
    if wanted is not None and len(wanted) != len(dims) - 1:
        raise UsageError(
            f"{shown(name)} takes {len(dims) - 1} sides after the batch, got {len(wanted)}; change --input"
        )
    for i, dim in enumerate(dims):
        if i == 0:
            dim.dim_value = 1
        elif wanted is not None:
            dim.dim_value = wanted[i - 1]
        elif dim.dim_value < 1:
            raise UsageError(f"{shown(name)} leaves side {i} of its input open; add --input C,H,W")
    return tuple(int(dim.dim_value) for dim in dims[1:])


def _shape(value: onnx.ValueInfoProto) -> Shape:
    """A first side that is left open is the batch, which is one; another leaves the whole shape unknown: ()."""
    batch, *sides = [int(dim.dim_value) for dim in value.type.tensor_type.shape.dim] or [0]
    return (batch or 1, *sides) if all(sides) else ()


def _grid(shape: Shape) -> Pair:
    return (shape[2], shape[3]) if len(shape) == 4 else (1, 1)


@dataclass
class _Walk:
    """A walk over the nodes in the order they run."""

    name: str
    constants: dict[str, onnx.TensorProto]
    shapes: dict[str, Shape]
    values: dict[str, _Value]

    def __post_init__(self) -> None:
        self.rows: list[Layer] = []
        self._claimed: set[str] = set()

    def node(self, node: onnx.NodeProto) -> None:
        """Add a node's row, or pass its input on where it only reshapes; a node that sees no picture is a constant."""
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    self.constants[node.output[0]] = attribute.t
            return
        if node.op_type in ("Shape", "Size"):  # numbers that do not depend on what the picture shows
            return
        sources = [self.values[name] for name in node.input if name in self.values]
        if not sources:
            weights = [name for name in node.input if name in self.constants]
            if node.op_type in ("Identity", "Transpose", "Reshape", "Cast", "DequantizeLinear") and weights:
                self.constants[node.output[0]] = self.constants[weights[0]]  # a weight in another shape
            return
        inside = self.shapes.get(next(name for name in node.input if name in self.values), ())
        outside = self.shapes.get(node.output[0], ())
        if not outside and node.op_type not in _NO_ROW:
            raise UsageError(
                f"{shown(self.name)}: the shape after node {shown(node.name)!r} is not known; add --input C,H,W"
            )
        weighted = any(source.weighted for source in sources)
        self._check_channels(node, inside)
        field, grid = self._field(node, sources, inside, outside)
        feeds = tuple(dict.fromkeys(row for source in sources for row in source.rows))
        if node.op_type in _NO_ROW:
            for output in node.output:
                self.values[output] = _Value(feeds, field, grid, weighted)
            return
        layer, weights = self._layer(node, feeds, inside, outside, weighted)
        self.rows.append(replace(layer, field=field))
        for output in node.output:
            if output:
                self.values[output] = _Value((len(self.rows) - 1,), field, grid, weighted or bool(weights))

    def _layer(
        self, node: onnx.NodeProto, feeds: tuple[int, ...], inside: Shape, outside: Shape, weighted: bool
    ) -> tuple[Layer, list[str]]:
        operation = node.op_type
        weights = [name for name in _weight_inputs(node) if self._is_weight(name)]
        if not weighted and operation not in _WEIGHTED:
            weights = []
        fresh = [name for name in weights if name not in self._claimed]
        self._claimed.update(fresh)
        window = _window(node, self.shapes, inside, outside)
        macs = self._macs(node, inside, outside)
        pooled = math.prod(outside) * math.prod(window["kernel"]) if "Pool" in operation and window else 0
        kind = _KINDS.get(operation, operation.lower())
        if operation == "MatMul" and all(name in self.values for name in node.input):
            kind = "matmul"
        layer = Layer(
            name=node.name or f"{operation}_{len(self.rows)}",
            kind=kind,
            inputs=feeds,
            input_shape=inside[1:],
            output_shape=outside[1:],
            activation_bytes=0 if operation == "Flatten" else ELEMENT_BYTES * math.prod(outside),
            parameters=sum(math.prod(self.constants[name].dims) for name in fresh),
            macs=macs or 0,
            pool_operations=pooled,
            uncounted=f"multiply-adds of {operation} are not known" if macs is None else "",
            **window,
        )
        return layer, weights

    def _check_channels(self, node: onnx.NodeProto, inside: Shape) -> None:
        """What ONNX's inference leaves unchecked. Raises UsageError."""
        if node.op_type == "Conv" and (weight := self.shapes.get(node.input[1])):
            takes = weight[1] * _attribute(node, "group", 1)
            if takes != inside[1]:
                raise UsageError(
                    f"{shown(self.name)}: node {shown(node.name)!r} takes {takes} channels, got {inside[1]}; "
                    "change --input"
                )

    def _is_weight(self, name: str) -> bool:
        tensor = self.constants.get(name)
        floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16)
        return tensor is not None and tensor.data_type in floats and math.prod(tensor.dims) > 1

    def _macs(self, node: onnx.NodeProto, inside: Shape, outside: Shape) -> int | None:
        """Multiply-adds of one node, as in `graft.analysis.readers.operations`; None where they are not known."""
        operation = node.op_type
        if operation in ("Conv", "ConvTranspose"):
            weight = self.shapes.get(node.input[1]) or tuple(self.constants[node.input[1]].dims)
            return math.prod(inside if operation == "ConvTranspose" else outside) * math.prod(weight[1:])
        if operation == "MatMul":
            return math.prod(outside) * self.shapes[node.input[0]][-1]
        if operation == "Gemm":
            transposed = _attribute(node, "transA", 0)
            return math.prod(outside) * self.shapes[node.input[0]][0 if transposed else -1]
        return 0 if operation in _FREE else None

    def _field(
        self, node: onnx.NodeProto, sources: list[_Value], inside: Shape, outside: Shape
    ) -> tuple[Field | None, Pair]:
        """The fields of a node's output and its grid of positions."""
        first, operation = sources[0], node.op_type
        if first.field is None:
            return None, _grid(outside)
        window = _window(node, self.shapes, inside, outside)
        if operation == "ConvTranspose" and window:
            spans = window["kernel"], window["stride"], window["padding"], window["dilation"]
            return first.field.transposed(*spans), _grid(outside)
        if window:
            stride = (Fraction(window["stride"][0]), Fraction(window["stride"][1]))
            moved = first.field.window(window["kernel"], stride, window["padding"], window["dilation"])
            return moved, _grid(outside)
        if operation == "Gemm" or (operation == "MatMul" and len(inside) == 2):
            return first.field.all_of(first.grid), (1, 1)
        if operation == "Flatten" or (operation in ("Reshape", "Squeeze") and len(outside) == 2 and outside[0] == 1):
            return first.field, first.grid
        if operation == "Transpose" and inside and list(_attribute(node, "perm", [])) == [0, 3, 1, 2]:
            return first.field, _grid(outside)  # a picture that came with its channels last
        if operation == "Pad" and len(inside) == 4:
            pads = _constant_list(self.constants.get(node.input[1])) if len(node.input) > 1 else []
            before = (pads[2], pads[3]) if len(pads) == 8 else None
            return (first.field.window((1, 1), padding=before) if before else None), _grid(outside)
        if operation in _POINTWISE_FIELD:
            return _met(operation, sources), max((s.grid for s in sources), key=math.prod)
        return None, _grid(outside)


_WEIGHTED: Final = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization"))


def _weight_inputs(node: onnx.NodeProto) -> list[str]:
    """The inputs that may be weights; a batch norm's running mean and variance may not."""
    if node.op_type == "BatchNormalization":
        return list(node.input[1:3])
    reads = (*_WEIGHTED, "Add", "Sub", "Mul", "Div", "PRelu", "InstanceNormalization", "GroupNormalization", "Concat")
    return list(node.input) if node.op_type in reads else []


def _met(operation: str, sources: list[_Value]) -> Field | None:
    """Branches that meet; one number per channel that multiplies a map is a gate."""
    maps = [s for s in sources if s.grid != (1, 1)] or sources
    field = maps[0].field
    for other in sources:
        if other is maps[0] or field is None or other.field is None:
            continue
        gate = other.grid == (1, 1) and maps[0].grid != (1, 1) and operation == "Mul"
        field = replace(field, gated=True) if gate else field.union(other.field)
    return field if all(s.field is not None for s in sources) else None


def _window(node: onnx.NodeProto, shapes: dict[str, Shape], inside: Shape, outside: Shape) -> dict[str, Any]:
    """Kernel, stride, padding, dilation and groups of a 2-D convolution or pool, empty for all else."""
    operation = node.op_type
    if len(inside) != 4:
        return {}
    axes = _attribute(node, "axes", [])
    if operation in ("GlobalAveragePool", "GlobalMaxPool") or (
        operation == "ReduceMean" and outside[2:] == (1, 1) and list(axes) in ([], [2, 3], [-2, -1])
    ):
        return {"kernel": inside[2:], "stride": inside[2:], "padding": (0, 0), "dilation": (1, 1)}
    if operation not in ("Conv", "ConvTranspose", "MaxPool", "AveragePool"):
        return {}
    kernel = tuple(_attribute(node, "kernel_shape", shapes.get(node.input[1], ())[2:] if len(node.input) > 1 else ()))
    stride, dilation = tuple(_attribute(node, "strides", (1, 1))), tuple(_attribute(node, "dilations", (1, 1)))
    padding = tuple(_attribute(node, "pads", (0, 0, 0, 0)))[:2]
    same = _attribute(node, "auto_pad", b"NOTSET").decode()
    if same.startswith("SAME"):
        total = [
            max(0, (o - 1) * s + d * (k - 1) + 1 - i)
            for i, o, k, s, d in zip(inside[2:], outside[2:], kernel, stride, dilation, strict=True)
        ]
        padding = tuple(t // 2 if same == "SAME_UPPER" else -(-t // 2) for t in total)
    window: dict[str, Any] = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    return window | ({"groups": _attribute(node, "group", 1)} if operation.startswith("Conv") else {})


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """One attribute's value, or the default."""
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _constant_list(tensor: onnx.TensorProto | None) -> list[int]:
    return [] if tensor is None else [int(value) for value in numpy_helper.to_array(tensor).ravel()]
